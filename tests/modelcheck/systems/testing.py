"""A verified ModelVersion, a Model whose tests are changed, and the Job that runs them."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import Slot, uid
from modelcheck.systems import jobs, memory
from modelcheck.systems.approval import verified_version
from modelcheck.systems.modelversion import KIND, NAME, store_help, store_moves
from modelcheck.systems.workspace import edited, working_workspace
from modelmill.core import conditions
from modelmill.core.jobs import TASK_ANNOTATION
from modelmill.core.plan import SetStatus, Write
from modelmill.core.resources import Manifest
from modelmill.core.testing import job_name
from modelmill_contracts import digest, report, task

JOB = job_name(NAME)
MODEL = "triage"
BARS = ("0.9", "0.99")


def spec(least: str) -> Manifest:
    return {"tests": {"metrics": [{"name": "roc_auc", "min": least}]}}


def asked(least: str) -> str:
    """The digest of these tests."""
    return digest.of_json(task.Tests((task.MetricTest("roc_auc", least),)))


def ran(job: Manifest, *, passed: bool = True) -> report.Report:
    del job
    return report.Report(
        True, "TestsRun", result=report.ModelTestResult((report.Outcome("roc_auc", passed, ">= it", "0.95"),))
    )


def _which(job: Manifest) -> str:
    return f"passed {job['metadata']['annotations'][TASK_ANNOTATION]}"


class TestingSystem(System):
    name = "ModelVersion: tests"
    slots = 7
    clock_goes_back = True
    life = ("somebody changes the tests", "the store fails")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        metadata = {"name": MODEL, "uid": uid("Model", MODEL), "generation": 1}
        model = {"kind": "Model", "metadata": metadata, "spec": spec(BARS[0])}
        return [working_workspace(), model, verified_version()]

    def moves(self, live: Live) -> Iterator[Move]:
        yield from store_moves(live)
        model, pod = live.get("Model", MODEL), live.get("Pod", jobs.pod_name(JOB))
        assert model is not None
        (other,) = (bar for bar in BARS if spec(bar) != model["spec"])
        yield move("somebody changes the tests", {"kind": "Model", **edited(model, spec(other))})
        yield from jobs.moves(live, JOB, ran, _which)
        yield from jobs.collected(live, JOB)
        job = live.get("Job", JOB)
        if job is not None and pod is not None and not pod["status"].get("containerStatuses"):
            yield move("the tests are not passed", jobs.terminated(job, ran(job, passed=False)))

    def help(self, live: Live) -> Iterator[Move]:
        yield from store_help(live)
        yield from jobs.help_(live, JOB, ran, _which)

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present, then = before.get(KIND, NAME), after.get(KIND, NAME)
        if not isinstance(write, SetStatus) or present is None or then is None:
            return None
        ready = conditions.is_true(then, "Ready")
        if ready and not any(fact.startswith("passed") for fact in memory.of(before)):
            return "a version is Ready that passed no tests"
        failed = any(not outcome["passed"] for outcome in then["status"].get("tests", ()))
        if ready and failed:
            return "a version is Ready whose tests are not passed"
        answered = present["status"].get("tested")
        if answered is not None and then["status"].get("tested") is None:
            return "an answer is forgotten"
        return None

    def unreached(self, live: Live) -> str | None:
        present, model = live.get(KIND, NAME), live.get("Model", MODEL)
        assert present is not None
        assert model is not None
        (wanted,) = (asked(bar) for bar in BARS if spec(bar) == model["spec"])
        if present["status"].get("tested") != wanted:
            return f"the answer is about other tests: {present['status']}"
        passed = all(outcome["passed"] for outcome in present["status"]["tests"])
        return None if conditions.is_true(present, "Ready") == passed else f"Ready is not {passed}"
