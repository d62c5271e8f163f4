"""The profile: the training data's distribution in fixed bins, part of the artifact.

Servers count what they see into the same bins, so that sums over replicas are exact and drift is a
comparison of counts (Modelmill's statistics page has the formulas).
"""

import msgspec

from modelmill_contracts import digest

VERSION = 1


class Numeric(msgspec.Struct, frozen=True, tag="Numeric"):
    """Counts of [below, (edges[0], edges[1]], ..., above]: len(edges) + 1 counts, missing values apart.

    `edges` are float32 values, ascending: they are what a server compares float32 features with.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int = 0


class Categorical(msgspec.Struct, frozen=True, tag="Categorical"):
    """Counts of the most frequent values, of all others, and of missing ones."""

    name: str
    values: tuple[str, ...]
    counts: tuple[int, ...]
    other: int = 0
    missing: int = 0


class Profile(msgspec.Struct, frozen=True):
    rows: int
    features: tuple[Numeric | Categorical, ...]
    predictions: Numeric | Categorical
    version: int = VERSION
    scores: Numeric | None = None  # the highest class probability, or the regressor's prediction: 20 bins


def edges_digest(profile: Profile) -> str:
    """The digest of the bins, whatever was counted in them: profiles with the same bins have the same."""
    parts = (*profile.features, profile.predictions, profile.scores)
    return digest.of_json([_edges(part) for part in parts if part is not None])


def _edges(part: Numeric | Categorical) -> list[object]:
    return [part.name, list(part.edges)] if isinstance(part, Numeric) else [part.name, list(part.values)]
