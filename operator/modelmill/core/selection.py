"""Which version of a model is to be served: the newest that is Ready, the one that is named, or an artifact."""

from dataclasses import replace

from modelmill.api.modeldeployment import ModelDeploymentSpec
from modelmill.core import conditions, pods, workspace
from modelmill.core.capture import Chosen
from modelmill.core.conditions import Waiting
from modelmill.core.plan import Observed
from modelmill.core.resources import ARTIFACT_FIELD, MODEL_FIELD, Key, Manifest, dig
from modelmill.core.serving import Revision


def artifact_dependencies(namespace: str, digest: str | None) -> tuple[Key, ...]:
    """What a ModelDeployment depends on that names an artifact by this digest: its versions; None: nothing."""
    return () if digest is None else (Key("ModelVersion", namespace, ARTIFACT_FIELD, digest),)


def target(observed: Observed, spec: ModelDeploymentSpec, served: int | None) -> Revision | Waiting:
    """The revision that the spec asks for, or why there is none yet; `served` is the number of what serves."""
    chosen = _artifact(observed, spec, served)
    if isinstance(chosen, Waiting):
        return chosen
    store, settings = workspace.working_store(observed), workspace.settings(observed)
    if settings is None:
        assert isinstance(store, Waiting)  # noqa: S101 - without a Workspace there is no store
        return store
    if isinstance(store, Waiting):
        # A store that fails now does not change which revision is asked for: what serves goes on.
        store = workspace.store_access(settings)
    if spec.server.container is not None:
        forbidden = workspace.forbidden_image(settings, store, spec.server.container.image, "spec.server.container")
        if forbidden is not None:
            return forbidden
    uri, digest, version = chosen
    resources = pods.declared(spec.server.resources)
    return Revision(
        uri=uri,
        digest=digest,
        version=version,
        store=store,
        resources=resources,
        container=spec.server.container,
        workers=spec.server.workers,
        capture=Chosen.of(spec.capture),
        model=spec.model.name,
    )


def _artifact(
    observed: Observed, spec: ModelDeploymentSpec, served: int | None
) -> tuple[str, str, int | None] | Waiting:
    model = spec.model
    if model.uri is not None and model.digest is not None:
        return _without_version(observed, model.digest) or (model.uri, model.digest, None)
    name = str(model.name)
    versions = observed.find("ModelVersion", MODEL_FIELD, name)
    if model.version is not None:
        chosen = next((v for v in versions if v["spec"]["version"] == model.version), None)
        if chosen is None:
            return Waiting(
                "ModelVersionNotFound",
                f"there is no ModelVersion {name}-{model.version} yet; train it, or name another",
            )
        if not conditions.is_true(chosen, "Ready"):
            return _not_ready(chosen)
        return _of(chosen)
    newest = max((v for v in versions if conditions.is_true(v, "Ready")), key=_number, default=None)
    serves = next((v for v in versions if _number(v) == served), None)
    if serves is not None and not conditions.is_true(serves, "Ready") and _number(newest) < _number(serves):
        # An approval that is withdrawn stops what is new: what serves is not replaced by what is older.
        return _not_ready(serves)
    if newest is not None:
        return _of(newest)
    if versions:
        return _not_ready(max(versions, key=_number))
    if observed.get("Model", name) is None:
        advice = f"a TrainingJob with modelRef {name} makes it (kubectl get tjob)"
        return Waiting("ModelNotFound", f"there is no Model {name} yet; {advice}")
    return Waiting("NoReadyVersion", f"Model {name} has no version yet; a TrainingJob with modelRef {name} makes one")


def _without_version(observed: Observed, digest: str) -> Waiting | None:
    """Why the artifact may not be served without a ModelVersion's name; None: it may."""
    settings = workspace.settings(observed)
    if settings is None or settings.allow.artifacts == "Any":
        return None
    versions = observed.find("ModelVersion", ARTIFACT_FIELD, digest)
    if any(conditions.is_true(version, "Ready") for version in versions):
        return None
    asks = f"{workspace.KIND} {workspace.NAME} asks for a version that is Ready (spec.allow.artifacts)"
    if versions:
        newest = _not_ready(max(versions, key=_number))
        return replace(newest, message=f"spec.model.digest: {newest.message}; {asks}")
    said = f"spec.model.digest is {digest}, which no ModelVersion in this namespace has; {asks}: name a Model instead"
    return Waiting("ArtifactNotAllowed", said, stalled=True, failed=True)


def _number(version: Manifest | None) -> int:
    """A ModelVersion's number; 0 for none."""
    return int(dig(version, "spec", "version") or 0)


def _not_ready(version: Manifest) -> Waiting:
    condition = conditions.find(version, "Ready")
    said = f": {condition['message']}" if condition else ""
    stalled = conditions.is_true(version, "Stalled")
    return Waiting("ModelVersionNotReady", f"ModelVersion {version['metadata']['name']} is not Ready{said}", stalled)


def _of(version: Manifest) -> tuple[str, str, int | None]:
    artifact = version["spec"]["artifact"]
    return artifact["uri"], artifact["digest"], version["spec"]["version"]
