"""Reproduction: what was trained is trained once more, in another pod, and the bytes of both are compared.

    the first run's artifact is known -> a second Job does the same -> what it says -> the verdict, for good

The second run publishes nothing and becomes no version: it only says what it would have published.  A second run that
fails has nothing to compare: whether it reproduces stays unknown, for good.
"""

from dataclasses import dataclass
from typing import Any

from modelmill.core import conditions, jobs
from modelmill.core.conditions import Condition, Waiting, unknown
from modelmill.core.plan import Guard, Subject
from modelmill.core.pods import Trouble
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import artifact, report

REPRODUCIBLE = "Reproducible"
_FAILED = "SecondRunFailed"
RUNNING = "Reproducing"
Files = tuple[tuple[str, str], ...]  # (name, digest)


@dataclass(frozen=True)
class Verdict:
    """Whether both runs gave the same bytes."""

    status: str  # True | False, or Unknown: there is no second run to compare with
    reason: str
    message: str
    digest: str | None = None  # of the second run's artifact
    differs: tuple[str, ...] = ()  # files


def job_name(name: str) -> str:
    return f"{name}-again"


def said(manifest: Manifest) -> Verdict | None:
    """The verdict that the status has: it stays."""
    condition = conditions.find(manifest, REPRODUCIBLE)
    if condition is None or (condition["status"] == "Unknown" and condition["reason"] != _FAILED):
        return None
    known = dig(manifest, "status", "reproduction") or {}
    return Verdict(
        condition["status"],
        condition["reason"],
        condition["message"],
        known.get("digest"),
        tuple(known.get("differs", ())),
    )


def compared(run: jobs.Run, recipe: str, digest: str, files: Files) -> Verdict | None:
    """What the second run means for an artifact of that recipe, digest and files; None: it has not ended."""
    why = run.trouble if run.state == "Failed" else run.exhausted
    if why is not None:
        return failed(why)
    if run.state != "Succeeded":
        return None
    result = run.report.result if run.report is not None else None
    if not isinstance(result, report.TrainingResult):
        return Verdict("Unknown", _FAILED, "the second run failed: its report is not that of a training")
    if result.artifact == digest:
        message = "a second run in another pod gave the same artifact, to the byte"
        return Verdict("True", "SameBytes", message, result.artifact)
    differs = _differing(files, tuple((file.name, file.digest) for file in result.files))
    if result.recipe != recipe:
        message = (
            "the second pod had another recipe than the first: another kind of CPU or other software; see that both run"
            " on nodes of one kind, with an image that is named by its digest"
        )
        return Verdict("False", "RecipeDiffers", message, result.artifact, differs)
    message = (
        f"a second run in another pod gave other bytes in {', '.join(differs)}: the model depends on more than its"
        " recipe; set n_jobs to 1 where the params have it, or use another estimator"
    )
    return Verdict("False", "ArtifactDiffers", message, result.artifact, differs)


def failed(why: Trouble) -> Verdict:
    """The verdict where the second run failed."""
    return Verdict("Unknown", _FAILED, f"the second run failed: {why.reason}: {why.message}")


def _differing(first: Files, second: Files) -> tuple[str, ...]:
    """Names of files that are not the same in both; the manifest where it is nothing else."""
    return tuple(sorted({name for name, _ in set(first) ^ set(second)})) or (artifact.MANIFEST,)


def condition(asked: bool, verdict: Verdict | None, waiting: Waiting) -> Condition:
    """The condition; `waiting` is what it waits for without a verdict."""
    if not asked:
        return unknown(REPRODUCIBLE, "NotAsked", "without spec.reproduce it is trained once")
    if verdict is None:
        return unknown(REPRODUCIBLE, waiting.reason, waiting.message)
    return Condition(REPRODUCIBLE, verdict.status, verdict.reason, verdict.message)


def status_of(verdict: Verdict | None) -> dict[str, Any] | None:
    """What the status holds besides the condition."""
    if verdict is None or verdict.digest is None:
        return None
    return {"digest": verdict.digest, **({"differs": list(verdict.differs)} if verdict.differs else {})}


def undecided(manifest: Manifest) -> bool:
    """Whether an object that has its artifact still waits for a second run."""
    return dig(manifest, "spec", "reproduce") is not None and said(manifest) is None


def not_compared(kind: str, subject: Subject) -> Guard:
    """A second run that was compared is not done again, even if the verdict was not seen yet."""

    def holds(live: Manifest | None) -> bool:
        return live is not None and live["metadata"]["uid"] == subject.uid and undecided(live)

    return Guard(kind, subject.name, holds, f"{kind} {subject.name} has no second run that was compared")
