"""Runs that ended are shown in MLflow: each one once, whoever was interrupted when and wherever.

is there a run with the tag modelmill.uid, deleted ones included?
    no        -> create it with all its tags, in one request
    several   -> the others go that were only begun
    deleted   -> a person did that: it stays so
    RUNNING   -> it was made, and perhaps not finished
parameters and metrics (the same once more changes nothing) -> its end and its status, which says that all is there
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from modelmill_contracts.report import MirroredRun, MirrorResult, Report
from modelmill_contracts.task import EndedRun, MirrorTask
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase, say
from modelmill_trainer.mlflow_server import Mlflow, RefusedError

UID = "modelmill.uid"
_PATIENCE = 240  # seconds, after which no further run is begun
_AT_ONCE = 100  # parameters; as many as MLflow takes in one request
_DELETED = "EXPERIMENT_DELETED"
_ABSENT, _PRESENT = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"


def mirror(
    task: MirrorTask, variables: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
) -> Report:
    """Show the runs, as many as there is time for; TaskError where MLflow does not even let the first one be shown."""
    begun, shown = clock(), list[MirroredRun]()
    server = Mlflow(task.uri, os.environ if variables is None else variables, task.secret)
    experiments: dict[str, str] = {}
    for run in task.runs:
        if shown and clock() - begun > _PATIENCE:
            break
        try:
            with phase("mirror", run=run.name):
                shown.append(_shown(server, run, experiments))
        except TaskError as error:
            if not shown:
                raise
            say(str(error), reason=error.reason)  # the next Job begins with this run, and tells it
            break
    refused = [f"{run.name} ({of.refused})" for run, of in zip(task.runs, shown, strict=False) if of.refused]
    told = f"; it refuses {', '.join(refused)}" if refused else ""
    message = f"{len(shown)} of {len(task.runs)} runs are shown{told}"
    return Report(True, "Mirrored", message[:500], result=MirrorResult(tuple(shown)))


def _shown(server: Mlflow, run: EndedRun, experiments: dict[str, str]) -> MirroredRun:
    try:
        if run.experiment not in experiments:
            experiments[run.experiment] = _experiment(server, run.experiment)
        return MirroredRun(_written(server, run, experiments[run.experiment]))
    except RefusedError as refused:
        say(f"MLflow refuses run {run.name}: {refused}", run=run.name)
        return MirroredRun("", refused.code[:64])


def _experiment(server: Mlflow, name: str) -> str:
    """The id of the experiment of that name, which is made where there is none."""
    found = _find(server, name)
    if found is None:
        try:
            return str(server.post("experiments/create", name=name)["experiment_id"])
        except RefusedError as refused:
            if refused.code != _PRESENT:
                raise
            found = _find(server, name)
    if found is None or found.get("lifecycle_stage") == "deleted":
        said = f"somebody deleted MLflow's experiment {name}; restore it, for what ends from then on to be shown"
        raise RefusedError(_DELETED, said)
    return str(found["experiment_id"])


def _find(server: Mlflow, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = server.get("experiments/get-by-name", experiment_name=name)["experiment"]
    except RefusedError as refused:
        if refused.code != _ABSENT:
            raise
        return None
    return found


def _written(server: Mlflow, run: EndedRun, experiment: str) -> str:
    """The id of the run in MLflow, where all of it is by now."""
    info = _known(server, run, experiment) or _created(server, run, experiment)
    id_ = str(info["run_id"])
    if info.get("lifecycle_stage") == "deleted" or info["status"] != "RUNNING":
        return id_
    parameters = [{"key": name, "value": value} for name, value in run.parameters]
    server.post("runs/log-batch", run_id=id_, metrics=list(_metrics(run)), params=parameters[:_AT_ONCE])
    for start in range(_AT_ONCE, len(parameters), _AT_ONCE):
        server.post("runs/log-batch", run_id=id_, params=parameters[start : start + _AT_ONCE])
    server.post("runs/update", run_id=id_, status=run.status, end_time=run.end)
    return id_


def _known(server: Mlflow, run: EndedRun, experiment: str) -> dict[str, Any] | None:
    found = server.post(
        "runs/search",
        experiment_ids=[experiment],
        filter=f"tags.`{UID}` = '{run.uid}'",
        run_view_type="ALL",
        max_results=10,
    )
    infos: list[dict[str, Any]] = [each["info"] for each in found.get("runs", ())]
    infos.sort(key=lambda info: (info["status"] == "RUNNING", info["run_id"]))
    for more in infos[1:]:
        # A request to create it that was given up was carried out after all, later than we looked.
        if more["status"] == "RUNNING" and more.get("lifecycle_stage") != "deleted":
            server.post("runs/delete", run_id=more["run_id"])
    return infos[0] if infos else None


def _created(server: Mlflow, run: EndedRun, experiment: str) -> dict[str, Any]:
    tags = [{"key": key, "value": value} for key, value in ((UID, run.uid), *run.tags)]
    made = server.post("runs/create", experiment_id=experiment, run_name=run.name, start_time=run.start, tags=tags)
    info: dict[str, Any] = made["run"]["info"]
    return info


def _metrics(run: EndedRun) -> Iterator[dict[str, Any]]:
    for metric in run.metrics:
        value = float(metric.value)
        told: float | str = value
        if not math.isfinite(value):  # as protocol buffers write them in JSON
            told = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        yield {"key": metric.name, "value": told, "timestamp": run.end, "step": metric.step}
