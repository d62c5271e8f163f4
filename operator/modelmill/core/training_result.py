"""What a training gave, as its pod reports it and as the status holds it, and the ModelVersion that it becomes."""

from dataclasses import dataclass
from typing import Any

from modelmill.api.schema import API_VERSION
from modelmill.core import conditions, jobs, lineage, reproduction, tracked
from modelmill.core.plan import Subject
from modelmill.core.resources import Manifest, dig
from modelmill.core.training_data import Snapshot
from modelmill_contracts import report

PUBLISHED = ("ArtifactPublished", "the artifact is in the store")
STOPPED = tracked.STOPPED
KNOWN = ("RecipeKnown", "the artifact was made by this very recipe before; nothing was trained")


@dataclass(frozen=True)
class Result:
    """What the training gave, as the status holds it."""

    recipe: str
    uri: str
    digest: str
    files: reproduction.Files
    metrics: tuple[report.Metric, ...]
    slices: tuple[report.WorstSlice, ...]
    cpu_seconds: int
    accelerator_seconds: int
    known: bool  # it was there before, and nothing was trained; the condition Trained remembers it
    folds: tuple[str, ...] = ()  # of the metric that stopping is about
    model_bytes: int | None = None

    @property
    def trained(self) -> tuple[str, str]:
        """What the condition Trained says of it: reason and message."""
        return KNOWN if self.known else PUBLISHED


@dataclass(frozen=True)
class Stopped:
    """A training that was hopeless: what its folds gave until then."""

    message: str
    metrics: tuple[report.Metric, ...]
    folds: tuple[str, ...]
    cpu_seconds: int

    @property
    def status(self) -> dict[str, Any]:
        """As the status has it."""
        return {
            "metrics": _metrics(self.metrics),
            "folds": list(self.folds),
            "usage": {"cpuSeconds": self.cpu_seconds},
        }


def stopped(run: jobs.Run) -> Stopped | None:
    """What the Job's pod said, if it is that."""
    said = run.report
    if run.state != "Succeeded" or said is None or not isinstance(said.result, report.StoppedResult):
        return None
    return Stopped(said.message, said.result.metrics, said.result.folds, said.result.cpu_seconds)


def stopped_before(manifest: Manifest) -> Stopped | None:
    """What the status of a TrainingJob holds, if it is that."""
    succeeded = conditions.find(manifest, "Succeeded")
    if succeeded is None or succeeded["status"] != "True" or succeeded["reason"] != STOPPED:
        return None
    status = manifest["status"]
    metrics = tuple(report.Metric(m["name"], m["value"], m.get("stddev")) for m in status.get("metrics", ()))
    return Stopped(
        succeeded["message"], metrics, tuple(status.get("folds", ())), dig(status, "usage", "cpuSeconds") or 0
    )


def said(manifest: Manifest) -> Result | None:
    """What the status of a TrainingJob holds."""
    status = dig(manifest, "status") or {}
    if "artifact" not in status:
        return None
    trained = conditions.find(manifest, "Trained")
    return Result(
        status["recipe"],
        status["artifact"]["uri"],
        status["artifact"]["digest"],
        tuple((file["name"], file["digest"]) for file in status["artifact"].get("files", ())),
        tuple(report.Metric(m["name"], m["value"], m.get("stddev")) for m in status.get("metrics", ())),
        tuple(
            report.WorstSlice(w["metric"], w["column"], w["rows"], w["value"], w.get("slice"))
            for w in status.get("slices", ())
        ),
        dig(status, "usage", "cpuSeconds") or 0,
        dig(status, "usage", "acceleratorSeconds") or 0,
        known=trained is not None and trained["reason"] == KNOWN[0],
        folds=tuple(status.get("folds", ())),
        model_bytes=status["artifact"].get("modelBytes"),
    )


def reported(run: jobs.Run, accelerators: int) -> Result | None:
    """What the Job's pod, which had that many accelerators, said."""
    if run.state != "Succeeded" or run.report is None or not isinstance(run.report.result, report.TrainingResult):
        return None
    result = run.report.result
    metrics = tuple({metric.name: metric for metric in result.metrics}.values())
    slices = tuple({worst.metric: worst for worst in result.slices}.values())
    files = tuple({file.name: file.digest for file in result.files}.items())
    taken = accelerators * run.seconds
    return Result(
        result.recipe, result.uri, result.artifact, files, metrics, slices, result.cpu_seconds, taken, result.known,
        result.folds, result.model_bytes or None,
    )  # fmt: skip


def status_of(result: Result) -> dict[str, Any]:
    """As the status has it."""
    return {
        "recipe": result.recipe,
        "artifact": _artifact(result),
        "metrics": _metrics(result.metrics),
        "folds": list(result.folds) or None,
        "slices": [_worst(found) for found in result.slices] or None,
        "usage": _usage(result),
    }


def _metrics(found: tuple[report.Metric, ...]) -> list[dict[str, Any]]:
    return [{"name": m.name, "value": m.value, **({"stddev": m.stddev} if m.stddev else {})} for m in found]


def _artifact(result: Result) -> dict[str, Any]:
    files = [{"name": name, "digest": digest} for name, digest in result.files]
    size = {"modelBytes": result.model_bytes} if result.model_bytes is not None else {}
    return {"uri": result.uri, "digest": result.digest, **({"files": files} if files else {}), **size}


def _usage(result: Result) -> dict[str, Any]:
    taken = result.accelerator_seconds
    return {"cpuSeconds": result.cpu_seconds, **({"acceleratorSeconds": taken} if taken else {})}


def _worst(found: report.WorstSlice) -> dict[str, Any]:
    value = {"slice": found.slice} if found.slice is not None else {}
    return {"metric": found.metric, "column": found.column, **value, "rows": found.rows, "value": found.value}


def version(
    job: Subject, model: str, number: int, result: Result, data: tuple[str, Snapshot] | None, commit: str | None
) -> Manifest:
    """The ModelVersion with that number, trained on `data`, the Dataset's name and its version.

    It has no owner: it outlives its TrainingJob.
    """
    labels = lineage.labels(
        model=model,
        artifact=result.digest,
        training_job=job.name,
        recipe=result.recipe,
        dataset=(data[0], data[1].version) if data is not None else None,
        commit=commit,
    )
    dataset = {}
    if data is not None:
        dataset = {"dataset": {"name": data[0], "version": data[1].version, "file": data[1].file}}
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelVersion",
        "metadata": {"name": f"{model}-{number}", "namespace": job.namespace, "labels": labels},
        "spec": {
            "modelRef": {"name": model},
            "version": number,
            "artifact": {"uri": result.uri, "digest": result.digest},
            "lineage": {
                "trainingJob": {"name": job.name, "uid": job.uid},
                "recipe": result.recipe,
                **dataset,
                **({"gitCommit": commit} if commit is not None else {}),
            },
        },
    }
