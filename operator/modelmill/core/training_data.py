"""The data of a training: the version of a Dataset that it is trained on, or why there is none.

The first one that is there counts: what the status has pinned, what the Job was made for, the version that is declared,
the newest one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelmill.api.trainingjob import TrainingJobSpec
from modelmill.core import conditions, jobs, retention, workspace
from modelmill.core.conditions import Waiting
from modelmill.core.plan import Observed
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import Manifest, dig

VERSION_ANNOTATION = "modelmill.dev/dataset-version"  # on the Job
FILE_ANNOTATION = "modelmill.dev/dataset-file"


@dataclass(frozen=True)
class Snapshot:
    version: str
    file: str


def choose(
    observed: Observed, spec: TrainingJobSpec, run: jobs.Run, store: StoreAccess | Waiting
) -> Snapshot | Waiting:
    """The data: pinned by the status, else by the Job, else the Dataset's newest or the declared version."""
    status = observed.status
    if "datasetVersion" in status:
        return Snapshot(status["datasetVersion"], status["datasetFile"])
    version, file = run.annotation(VERSION_ANNOTATION), run.annotation(FILE_ANNOTATION)
    if version and file:
        return Snapshot(version, file)
    name = spec.data.dataset_ref.name
    dataset = observed.get("Dataset", name)
    if dataset is None:
        return Waiting("DatasetNotFound", f"there is no Dataset {name} in this namespace yet; create it")
    history = retention.history(dataset)
    here = [s for s in history if isinstance(store, StoreAccess) and s.is_in(store)]
    if spec.data.version is not None:
        return _declared_version(name, spec.data.version, history, here)
    if not conditions.is_true(dataset, "Ready") or not history:
        return _not_ready(name, dataset, bool(here))
    if history[0] not in here:
        said = f"Dataset {name} has no version yet in the store that {workspace.KIND} {workspace.NAME} declares"
        return Waiting("DatasetNotReady", said)
    return Snapshot(history[0].version, history[0].file)


def _declared_version(
    name: str, version: str, history: tuple[retention.Snapshot, ...], here: list[retention.Snapshot]
) -> Snapshot | Waiting:
    for snapshot in here:
        if snapshot.version == version:
            return Snapshot(snapshot.version, snapshot.file)
    if any(snapshot.version == version for snapshot in history):
        return _in_another_store(name, version)
    said = f"Dataset {name} has no version {version} in status.history; name one that it has, or none for the newest"
    return Waiting("DatasetVersionNotFound", said, stalled=True, failed=True)


def _in_another_store(name: str, version: str) -> Waiting:
    said = (
        f"version {version} of Dataset {name} was written to another store than the one that {workspace.KIND}"
        f" {workspace.NAME} declares now; name one that was taken since, or none for the newest"
    )
    return Waiting("DatasetVersionNotFound", said, stalled=True, failed=True)


def elsewhere(
    observed: Observed, spec: TrainingJobSpec, pinned: Snapshot, store: StoreAccess | Waiting
) -> Waiting | None:
    """Why a version that is pinned cannot be read from the store that is declared now.

    What the Dataset does not list any more may be there: its file is known by its digest.
    """
    name = spec.data.dataset_ref.name
    listed = [s for s in retention.history(observed.get("Dataset", name)) if s.version == pinned.version]
    if isinstance(store, Waiting) or all(s.is_in(store) for s in listed):
        return None
    return _in_another_store(name, pinned.version)


def _not_ready(name: str, dataset: Manifest, known: bool) -> Waiting:
    """What is wrong with the newest data: the rule that it broke, its age, or that there is none."""
    ready, valid = conditions.find(dataset, "Ready"), conditions.find(dataset, "Valid")
    said = f"{ready['reason']}: {ready['message']}" if ready else ""
    stalled = conditions.is_true(dataset, "Stalled")
    reason = "DatasetNotReady"
    if ready is not None and ready["reason"] == "DataStale":
        reason = "DatasetStale"
    elif valid is not None and valid["status"] == "False":
        reason = "DatasetInvalid"
        rules = (f"{p['rule']}" + (f" of {p['column']}" if "column" in p else "") for p in _problems(dataset))
        said = f"{', '.join(rules)}; {said}" if _problems(dataset) else said
    told = f" ({said})" if said else ""
    if not known:
        return Waiting(reason, f"Dataset {name} has no valid version{told}", stalled, failed=stalled)
    if reason == "DatasetNotReady" and _is_new(dataset):
        told = told if _is_present(dataset, ready) else ""
        said = f"Dataset {name} has no valid version of what it declares now{told}"
        return Waiting(reason, said, stalled, failed=stalled)
    advice = "; name a version of its status.history to train on that one"
    return Waiting(reason, f"the newest data of Dataset {name} is not ready{told}{advice}", stalled, failed=stalled)


def _is_new(dataset: Manifest) -> bool:
    """Whether the source was not yet looked at by what is declared now, so that it is not known to be bad."""
    available = conditions.find(dataset, "Available")
    if available is None or not _is_present(dataset, available):
        return True
    # NotRead: it is not looked at, as it may not be or cannot be asked for.
    return bool(available["status"] == "Unknown" and available["reason"] != "NotRead")


def _is_present(dataset: Manifest, condition: Mapping[str, Any] | None) -> bool:
    """Whether the condition is about what is declared now."""
    return condition is not None and condition.get("observedGeneration", 0) == dataset["metadata"].get("generation", 0)


def _problems(dataset: Manifest) -> tuple[Manifest, ...]:
    """The worst of what was wrong, as far as a sentence has room for it."""
    return tuple(dig(dataset, "status", "problems") or ())[:3]
