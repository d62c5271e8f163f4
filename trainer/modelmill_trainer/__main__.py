"""`python -m modelmill_trainer`: do the task in MILL_TASK, report, and exit as the report asks for."""

import errno
import os
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

import msgspec

from modelmill_contracts import environment, report, task
from modelmill_contracts.folder import ArtifactError
from modelmill_contracts.report import Report
from modelmill_contracts.store import StoreError
from modelmill_trainer import interruption, log, progress
from modelmill_trainer.failure import TaskError
from modelmill_trainer.pins import pin
from modelmill_trainer.workers import Alone, Place, beside


def main() -> int:
    log.start()
    started = time.monotonic()
    path = Path(os.environ.get(environment.REPORT, report.PATH))
    interruption.watch(path)
    pin(os.environ)
    answer = carry_out(os.environ, int(os.environ.get(environment.PROGRESS_PORT, environment.METRICS_PORT)))
    log.say(
        answer.message or answer.reason,
        phase="report",
        ok=answer.ok,
        reason=answer.reason,
        seconds=round(time.monotonic() - started, 3),
    )
    for problem in answer.problems:  # of which the report has those that it has room for
        log.say(problem.message, phase="report", rule=problem.rule, column=problem.column, count=problem.count)
    report.write(answer, path)
    return report.exit_code(answer)


def carry_out(variables: MutableMapping[str, str], port: int | None = None) -> Report:
    """Do the task in `variables`; every failure becomes a report.  On `port` it is told how far a training is."""
    try:
        asked = _task_of(variables)
        if port is not None and isinstance(asked, _TOLD):
            _tell(port)
        place = Place.of(variables)
        if place is None:
            # skops has scikit-learn import all of itself, which imports whatever array library it finds.
            sys.modules.setdefault("dask", None)  # type: ignore[arg-type]
        return _dispatch(asked, place)
    except TaskError as error:
        return Report(False, error.reason, str(error), retryable=error.retryable, problems=error.problems)
    except StoreError as error:
        return Report(False, error.reason, str(error), retryable=error.retryable, store=True)
    except ArtifactError as error:
        return Report(False, error.reason, str(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            message = (
                "the node's disk, which has the pod's scratch volume, is full: read fewer rows or columns, or give the"
                " nodes more disk"
            )
            return Report(False, "ScratchFull", message)
        log.crash("unexpected error")
        # The type alone: the text of an unknown error may hold values of the data.
        message = f"the trainer failed with {type(error).__name__}; its log has the traceback"
        return Report(False, "InternalError", message)


# The others are short, or have a server beside them that listens there itself.
_TOLD = (task.TrainingTask, task.PartsTask, task.OwnTrainingTask)


def _tell(port: int) -> None:
    try:
        progress.serve(port)
    except OSError as error:
        log.say("nobody can ask how far this is", port=port, error=error.strerror)


def _task_of(variables: MutableMapping[str, str]) -> task.Task:
    text = task.text_of(variables)
    if not text:
        raise TaskError("TaskInvalid", f"the environment has no {task.ENVIRONMENT}: nothing to do")
    try:
        return task.decode(text)
    except msgspec.DecodeError as error:
        raise TaskError("TaskInvalid", f"{task.ENVIRONMENT}: {error}") from error


def _dispatch(asked: task.Task, place: Place | None) -> Report:
    # Imported per task (PLC0415): a preflight must not pay for scikit-learn.
    log.say("started", task=type(asked).__name__.removesuffix("Task"))
    match asked:
        case task.PreflightTask():
            from modelmill_trainer.preflight import preflight  # noqa: PLC0415

            return preflight(asked)
        case task.SnapshotTask():
            from modelmill_trainer.snapshot import snapshot  # noqa: PLC0415

            return snapshot(asked)
        case task.FetchTask():
            from modelmill_trainer.fetching import fetch  # noqa: PLC0415

            return fetch(asked)
        case task.CollectTask() | task.CapturedTask():
            return _keep(asked)
        case task.TrainingTask():
            return _train(asked, place)
        case task.PartsTask():
            from modelmill_trainer.parts import parts  # noqa: PLC0415

            return parts(asked)
        case task.OwnTrainingTask():
            return _take(asked, place)
        case task.VerificationTask():
            from modelmill_trainer.verification import verify  # noqa: PLC0415

            return verify(asked)
        case task.ModelTestTask():
            from modelmill_trainer.model_tests import run_tests  # noqa: PLC0415

            return run_tests(asked)
        case _:
            return _search(asked)


def _keep(asked: task.CollectTask | task.CapturedTask) -> Report:
    if isinstance(asked, task.CollectTask):
        from modelmill_trainer.collect import collect  # noqa: PLC0415

        return collect(asked)
    from modelmill_trainer.measuring import measure  # noqa: PLC0415

    return measure(asked)


def _search(asked: task.ProposalTask | task.SearchPageTask | task.MirrorTask) -> Report:
    """What is about runs that ended."""
    if isinstance(asked, task.MirrorTask):
        from modelmill_trainer.mirroring import mirror  # noqa: PLC0415

        return mirror(asked)
    if isinstance(asked, task.ProposalTask):
        from modelmill_trainer.proposing import propose  # noqa: PLC0415

        return propose(asked)
    from modelmill_trainer.search_page import write  # noqa: PLC0415

    return write(asked)


def _train(asked: task.TrainingTask, place: Place | None) -> Report:
    if place is not None and place.index > 0:
        from modelmill_trainer.cluster import work  # noqa: PLC0415

        return work(place)
    from modelmill_trainer.training import train  # noqa: PLC0415

    if place is None:
        return train(asked, Alone())
    from modelmill_trainer.cluster import led  # noqa: PLC0415

    with led(place) as cluster:
        return train(asked, cluster)


def _take(asked: task.OwnTrainingTask, place: Place | None) -> Report:
    if place is not None and place.index > 0:
        return beside(place)
    from modelmill_trainer.own_training import take  # noqa: PLC0415

    return take(asked, 1 if place is None else place.count)


if __name__ == "__main__":
    sys.exit(main())
