"""Stages: what each kind of stage of a run does, and how it is doing.

    refresh      asks the Dataset to look at its source, and waits until it has     -> a version of the data
    trainingJob  makes a TrainingJob on that version, and waits until it has ended  -> a ModelVersion
    experiment   the same with an Experiment
    approve      waits until the ModelVersion is Ready, and approved where a person is asked
    rollout      waits until the ModelDeployment serves the ModelVersion, or has rolled it back

Nothing here writes to what users declare: a Dataset sees who asks it (`pipeline_runs.requests`), a ModelDeployment
takes the newest version by itself.
"""

import json
from dataclasses import dataclass
from typing import Any

from modelmill.api.experiment import NAME_LENGTH as EXPERIMENT_NAME
from modelmill.api.pipeline import MAX_STAGES_TEXT
from modelmill.api.schema import API_VERSION, NAME_LENGTH
from modelmill.core import approval, conditions, lineage, revisions, testing
from modelmill.core.conditions import Waiting
from modelmill.core.pipeline_runs import PIPELINE_LABEL, RUN_LABEL, child_name, request
from modelmill.core.plan import Observed, is_former, is_owned
from modelmill.core.resources import MANAGED_BY, Key, Manifest, dig

RUNNING, SUCCEEDED, FAILED, SKIPPED, PENDING = "Running", "Succeeded", "Failed", "Skipped", "Pending"
RECIPE_KNOWN = "RecipeKnown"
SUPERSEDED = "Superseded"
KNOWN = "VersionExists"  # reason of a TrainingJob that trained nothing


@dataclass(frozen=True)
class Made:
    """An object that a stage made, or looks at."""

    kind: str
    name: str
    uid: str | None = None


@dataclass(frozen=True)
class Inputs:
    """What the stages before gave."""

    versions: tuple[tuple[str, str], ...] = ()  # (Dataset, version)
    model_version: str | None = None


@dataclass(frozen=True)
class Seen:
    """How a stage is doing by what is seen now."""

    state: str
    message: str = ""
    reason: str = ""  # why it failed, or what the run ends with
    output: str | None = None
    progress: int | None = None
    made: Made | None = None
    create: str | None = None  # a manifest, as JSON
    stop: bool = False  # what it made has not ended
    ends: bool = False  # the run has nothing more to do


def _running(message: str, **more: Any) -> Seen:
    return Seen(RUNNING, message, **more)


def _failed(reason: str, message: str, **more: Any) -> Seen:
    return Seen(FAILED, message, reason, **more)


def text(stages: Any) -> str:
    """The stages as a run keeps them."""
    return json.dumps(stages, sort_keys=True)


def invalid(stages: Any) -> Waiting | None:
    """Why no run could do what these stages say."""
    length, makes_version = len(text(stages)), False
    if length > MAX_STAGES_TEXT:
        said = f"the stages have {length} characters as JSON, and a run can keep {MAX_STAGES_TEXT}; make them shorter"
        return Waiting("StagesInvalid", said, stalled=True, failed=True)
    for stage in stages:
        if ("approve" in stage or "rollout" in stage) and not makes_version:
            said = (
                f"stage {stage['name']} is about a new version, and no stage before it makes one: put a trainingJob"
                " with modelRef before it, or an experiment with promote: Best"
            )
            return Waiting("StagesInvalid", said, stalled=True, failed=True)
        makes_version |= dig(stage, "trainingJob", "spec", "modelRef") is not None
        makes_version |= dig(stage, "experiment", "spec", "promote") == "Best"
    return None


def dependencies(namespace: str, run: str, stage: Manifest, inputs: Inputs) -> tuple[Key, ...]:
    """What a stage depends on."""
    keys = []
    if (dataset := dig(stage, "refresh", "datasetRef", "name")) is not None:
        keys.append(Key("Dataset", namespace, "metadata.name", dataset))
    for field, (kind, longest) in _MAKES.items():
        if field in stage:
            keys.append(Key(kind, namespace, "metadata.name", child_name(run, stage["name"], longest)))
    if ("approve" in stage or "rollout" in stage) and inputs.model_version is not None:
        keys.append(Key("ModelVersion", namespace, "metadata.name", inputs.model_version))
    if (deployment := dig(stage, "rollout", "deploymentRef", "name")) is not None:
        keys.append(Key("ModelDeployment", namespace, "metadata.name", deployment))
    return tuple(keys)


def look(observed: Observed, stage: Manifest, status: Manifest, inputs: Inputs) -> Seen:
    """How the stage is doing, which has started."""
    if "refresh" in stage:
        return _refresh(observed, stage, status)
    if "approve" in stage or "rollout" in stage:
        name = inputs.model_version
        version = observed.get("ModelVersion", name) if name is not None else None
        if version is None:
            said = f"there is no ModelVersion {name} any more" if name else "no stage before it made a ModelVersion"
            return _failed("ModelVersionNotFound", said)
        return _approve(version, stage["approve"]) if "approve" in stage else _rollout(observed, stage, version)
    return _made(observed, stage, status, inputs)


# refresh


def _refresh(observed: Observed, stage: Manifest, status: Manifest) -> Seen:
    name = stage["refresh"]["datasetRef"]["name"]
    dataset = observed.get("Dataset", name)
    if dataset is None:
        return _running(f"there is no Dataset {name} in this namespace yet; create it")
    made = Made("Dataset", name, dataset["metadata"]["uid"])
    ready = conditions.find(dataset, "Ready")
    said = f": {ready['message']}" if ready is not None and ready["status"] != "True" else ""
    if request(observed.uid, stage["name"]) not in (dig(dataset, "status", "handledRuns") or ()):
        return _running(f"Dataset {name} is to look at its source{said}", made=made)
    if not conditions.is_true(dataset, "Ready"):
        invalid_data = dig(conditions.find(dataset, "Valid"), "status") == "False"
        if ready is not None and (invalid_data or conditions.is_true(dataset, "Stalled")):
            return _failed(ready["reason"], f"Dataset {name} is not Ready{said}", made=made)
        return _running(f"Dataset {name} tries again{said}", made=made)
    version, newest = dataset["status"]["version"], dataset["status"]["history"][0]
    new = newest["version"] == version and newest["observedAt"] > status["startedAt"]
    rows = dataset["status"].get("rows", 0)
    found = f"{rows} rows, a new version" if new else f"{rows} rows, unchanged since {newest['observedAt']}"
    return Seen(SUCCEEDED, found, output=version, made=made)


# trainingJob and experiment


_MAKES = {"trainingJob": ("TrainingJob", NAME_LENGTH), "experiment": ("Experiment", EXPERIMENT_NAME)}


def _made(observed: Observed, stage: Manifest, status: Manifest, inputs: Inputs) -> Seen:
    field = next(field for field in _MAKES if field in stage)
    kind, longest = _MAKES[field]
    name = child_name(observed.subject.name, stage["name"], longest)
    found, known = observed.get(kind, name), dig(status, "made", "uid")
    if found is None and known is None:
        manifest = _child(observed, kind, name, stage[field]["spec"], inputs)
        return _running(f"{kind} {name} is being created", made=Made(kind, name), create=manifest)
    if found is not None and not is_owned(found, observed.uid):
        if is_former(found, observed.subject.name, observed.uid):
            return _running(f"{kind} {name} of a former run is being cleaned up")
        said = f"{kind} {name} exists and was not made for this run; delete it if nobody needs it, and retry the run"
        return _failed("NameConflict", said)
    if found is None or found["metadata"].get("deletionTimestamp"):
        return _failed("StageObjectDeleted", f"somebody deleted {kind} {name}", made=Made(kind, name, known))
    return _doing(found, kind, Made(kind, name, found["metadata"]["uid"]))


def _doing(found: Manifest, kind: str, made: Made) -> Seen:
    succeeded, failed = conditions.find(found, "Succeeded"), conditions.find(found, "Failed")
    if succeeded is not None and succeeded["status"] == "True":
        version = dig(found, "status", "modelVersion")
        output = version or dig(found, "status", "artifact", "digest") or dig(found, "status", "best", "artifact")
        known = succeeded["reason"] == KNOWN
        return Seen(
            SUCCEEDED, succeeded["message"], RECIPE_KNOWN if known else "", output=output, made=made, ends=known
        )
    if failed is not None and failed["status"] == "True":
        return _failed(failed["reason"], f"{kind} {made.name} failed: {failed['message']}", made=made)
    said = f"{kind} {made.name}: {succeeded['message']}" if succeeded is not None else f"{kind} {made.name} is created"
    return _running(said, made=made, progress=_percent(found), stop=True)


def _percent(found: Manifest) -> int | None:
    percent = dig(found, "status", "progress", "percent")
    if percent is not None:
        return int(percent)
    most, trials = dig(found, "spec", "trials", "max"), dig(found, "status", "trials")
    if not most or trials is None:
        return None
    done = sum(int(trials.get(state, 0)) for state in ("succeeded", "failed", "stopped"))
    return min(100, 100 * done // int(most))


def _child(observed: Observed, kind: str, name: str, spec: Manifest, inputs: Inputs) -> str:
    subject = observed.subject
    commit = dig(observed.object, "metadata", "annotations", lineage.COMMIT_ANNOTATION)
    pipeline = observed.object["spec"]["pipelineRef"]["name"]
    annotations: dict[str, Any] = {"annotations": {lineage.COMMIT_ANNOTATION: commit}} if commit is not None else {}
    manifest = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": subject.namespace,
            "labels": {**MANAGED_BY, PIPELINE_LABEL: pipeline, RUN_LABEL: subject.name},
            "ownerReferences": [subject.reference("PipelineRun")],
            **annotations,
        },
        "spec": _on(spec, inputs) if kind == "TrainingJob" else _trials_on(spec, inputs),
    }
    return json.dumps(manifest, sort_keys=True)


def _on(spec: Manifest, inputs: Inputs) -> dict[str, Any]:
    """A TrainingJob's spec with the version that was refreshed, where it names none."""
    data: Manifest = spec["data"]
    version = dict(inputs.versions).get(data["datasetRef"]["name"])
    if version is None:
        return dict(spec)
    return {**spec, "data": {"version": version, **data}}


def _trials_on(spec: Manifest, inputs: Inputs) -> dict[str, Any]:
    return {**spec, "template": {**spec["template"], "spec": _on(spec["template"]["spec"], inputs)}}


# approve


def _approve(version: Manifest, how: str) -> Seen:
    name = version["metadata"]["name"]
    made = Made("ModelVersion", name, version["metadata"]["uid"])
    ready, decided = conditions.find(version, "Ready"), approval.remembered(version)
    approved, tested = conditions.find(version, "Approved"), conditions.find(version, "Tested")
    if dig(approved, "reason") == approval.REJECTED and approved is not None:
        return _failed(approval.REJECTED, f"ModelVersion {name}: {approved['message']}", made=made)
    if tested is not None and tested["status"] == "False" and tested["reason"] == testing.FAILED:
        return _failed(testing.FAILED, f"ModelVersion {name}: {tested['message']}", made=made)
    if not conditions.is_true(version, "Ready"):
        said = ready["message"] if ready is not None else "it was just made"
        return _running(f"ModelVersion {name} is not Ready: {said}", made=made)
    if decided is not None and decided.decision == "Approve":
        return Seen(SUCCEEDED, f"{decided.by} approved it", output=name, made=made)
    if how == approval.MANUAL:
        said = f"ModelVersion {name} is Ready, and waits for a ModelApproval that names it and its digest"
        return _running(said, made=made)
    assert ready is not None  # noqa: S101 - it is True
    return Seen(SUCCEEDED, ready["message"], output=name, made=made)


# rollout


def _rollout(observed: Observed, stage: Manifest, version: Manifest) -> Seen:
    name = stage["rollout"]["deploymentRef"]["name"]
    model, number = version["spec"]["modelRef"]["name"], int(version["spec"]["version"])
    deployment = observed.get("ModelDeployment", name)
    if deployment is None:
        return _running(f"there is no ModelDeployment {name} in this namespace yet; create it")
    made = Made("ModelDeployment", name, deployment["metadata"]["uid"])
    refused = _never(deployment, name, model, number)
    if refused is not None:
        return _failed(*refused, made=made)
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) != deployment["metadata"].get("generation", 0):
        # What was rolled back before may be tried again now.
        return _running(f"ModelDeployment {name} has not read its spec yet", made=made)
    back = status.get("rolledBack") or {}
    if back.get("version") == number:
        why = back.get("message") or back["reason"]
        said = f"ModelDeployment {name} rolled version {number} back: {why}"
        return _failed("RolledBack", said, made=made)
    serves, ready = _serves(status, model), conditions.find(deployment, "Ready")
    complete = dig(status, "stable", "ready") or conditions.is_true(deployment, "Ready")
    if serves == number and complete:
        return Seen(SUCCEEDED, f"version {number} serves", output=version["metadata"]["name"], made=made)
    if serves is not None and serves > number and complete:
        said = f"version {serves}, which is newer, serves"
        return Seen(SUCCEEDED, said, SUPERSEDED, output=version["metadata"]["name"], made=made)
    candidate = status.get("candidate") or {}
    if candidate.get("version") == number:
        return _running(f"ModelDeployment {name}: {_step(candidate, ready)}", made=made, progress=_weight(candidate))
    said = f": {ready['message']}" if ready is not None else ""
    return _running(f"ModelDeployment {name} is to take version {number}{said}", made=made)


def _never(deployment: Manifest, name: str, model: str, number: int) -> tuple[str, str] | None:
    """Why the deployment will not take the version by itself: what it serves is its owner's to say."""
    selected = deployment["spec"]["model"]
    if selected.get("name") != model:
        other = selected.get("name") or selected.get("uri")
        said = f"ModelDeployment {name} serves {other} (spec.model), and not Model {model}, of which the version is"
        return "OtherModel", said
    pinned = selected.get("version")
    if pinned is not None and pinned != number:
        said = (
            f"ModelDeployment {name} names version {pinned} (spec.model.version), so that it does not take version"
            f" {number}; take spec.model.version out, or name {number} there and retry the run"
        )
        return "VersionPinned", said
    return None


def _serves(status: Manifest, model: str) -> int | None:
    """The number of this Model's version that serves."""
    promoted = revisions.promoted(status)
    if promoted is None or promoted.get("model", model) != model:
        return None
    version = dig(status, "stable", "version")
    return int(version) if version is not None else None


def _step(candidate: Manifest, ready: Any) -> str:
    step, steps = candidate.get("step"), candidate.get("steps")
    at = f"step {step} of {steps}, weight {candidate.get('weight', 0)} %" if step and steps else "it comes up"
    said = candidate.get("message") or (ready["message"] if ready is not None else "")
    return f"{at}: {said}" if said else at


def _weight(candidate: Manifest) -> int | None:
    weight = candidate.get("weight")
    return int(weight) if weight is not None else None
