"""What Pipelines and their runs know of each other: names, labels, and what a PipelineRun says of itself."""

from dataclasses import dataclass
from typing import Any

from modelmill.api.dataset import MAX_REQUESTS
from modelmill.api.schema import GROUP
from modelmill.core import conditions
from modelmill.core.resources import MANAGED_BY, Manifest, dig, refreshing
from modelmill_contracts import digest

PIPELINE_LABEL = f"{GROUP}/pipeline"
RUN_LABEL = f"{GROUP}/pipeline-run"
LONGEST_NAME = 63  # of a run
_DIGITS = 8


@dataclass(frozen=True)
class Refreshed:
    """What one of its stages asked of a Dataset, and what that gave."""

    dataset: str
    output: str | None
    done: bool


@dataclass(frozen=True)
class Run:
    """A PipelineRun, as others read it."""

    name: str
    uid: str
    created: str
    made: bool  # by the operator or kubectl mill run: it may be deleted when it is one too many
    started: bool
    result: str | None  # Succeeded or Failed; None: it has not ended
    ended_at: str | None
    retries: str | None  # the run that it retries
    trigger: str | None
    refreshed: tuple[Refreshed, ...]

    @property
    def goes_on(self) -> bool:
        return self.started and self.result is None

    @property
    def waits(self) -> bool:
        return not self.started and self.result is None


def run_of(manifest: Manifest) -> Run:
    metadata, spec = manifest["metadata"], manifest["spec"]
    labels = metadata.get("labels") or {}
    result, ended_at = ended(manifest)
    return Run(
        name=metadata["name"],
        uid=metadata["uid"],
        created=metadata["creationTimestamp"],
        made=MANAGED_BY.items() <= labels.items(),
        started=has_started(manifest),
        result=result,
        ended_at=ended_at,
        retries=dig(spec, "retryOf", "name"),
        trigger=dig(spec, "cause", "trigger"),
        refreshed=_refreshed(manifest),
    )


def has_started(run: Manifest) -> bool:
    return dig(run, "status", "pipeline") is not None


def ended(run: Manifest) -> tuple[str | None, str | None]:
    """How and when a run ended; (None, None): it has not."""
    for type_ in ("Succeeded", "Failed"):
        condition = conditions.find(run, type_)
        if condition is not None and condition["status"] == "True":
            return type_, condition["lastTransitionTime"]
    return None, None


def of_pipeline(runs: tuple[Manifest, ...], pipeline: str) -> tuple[Run, ...]:
    """The runs of that Pipeline that are not being deleted, the oldest first."""
    mine = (run for run in runs if run["spec"]["pipelineRef"]["name"] == pipeline)
    found = (run_of(run) for run in mine if not run["metadata"].get("deletionTimestamp"))
    return tuple(sorted(found, key=lambda run: (run.created, run.name)))


def _refreshed(run: Manifest) -> tuple[Refreshed, ...]:
    return tuple(
        Refreshed(stage["made"]["name"], stage.get("output"), stage["state"] not in ("Pending", "Running"))
        for stage in dig(run, "status", "stages") or ()
        if dig(stage, "made", "kind") == "Dataset" and "takenFrom" not in stage
    )


# Names.


def run_name(pipeline: str, pipeline_uid: str, trigger: str, cause: str, number: int) -> str:
    """The name of the run for one cause: the same for the same one, whoever makes it and however often.

    `number` is how many causes of the trigger were dealt with before: a Dataset may have a version again.
    """
    return _short(f"{pipeline}-{trigger}", LONGEST_NAME, [pipeline_uid, trigger, cause, number])


def child_name(run: str, stage: str, longest: int) -> str:
    """The name of what a stage of a run makes: RUN-STAGE, where a name may be as long as that."""
    whole = f"{run}-{stage}"
    return whole if len(whole) <= longest else _short(whole, longest, [run, stage])


def _short(words: str, longest: int, of: list[Any]) -> str:
    """What is left of these words, and digits that stand for everything."""
    digits = digest.of_json(of).removeprefix("sha256:")[:_DIGITS]
    return f"{words[: longest - _DIGITS - 1].rstrip('-')}-{digits}"


# What a run asks of a Dataset.


def request(uid: str, stage: str) -> str:
    """What stands for one stage of one run among those that ask a Dataset to look again."""
    return f"{uid}/{stage}"


def requests(runs: tuple[Manifest, ...], dataset: str) -> tuple[str, ...]:
    """What stands for each stage of a run that waits for that Dataset to be looked at."""
    waiting = ((run, refreshing(run)) for run in runs)
    found = (request(run["metadata"]["uid"], at[1]) for run, at in waiting if at is not None and at[0] == dataset)
    return tuple(sorted(found))[:MAX_REQUESTS]
