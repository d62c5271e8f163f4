"""Tallies: rows by the bins of a model's profile, as serving pods counted them, summed over the pods.

Pods count up from zero; a tally is the sum of the differences between what each has counted now and what it had counted
when the window began, as in `windows`.  Counts of different profiles are never added up.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from modelmill.core import windows
from modelmill.stats.drift import Counts
from modelmill_contracts import digest
from modelmill_contracts.counters import Bins, Reference, Trained

FEATURE, PREDICTION, SCORE = "Feature", "Prediction", "Score"
_MOST_ROWS = 1 << 48  # that one pod counts: it would take a century, and the sum of all pods has 64 bits


class Profile(msgspec.Struct, frozen=True, cache_hash=True, weakref=True):
    """What a pod's counts are compared with: the artifact that it serves, and what its profile counted."""

    artifact: str  # its digest; "" where the pod does not know it
    edges: str  # digest of the bins
    reference: Reference

    @property
    def digest(self) -> str:
        """Bins and reference counts: with other ones nothing is compared."""
        return digest.of_json([self.edges, msgspec.to_builtins(self.reference)])


_PROFILES: WeakValueDictionary[Profile, Profile] = WeakValueDictionary()  # a thousand pods have the same one


class Counted(windows.Snapshot, frozen=True, kw_only=True):
    """Of `counters.Snapshot`, what drift is told from, besides what a rollout is."""

    digest: str = ""
    edges: str = ""
    features: tuple[Bins, ...] = ()
    predictions: Bins | None = None
    scores: Bins | None = None
    reference: Reference | None = None


class Answer(windows.Counted, frozen=True, kw_only=True):
    """A pod's answer as it is kept: all its bins behind one another, eight bytes each."""

    counts: bytes = b""
    profile: Profile | None = None
    lacks: str = ""  # the reason, where its counts can be compared with nothing


def decode(body: bytes) -> Answer:
    """What a pod counted, from its snapshot; ValueError where the body is none, or its counts make no sense."""
    found = windows.read(Counted, body)
    kept = Answer(**msgspec.structs.asdict(windows.counted(found)))
    if not found.edges:
        return msgspec.structs.replace(kept, lacks="NoProfile")
    if found.reference is None:
        return msgspec.structs.replace(kept, lacks="NoReference")
    counted = _parts(found.features, found.predictions, found.scores)
    reference = trained_parts(found.reference)
    if [(of, part.name, len(part.counts)) for of, part in counted] != [
        (of, part.name, len(part.counts)) for of, part in reference
    ]:
        raise ValueError("it counts other bins than its profile has")
    numbers, trained = behind_one_another(counted), behind_one_another(reference)
    if min((*numbers, *trained), default=0) < 0 or max((*numbers, *trained), default=0) > _MOST_ROWS:
        raise ValueError(f"a count of rows is negative, or more than {_MOST_ROWS}")
    profile = Profile(found.digest, found.edges, found.reference)
    profile = _PROFILES.setdefault(profile, profile)
    return msgspec.structs.replace(kept, counts=array("q", numbers).tobytes(), profile=profile)


AnyPart = tuple[str, Bins | Trained]  # what it is of


def behind_one_another(parts: Iterable[AnyPart]) -> list[int]:
    """All counts: of each part its bins, other categories (of numbers: 0), and missing values."""
    return [n for _, part in parts for n in (*part.counts, part.other or 0, part.missing)]


def trained_parts(reference: Reference) -> list[AnyPart]:
    return _parts(reference.features, reference.predictions, reference.scores)


def _parts(
    features: Sequence[Bins | Trained], predictions: Bins | Trained | None, scores: Bins | Trained | None
) -> list[AnyPart]:
    """Whatever is counted, in the order in which its counts stand behind one another."""
    others = ((PREDICTION, predictions), (SCORE, scores))
    return [*((FEATURE, part) for part in features), *((of, part) for of, part in others if part is not None)]


class Part(NamedTuple):
    """One distribution of a profile."""

    of: str
    name: str
    trained: Counts

    @property
    def bins(self) -> int:
        """How many of the counts that stand behind one another are its own."""
        return len(self.trained.counts) + 2

    def of_counts(self, counts: Sequence[int]) -> Counts:
        """Its own counts as they are compared."""
        *known, other, missing = counts
        return Counts(tuple(known), missing, None if self.trained.other is None else other)


def parts_of(reference: Reference) -> tuple[Part, ...]:
    return tuple(
        Part(of, part.name, Counts(part.counts, part.missing, part.other if isinstance(part, Trained) else None))
        for of, part in trained_parts(reference)
    )


@dataclass(frozen=True)
class Tally:
    """What all pods counted in a window, of one profile."""

    profile: Profile
    counts: tuple[int, ...]


def tally(baseline: Mapping[str, Any], answers: Mapping[str, Any], artifact: str) -> Tally | None:
    """The window so far, of the pods that serve that artifact ("": any).

    Of several profiles, of which all but one are a mistake, that with the most rows.
    """
    sums: dict[Profile, Sequence[int]] = {}
    for pod, now in answers.items():
        before = baseline.get(pod)
        if not isinstance(before, Answer) or not isinstance(now, Answer) or now.profile is None:
            continue
        if artifact and now.profile.artifact not in ("", artifact):
            continue
        found = _since(before, now)
        known = sums.get(now.profile)
        sums[now.profile] = found if known is None else [a + b for a, b in zip(known, found, strict=True)]
    best = max(sums, key=lambda profile: sum(sums[profile]), default=None)
    return None if best is None else Tally(best, tuple(sums[best]))


def _since(before: Answer, now: Answer) -> list[int]:
    """What one pod counted since; all, where it was started anew, or a count went down."""
    later = array("q", now.counts).tolist()
    if before.started == now.started and before.profile == now.profile:
        since = [b - a for a, b in zip(array("q", before.counts), later, strict=True)]
        if min(since, default=0) >= 0:
            return since
    return later


def slices(parts: Sequence[Part], counts: Sequence[int]) -> Iterator[Sequence[int]]:
    """Counts that stand behind one another, part by part."""
    start = 0
    for part in parts:
        yield counts[start : start + part.bins]
        start += part.bins


def cut(parts: Sequence[Part], counts: Sequence[int]) -> tuple[Counts, ...]:
    """The same as they are compared."""
    return tuple(part.of_counts(some) for part, some in zip(parts, slices(parts, counts), strict=True))
