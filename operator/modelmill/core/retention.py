"""Retention: which versions of a Dataset stay in its history.

The newest `versionHistoryLimit` do, and besides them each that somebody refers to: a ModelVersion that was trained on
it, a TrainingJob that has not ended, an Experiment that may go on or promote its best trial, a version of another
Dataset that was derived from it.  A status has room for MAX_HISTORY: of more, the newest stay.  Whatever is not listed
is still the file that a TrainingJob or a ModelVersion names by its digest.
"""

from dataclasses import dataclass

from modelmill.api.dataset import MAX_HISTORY
from modelmill.core import conditions
from modelmill.core.plan import Observed
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import DATASET_FIELD, INPUT_FIELD, LINEAGE_FIELD, Manifest, dig


@dataclass(frozen=True)
class Snapshot:
    """One version as the history has it."""

    version: str
    file: str
    rows: int
    observed_at: str
    profile: str | None
    page: str | None
    inputs: tuple[tuple[str, str], ...]  # (name, version) of the Datasets that it was derived from
    store: str | None  # StoreAccess.place of the store that it was written to; None: nobody said

    @property
    def digests(self) -> tuple[str, ...]:
        """The blobs that it consists of."""
        return tuple(d for d in (self.file, self.profile, self.page) if d is not None)

    def is_in(self, store: StoreAccess) -> bool:
        """Whether the store has it: another one may have been declared since."""
        return self.store in (None, store.place)


def history(dataset: Manifest | None) -> tuple[Snapshot, ...]:
    """The versions of a Dataset, the newest first."""
    return tuple(
        Snapshot(
            h["version"],
            h["file"],
            h["rows"],
            h["observedAt"],
            h.get("profile"),
            h.get("page"),
            tuple((f["name"], f["version"]) for f in h.get("from", ())),
            h.get("store"),
        )
        for h in dig(dataset, "status", "history") or ()
    )


def referred(observed: Observed) -> frozenset[str]:
    """The versions of the observed Dataset that others refer to."""
    name = observed.subject.name
    versions = {
        dig(version, "spec", "lineage", "dataset", "version")
        for version in observed.find("ModelVersion", LINEAGE_FIELD, name)
    }
    for job in observed.find("TrainingJob", DATASET_FIELD, name):
        if not conditions.has_ended(job):
            versions |= {dig(job, "spec", "data", "version"), dig(job, "status", "datasetVersion")}
    for search in observed.find("Experiment", DATASET_FIELD, name):
        if not dig(search, "status", "expired"):
            versions.add(dig(search, "status", "datasetVersion"))
    for derived in observed.find("Dataset", INPUT_FIELD, name):
        versions |= {version for snapshot in history(derived) for of, version in snapshot.inputs if of == name}
    return frozenset(version for version in versions if version is not None)


def kept(versions: tuple[Snapshot, ...], referred_to: frozenset[str], limit: int) -> tuple[Snapshot, ...]:
    """What of the versions, the newest first, stays listed."""
    stay = (s for number, s in enumerate(versions) if number < limit or s.version in referred_to)
    return tuple(stay)[:MAX_HISTORY]
