"""Known recipes: what was made by a recipe before is not trained, and not numbered, once more.

    a version on the same data   -> the pod is told its recipe; if that is its own, it answers with what it made
    a version of the same bytes  -> is what the run became, whoever made it and however the run came by them

Only the pod knows its recipe, of which the architecture is a part, before it has trained; so only the pod can tell that
it need not.  What was trained all the same, by a container or at the same time, is found by recipe and digest.
"""

from modelmill.api.schema import GROUP
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import Manifest, dig
from modelmill.core.training_data import Snapshot
from modelmill_contracts import task

Made = tuple[str, str]  # digests of a recipe and of the artifact that it made
LIKE_ANNOTATION = f"{GROUP}/trial"  # on a TrainingJob: the trial of an Experiment that it is like
MAX_TOLD = 100  # a pod is told of the newest versions


def made(version: Manifest) -> Made | None:
    """What made a version that there is, and what that is; None where it does not say, or is being deleted."""
    recipe = dig(version, "spec", "lineage", "recipe")
    if recipe is None or "deletionTimestamp" in version["metadata"]:
        return None
    return recipe, version["spec"]["artifact"]["digest"]


def made_by(job: Manifest) -> Made | None:
    """The same of a TrainingJob that has its artifact."""
    recipe, artifact = dig(job, "status", "recipe"), dig(job, "status", "artifact", "digest")
    return (recipe, artifact) if recipe and artifact else None


def told(
    versions: tuple[Manifest, ...], snapshot: Snapshot, store: StoreAccess, like: Manifest | None = None
) -> tuple[task.Known, ...]:
    """What a pod that trains on this data is told of: what lies in this store, the newest first.

    `like` is the trial of an Experiment that this one is said to be like; only the pod can tell whether it is.
    """
    folder = f"{store.location.uri.rstrip('/')}/"
    trial: tuple[task.Known, ...] = ()
    if like is not None and (dig(like, "status", "artifact", "uri") or "").startswith(folder):
        found = made_by(like)
        trial = (task.Known(*found),) if found is not None else ()
    others = [
        (version["spec"]["version"], task.Known(*known))
        for version in versions
        if (known := made(version)) is not None
        and dig(version, "spec", "lineage", "dataset", "version") == snapshot.version
        and version["spec"]["artifact"]["uri"].startswith(folder)
    ]
    newest = sorted(others, key=lambda one: one[0], reverse=True)
    return tuple(dict.fromkeys((*trial, *(known for _, known in newest))))[:MAX_TOLD]


def version_of(versions: tuple[Manifest, ...], wanted: Made) -> str | None:
    """The name of the version that this recipe made of these bytes, the first one of several."""
    found = [(v["spec"]["version"], v["metadata"]["name"]) for v in versions if made(v) == wanted]
    return min(found)[1] if found else None
