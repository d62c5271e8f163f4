"""Tracked runs: what people compare of TrainingJobs, those of an Experiment and those by hand alike.

`kubectl mill experiments` shows it, and `mirror` has it shown in MLflow.
"""

import re
from collections.abc import Mapping
from typing import Any

from modelmill.core.resources import EXPERIMENT_LABEL, TRIAL_LABEL, Manifest, dig

_WHOLE_REAL = re.compile(r"-?[0-9]+\.0")
STOPPED = "StoppedEarly"  # the reason of a success that has no model


def run_of(job: Manifest) -> dict[str, Any]:
    """What is known of a TrainingJob, in the order in which it is shown."""
    metadata, spec, status = job["metadata"], job["spec"], job.get("status") or {}
    state, reason = _state(status)
    known = {
        "run": metadata["name"],
        "experiment": experiment(job),
        "trial": (metadata.get("labels") or {}).get(TRIAL_LABEL),
        "state": state,
        "reason": reason,
        "created": metadata["creationTimestamp"],
        "dataset": spec["data"]["datasetRef"]["name"],
        "datasetVersion": status.get("datasetVersion"),
        "recipe": status.get("recipe"),
        "artifact": dig(status, "artifact", "digest"),
        "modelVersion": status.get("modelVersion"),
        "modelBytes": dig(status, "artifact", "modelBytes"),
        "cpuSeconds": dig(status, "usage", "cpuSeconds"),
        "seed": spec.get("seed"),
    }
    metrics = {m["name"]: {k: m[k] for k in ("value", "stddev") if k in m} for m in status.get("metrics", ())}
    return {**known, "parameters": _parameters(spec), "metrics": metrics}


def experiment(job: Manifest) -> str | None:
    """The Experiment that a run is of, or that somebody's label says it stands beside."""
    return (job["metadata"].get("labels") or {}).get(EXPERIMENT_LABEL)


def _state(status: Mapping[str, Any]) -> tuple[str, str]:
    said = {condition["type"]: condition for condition in status.get("conditions", ())}
    for type_ in ("Succeeded", "Failed"):
        if said.get(type_, {}).get("status") == "True":
            stopped = said[type_]["reason"] == STOPPED
            return "Stopped" if stopped else type_, said[type_]["reason"]
    return "Running", said.get("Succeeded", {}).get("reason", "")


def _parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    """All of them, under the names by which an Experiment searches them."""
    if "container" in spec:
        return {variable["name"]: variable["value"] for variable in spec["container"].get("env", ())}
    found: dict[str, Any] = {}
    for group in spec["estimator"].get("columns", ()):
        for step in group["steps"]:
            found |= _of_step(f"columns__{group['name']}__{step['name']}", step)
    for step in spec["estimator"]["steps"]:
        found |= _of_step(step["name"], step)
    return found


def _of_step(name: str, step: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}__{param}": _number(value) for param, value in (step.get("params") or {}).items()}


def _number(value: Any) -> Any:
    """A whole real number stands in quotes in an estimator's parameters."""
    return float(value) if isinstance(value, str) and _WHOLE_REAL.fullmatch(value) else value
