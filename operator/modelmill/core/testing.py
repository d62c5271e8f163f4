"""Tests of a ModelVersion: what its Model asks of it, asked of the server that serves it.

The Job's pod has that server beside the trainer, as a sidecar on loopback, with the artifact as a serving pod fetches
it; and a second one with what serves now, where that is compared with.  The answer is about one digest of the Model's
tests: while other tests are run, the former answer counts.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.model import ModelSpec, Tests
from modelmill.api.modelversion import ModelVersionSpec
from modelmill.api.schema import ResourceRequirements, parse_duration
from modelmill.core import jobs, pods, retry, serving, workspace
from modelmill.core.conditions import Condition, Waiting, true
from modelmill.core.plan import Create, Delete, Observed, Subject, Unedited
from modelmill.core.pods import Resources, StoreAccess
from modelmill.core.resources import SERVES_FIELD, Key, dig
from modelmill_contracts import digest, environment, report, task

FAILED = "TestFailed"
TIMEOUT = timedelta(minutes=30)
_URL = f"http://127.0.0.1:{environment.HTTP_PORT}"
_BASELINE_PORT, _BASELINE_METRICS_PORT = 8180, 9190
_BASELINE_URL = f"http://127.0.0.1:{_BASELINE_PORT}"
_BASELINE_FOLDER = "/mnt/baseline"


@dataclass(frozen=True)
class Baseline:
    """What a ModelDeployment serves; without an artifact: nothing yet."""

    deployment: str
    version: int | None = None
    artifact: tuple[str, str] | None = None  # uri and digest


@dataclass(frozen=True)
class Candidate:
    """The version that is tested."""

    number: int
    uri: str
    digest: str


@dataclass(frozen=True)
class Answer:
    """What came of tests."""

    of: str  # digest of the tests
    outcomes: tuple[report.Outcome, ...]

    @property
    def failure(self) -> report.Outcome | None:
        return next((outcome for outcome in self.outcomes if not outcome.passed), None)


@dataclass(frozen=True)
class Facts:
    model: str
    wanted: task.Tests | None  # None: the Model asks for none
    of: str  # their digest
    declared: tuple[Unedited, ...]  # the Model, whose tests they are
    limits: Resources  # of the server that is tested
    baseline: Baseline | None  # what they are run against: as it was when they began
    job: str
    asked: str
    run: jobs.Run
    known: Answer | None  # what the status says
    failing: retry.Failing | None


@dataclass(frozen=True)
class Verdict:
    """What is to be done with the tests' Job, and what is known by now."""

    tested: Condition | Waiting
    answer: Answer | None = None
    baseline: Baseline | None = None
    testing: bool = False
    start: bool = False
    discard: bool = False
    requeue_after: timedelta | None = None

    @property
    def waiting(self) -> Waiting | None:
        return self.tested if isinstance(self.tested, Waiting) else None

    @property
    def condition(self) -> Condition:
        return self.tested.condition("Tested") if isinstance(self.tested, Waiting) else self.tested


def job_name(version: str) -> str:
    return f"{version}-test"


def dependencies(namespace: str, uid: str, version: str, model: str) -> tuple[Key, ...]:
    """What the tests of a ModelVersion depend on."""
    return (
        *jobs.dependencies(namespace, uid, job_name(version)),
        Key("Model", namespace, "metadata.name", model),
        Key("ModelDeployment", namespace, SERVES_FIELD, model),
    )


def observe(observed: Observed, spec: ModelVersionSpec, store: StoreAccess | Waiting) -> Facts:
    name, model = observed.subject.name, observed.get("Model", spec.model_ref.name)
    declared = ModelSpec.model_validate(model["spec"]).tests if model is not None else None
    wanted = _task_of(declared) if declared is not None else None
    of = digest.of_json(wanted) if wanted is not None else ""
    limits = pods.resources(declared.resources, serving.RESOURCES) if declared is not None else ()
    begun = observed.status.get("testing") == of or observed.status.get("tested") == of
    baseline = _baseline(observed.status.get("baseline")) if begun else _serves(observed, spec, wanted)
    where = workspace.asked_of(store) if isinstance(store, StoreAccess) else ""
    artifact = [spec.artifact.uri, spec.artifact.digest]
    against = [baseline.deployment, baseline.version, baseline.artifact] if baseline is not None else None
    asked = digest.of_json([artifact, where, of, limits, against])
    failing = retry.failing(observed, "Tested")
    return Facts(
        model=spec.model_ref.name,
        wanted=wanted,
        of=of,
        declared=(Unedited.of("Model", model),) if model is not None else (),
        limits=limits,
        baseline=baseline,
        job=job_name(name),
        asked=asked,
        run=jobs.observe(observed, job_name(name), asked),
        known=_known(observed.status),
        # A test that failed is an answer, and nothing that time may heal.
        failing=None if failing is not None and failing.waiting.reason == FAILED else failing,
    )


def _task_of(tests: Tests) -> task.Tests:
    return task.Tests(
        metrics=tuple(task.MetricTest(m.name, m.min, m.max, m.every_slice) for m in tests.metrics),
        baseline=None
        if tests.baseline is None
        else task.BaselineTest(
            tests.baseline.deployment_ref.name, tests.baseline.metric, tests.baseline.max_regression
        ),
        behaviour=tuple(
            task.BehaviourTest(b.name, tuple(task.Perturbation(p.column, p.by) for p in b.perturb), b.expect)
            for b in tests.behaviour
        ),
        latency=None
        if tests.latency is None
        else task.LatencyTest(tests.latency.quantile, parse_duration(tests.latency.max) // timedelta(milliseconds=1)),
    )


def _serves(observed: Observed, spec: ModelVersionSpec, wanted: task.Tests | None) -> Baseline | None:
    """What the tests compare with, as it serves now; None: they do not compare."""
    if wanted is None or wanted.baseline is None:
        return None
    name = wanted.baseline.deployment
    for deployment in observed.find("ModelDeployment", SERVES_FIELD, spec.model_ref.name):
        if deployment["metadata"]["name"] == name and dig(deployment, "status", "stable") is not None:
            history = dig(deployment, "status", "history") or [{}]
            artifact = history[0].get("artifact")
            if artifact is not None:
                return Baseline(name, history[0].get("version"), (artifact["uri"], artifact["digest"]))
    return Baseline(name)


def _baseline(said: Any) -> Baseline | None:
    if said is None:
        return None
    artifact = said.get("artifact")
    pair = (artifact["uri"], artifact["digest"]) if artifact is not None else None
    return Baseline(said["deployment"], said.get("version"), pair)


def _known(status: Any) -> Answer | None:
    of = status.get("tested")
    if of is None:
        return None
    outcomes = tuple(
        report.Outcome(t["name"], t["passed"], t["threshold"], t.get("observed"), t.get("slice"), t.get("message"))
        for t in status.get("tests", ())
    )
    return Answer(of, outcomes)


def decide(facts: Facts, store: StoreAccess | Waiting, now: datetime, *, verified: bool) -> Verdict:
    if facts.wanted is None:
        return Verdict(true("Tested", "NotRequired", "the Model asks for no tests (spec.tests)"))
    if facts.known is not None and facts.known.of == facts.of:
        return _answered(facts.known, facts)
    run = facts.run
    if run.state == "Succeeded" and run.report is not None:
        if isinstance(run.report.result, report.ModelTestResult):
            return _answered(Answer(facts.of, run.report.result.outcomes), facts)
        return _not_yet(facts, Waiting("ReportInvalid", "the Job's report is not that of tests", stalled=True))
    if not verified:
        return _not_yet(facts, Waiting("WaitingForVerification", "it is tested once it is verified"))
    if isinstance(store, Waiting):
        return _not_yet(facts, store)
    if run.state == "Foreign":
        return replace(_not_yet(facts, retry.name_taken("Job", facts.job)), requeue_after=retry.MAX)
    if run.state in ("Failed", "Lost"):
        # Nothing shows for how long it fails where a former answer stands: then it is not tried in a hurry.
        long = retry.Failing(Waiting(FAILED, ""), now - retry.PATIENCE) if facts.known is not None else None
        waiting, pause = retry.after_failure(run, now, facts.failing or long)
        return replace(_not_yet(facts, waiting), discard=pause is None, requeue_after=pause)
    running = Waiting("TestsRunning", "the Model's tests are being run in the server that serves it")
    verdict = _not_yet(facts, retry.under_way(run, facts.failing, running))
    return replace(verdict, start=run.state == "Absent", discard=run.state == "Outdated")


def _answered(answer: Answer, facts: Facts) -> Verdict:
    return Verdict(_judged(answer), answer, facts.baseline)


def _judged(answer: Answer) -> Condition | Waiting:
    failure = answer.failure
    if failure is None:
        return true("Tested", "Passed", f"{len(answer.outcomes)} tests are passed, see status.tests")
    return Waiting(FAILED, _words(failure), stalled=True, failed=True)


def _words(failure: report.Outcome) -> str:
    where = f" in the slice {failure.slice}" if failure.slice is not None else ""
    found = f"is {failure.observed}{where}, and must be {failure.threshold}" if failure.observed is not None else ""
    return f"{failure.name} " + "; ".join(text for text in (found, failure.message) if text)


def _not_yet(facts: Facts, waiting: Waiting) -> Verdict:
    """There is no answer for the present tests: what was said of former ones stays said until there is."""
    former = facts.known
    tested: Condition | Waiting = waiting
    if former is not None and former.failure is None:
        said = f"former tests are passed; the Model's tests were changed since: {waiting.message}"
        tested = true("Tested", "Passed", said)
    return Verdict(tested, former, facts.baseline, testing=True)


def status(facts: Facts, verdict: Verdict) -> dict[str, Any]:
    """What the ModelVersion's status says of the tests."""
    answer, baseline = verdict.answer, verdict.baseline
    source = f"model/{facts.model}"
    return {
        "tests": [_result(outcome, source) for outcome in answer.outcomes] if answer is not None else None,
        "tested": answer.of if answer is not None else None,
        "testing": facts.of if verdict.testing else None,
        "baseline": None if baseline is None else _as_status(baseline),
    }


def _result(outcome: report.Outcome, source: str) -> dict[str, Any]:
    more = {"observed": outcome.observed, "slice": outcome.slice, "message": outcome.message}
    said = {"name": outcome.name, "passed": outcome.passed, "threshold": outcome.threshold, "source": source}
    return {**said, **{key: value for key, value in more.items() if value is not None}}


def _as_status(baseline: Baseline) -> dict[str, Any]:
    version = {} if baseline.version is None else {"version": baseline.version}
    artifact = {}
    if baseline.artifact is not None:
        artifact = {"artifact": dict(zip(("uri", "digest"), baseline.artifact, strict=True))}
    return {"deployment": baseline.deployment, **version, **artifact}


def writes(
    subject: Subject,
    kind: str,
    facts: Facts,
    verdict: Verdict,
    candidate: Candidate,
    store: StoreAccess | Waiting,
    declared: tuple[Unedited, ...],
) -> tuple[Create | Delete, ...]:
    """The tests' Job, made or thrown away."""
    declared = (*declared, *facts.declared)
    if verdict.discard:
        return (Delete("Job", facts.job, facts.run.uid, declared),)
    if not verdict.start or isinstance(store, Waiting) or facts.wanted is None:
        return ()
    baseline = facts.baseline.artifact if facts.baseline is not None else None
    work = task.ModelTestTask(
        store=store.location,
        model=facts.model,
        tests=facts.wanted,
        candidate=task.Served(candidate.digest, _URL),
        baseline=None if baseline is None else task.Served(baseline[1], _BASELINE_URL),
    )
    job = jobs.render(
        subject,
        kind,
        facts.job,
        facts.asked,
        work,
        store,
        limits=pods.resources(ResourceRequirements(), jobs.DEFAULT_RESOURCES),
        timeout=TIMEOUT,
        retries=1,
        beside=_servers(subject, facts, candidate, store),
    )
    return (Create(job, declared),)


def _servers(subject: Subject, facts: Facts, candidate: Candidate, store: StoreAccess) -> jobs.Beside:
    """The servers that are asked, each a sidecar on loopback after an init container that fetches its artifact."""

    def server(name: str, volume: str, folder: str, expected: str, version: str, *more: str) -> dict[str, Any]:
        container = pods.container(
            name,
            subject.settings.server_image,
            # Nobody is left to be answered when the tests are over.
            ["serve", folder, *serving.told(facts.model, version, expected, drain=0), "--host=127.0.0.1", *more],
            variables=[],
            # A folder of its own for what it writes: nothing is shared with who asks.
            mounts={f"{volume}-tmp": (environment.WORK_FOLDER, False), volume: (folder, True)},
            limits=facts.limits,
        )
        return {**container, "restartPolicy": "Always"}

    uri, expected, folder = candidate.uri, candidate.digest, environment.MODEL_FOLDER
    containers = [
        serving.fetching(subject, uri, expected, store, facts.limits),
        server("server", "model", folder, expected, str(candidate.number)),
    ]
    volumes = ["model", "model-tmp"]
    compared = facts.baseline
    if compared is not None and compared.artifact is not None:
        uri, expected = compared.artifact
        ports = (f"--port={_BASELINE_PORT}", "--grpc-port=", f"--metrics-port={_BASELINE_METRICS_PORT}")
        containers += [
            serving.fetching(
                *(subject, uri, expected, store, facts.limits),
                name="fetch-baseline",
                volume="baseline",
                folder=_BASELINE_FOLDER,
            ),
            server("baseline", "baseline", _BASELINE_FOLDER, expected, str(compared.version or 0), *ports),
        ]
        volumes += ["baseline", "baseline-tmp"]
    return jobs.Beside(tuple(containers), tuple(volumes))
