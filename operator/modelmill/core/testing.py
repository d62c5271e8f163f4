"""Tests of a ModelVersion: what its Model asks of it, asked of the server that serves it.

The Job's pod has that server beside the trainer, as a sidecar on loopback, with the artifact as a serving pod fetches
it; and a second one with what serves now, where that is compared with.  The answer is about one digest of the Model's
tests, what was compared with, and the server's image.

the Model's tests change          -> each version is tested again; the former answer counts until then
                                     (what its use case requires is among them)
nobody knows what is required     -> nothing is tested until somebody does; the former answer counts until then
what serves, or the image changes -> so is the newest version, unless it is served; older ones keep their answers, or a
                                     new release of the operator would test every version that there is
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from modelmill.api.model import Governance, LatencyTest, ModelSpec, RequiredLatency, Tests
from modelmill.api.modelversion import ModelVersionSpec
from modelmill.api.schema import ResourceRequirements, parse_duration
from modelmill.core import governance, jobs, pods, requirement, retry, serving, workspace
from modelmill.core.conditions import Condition, Waiting, timestamp, true
from modelmill.core.plan import Create, Delete, Observed, Subject, Unedited
from modelmill.core.pods import Resources, StoreAccess
from modelmill.core.resources import SERVES_FIELD, Key, Manifest, dig
from modelmill_contracts import digest, environment, report, task

FAILED = "TestFailed"
TIMEOUT = timedelta(minutes=30)
_OTHER_IMAGE, _OTHER_BASELINE = "the server's image has changed since", "what serves has changed since"
_OF_MODEL = "model/"
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
class Result:
    """What came of one test."""

    outcome: report.Outcome
    source: str = ""  # who asked, besides the Model


@dataclass(frozen=True)
class Answer:
    """What came of tests."""

    of: str  # digest of the tests
    results: tuple[Result, ...]
    image: str | None = None  # of the server; None: nobody wrote it down
    at: str | None = None  # when it was given

    @property
    def failure(self) -> Result | None:
        return next((result for result in self.results if not result.outcome.passed), None)


@dataclass(frozen=True)
class Facts:
    model: str
    wanted: task.Tests | None  # None: the Model asks for none
    refused: Waiting | None  # why nobody knows what is wanted
    of: str  # their digest
    declared: tuple[Unedited, ...]  # the Model, whose tests they are
    limits: Resources  # of the server that is tested
    image: str  # of that server
    baseline: Baseline | Waiting | None  # what they are run against: as it was when they began
    job: str
    asked: str
    run: jobs.Run
    known: Answer | None  # what the status says
    changed: str  # why what is known is no answer any more; "": it is one
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
    asks = governance.for_tests(model)
    refused = asks if isinstance(asks, Waiting) else None
    wanted = _wanted(declared, None if isinstance(asks, Waiting) else asks) if refused is None else None
    of = digest.of_json(wanted) if wanted is not None else ""
    limits: Resources = ()
    if declared is not None or wanted is not None:
        limits = pods.resources(declared.resources if declared else ResourceRequirements(), serving.RESOURCES)
    known, image = _known(observed.status), observed.subject.settings.server_image
    said, testing = _baseline(observed.status.get("baseline")), observed.status.get("testing")
    serves = _serves(observed, spec, wanted)
    changed = _changed(known, testing, of, serves, image)
    if not changed and testing is None and _may_change(observed, spec, model):
        changed = _changed_around(known, said, serves, image, spec.artifact.digest)
    begun = testing == of and (said is not None or serves is None)
    baseline = said if begun or not changed else serves
    where = workspace.asked_of(store) if isinstance(store, StoreAccess) else ""
    artifact = [spec.artifact.uri, spec.artifact.digest]
    against = [baseline.deployment, baseline.version, baseline.artifact] if isinstance(baseline, Baseline) else None
    asked = digest.of_json([artifact, where, of, limits, against, image])
    failing = retry.failing(observed, "Tested")
    return Facts(
        model=spec.model_ref.name,
        wanted=wanted,
        refused=refused,
        of=of,
        declared=(Unedited.of("Model", model),) if model is not None else (),
        limits=limits,
        image=image,
        baseline=baseline,
        job=job_name(name),
        asked=asked,
        run=jobs.observe(observed, job_name(name), asked),
        known=known,
        changed=changed,
        # A test that failed is an answer, and nothing that time may heal.
        failing=None if failing is not None and failing.waiting.reason == FAILED else failing,
    )


def _wanted(declared: Tests | None, asks: Governance | None) -> task.Tests | None:
    """What the Model and its use case ask; what both ask is asked once, for the use case."""
    own = _task_of(declared) if declared is not None else task.Tests()
    if asks is None:
        return own if declared is not None else None
    required = tuple(requirement.test_of(metric, asks.name) for metric in asks.metrics)
    twice = {(test.name, test.min, test.max, test.every_slice) for test in required}
    metrics = tuple(t for t in own.metrics if (t.name, t.min, t.max, t.every_slice) not in twice)
    source = requirement.source(asks.name)
    latencies = tuple(_latency(latency, source) for latency in asks.latency)
    wanted = structs.replace(own, metrics=(*metrics, *required), required_latencies=latencies)
    return wanted if wanted != task.Tests() else None


def _latency(bound: LatencyTest | RequiredLatency, source: str = "") -> task.LatencyTest:
    return task.LatencyTest(bound.quantile, parse_duration(bound.max) // timedelta(milliseconds=1), source)


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
        latency=None if tests.latency is None else _latency(tests.latency),
    )


def _serves(observed: Observed, spec: ModelVersionSpec, wanted: task.Tests | None) -> Baseline | Waiting | None:
    """What the tests compare with, as it serves now; None: they do not compare."""
    if wanted is None or wanted.baseline is None:
        return None
    name, model = wanted.baseline.deployment, spec.model_ref.name
    for deployment in observed.find("ModelDeployment", SERVES_FIELD, model):
        if deployment["metadata"]["name"] == name:
            history = dig(deployment, "status", "history") or [{}]
            artifact = history[0].get("artifact")
            if artifact is None or dig(deployment, "status", "stable") is None:
                return Baseline(name)
            return Baseline(name, history[0].get("version"), (artifact["uri"], artifact["digest"]))
    return Waiting(
        "ModelDeploymentNotFound",
        f"there is no ModelDeployment {name} of Model {model} (spec.model.name) in this namespace yet, which its"
        " spec.tests.baseline compares with; create it, or mend spec.tests.baseline.deploymentRef of the Model",
    )


def _changed(known: Answer | None, testing: str | None, of: str, serves: Baseline | Waiting | None, image: str) -> str:
    """Why the tests that are asked for have no answer, or are being run again; "": they have one."""
    if known is None or known.of != of:
        return "the Model's tests were changed since"
    if testing == of and known.image not in (None, image):
        return _OTHER_IMAGE
    # What the status says of the baseline is about the tests that were begun last, be they others or the same again.
    return _OTHER_BASELINE if testing == of or (testing is not None and serves is not None) else ""


def _may_change(observed: Observed, spec: ModelVersionSpec, model: Manifest | None) -> bool:
    """Whether what is around the version makes it be tested again: it is the Model's newest, and nobody serves it."""
    if spec.version != dig(model, "status", "lastVersion"):
        return False
    deployments = observed.find("ModelDeployment", SERVES_FIELD, spec.model_ref.name)
    arms = (dig(one, "status", arm, "version") for one in deployments for arm in ("stable", "candidate"))
    return spec.version not in arms


def _changed_around(
    known: Answer | None, said: Baseline | None, serves: Baseline | Waiting | None, image: str, artifact: str
) -> str:
    """Why what is known was found out in other circumstances; "": in the same, as far as that was written down."""
    if isinstance(serves, Waiting):
        return ""  # nothing could be found out
    if known is not None and known.image not in (None, image):
        return _OTHER_IMAGE
    if serves is not None and serves.artifact is not None and serves.artifact[1] != artifact:
        before = said.artifact[1] if said is not None and said.artifact is not None else None
        return _OTHER_BASELINE if serves.artifact[1] != before else ""
    return ""


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
    results = tuple(
        Result(
            report.Outcome(t["name"], t["passed"], t["threshold"], t.get("observed"), t.get("slice"), t.get("message")),
            "" if t["source"].startswith(_OF_MODEL) else t["source"],
        )
        for t in status.get("tests", ())
    )
    return Answer(of, results, status.get("testedImage"), status.get("testedAt"))


def _results(wanted: task.Tests, outcomes: tuple[report.Outcome, ...]) -> tuple[Result, ...]:
    """The outcomes with who asked; one for each test, in their order, unless the model answered none of them."""
    tests = wanted.in_order
    if len(outcomes) != len(tests):
        return tuple(Result(outcome) for outcome in outcomes)
    return tuple(
        Result(
            structs.replace(outcome, name=outcome.name or test.title, threshold=outcome.threshold or test.threshold),
            getattr(test, "source", ""),
        )
        for test, outcome in zip(tests, outcomes, strict=True)
    )


def decide(facts: Facts, store: StoreAccess | Waiting, now: datetime, *, verified: bool) -> Verdict:
    if facts.refused is not None:
        return _as_it_was(facts, facts.refused)
    if facts.wanted is None:
        return Verdict(true("Tested", "NotRequired", "the Model asks for no tests (spec.tests)"))
    if facts.known is not None and not facts.changed:
        return _answered(facts.known, facts)
    if isinstance(facts.baseline, Waiting):
        return _not_yet(facts, facts.baseline)
    return _run(facts, store, now, verified=verified)


def _run(facts: Facts, store: StoreAccess | Waiting, now: datetime, *, verified: bool) -> Verdict:
    """What came of the Job, or what is to be done with it."""
    run = facts.run
    if run.state == "Succeeded" and run.report is not None:
        if isinstance(run.report.result, report.ModelTestResult):
            at = timestamp(run.ended or now)
            results = _results(facts.wanted or task.Tests(), run.report.result.outcomes)
            return _answered(Answer(facts.of, results, facts.image, at), facts)
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
    baseline = _begun_with(facts)
    return Verdict(_judged(answer, baseline), answer, baseline)


def _begun_with(facts: Facts) -> Baseline | None:
    return None if isinstance(facts.baseline, Waiting) else facts.baseline


def _judged(answer: Answer, baseline: Baseline | None) -> Condition | Waiting:
    failure = answer.failure
    if failure is None:
        said = f"{len(answer.results)} tests are passed, see status.tests"
        if baseline is not None and baseline.artifact is None:
            said += f"; ModelDeployment {baseline.deployment} served nothing that it could be compared with"
        return true("Tested", "Passed", said)
    return Waiting(FAILED, _words(failure), stalled=True, failed=True)


def _as_it_was(facts: Facts, refused: Waiting) -> Verdict:
    """Nobody knows what is to be tested: what was said before stays said."""
    former, tested = facts.known, refused
    if former is None:
        return Verdict(tested)
    if former.failure is not None:
        return Verdict(_judged(former, _begun_with(facts)), former, _begun_with(facts))
    return Verdict(true("Tested", "Passed", f"former tests are passed; {refused.message}"), former, _begun_with(facts))


def _words(failure: Result) -> str:
    outcome = failure.outcome
    where = f" in the slice {outcome.slice}" if outcome.slice is not None else ""
    found = f"is {outcome.observed}{where}, and must be {outcome.threshold}" if outcome.observed is not None else ""
    asked_by = f" ({failure.source} requires it)" if failure.source else ""
    return f"{outcome.name} " + "; ".join(text for text in (found, outcome.message) if text) + asked_by


def _not_yet(facts: Facts, waiting: Waiting) -> Verdict:
    """There is no answer for the present tests: what was said of former ones stays said until there is."""
    former = facts.known
    tested: Condition | Waiting = waiting
    if former is not None and former.failure is None:
        said = f"former tests are passed; {facts.changed}: {waiting.message}"
        tested = true("Tested", "Passed", said)
    return Verdict(tested, former, _begun_with(facts), testing=True)


def status(facts: Facts, verdict: Verdict) -> dict[str, Any]:
    """What the ModelVersion's status says of the tests."""
    answer, baseline = verdict.answer, verdict.baseline
    source = f"{_OF_MODEL}{facts.model}"
    return {
        "tests": [_result(result, source) for result in answer.results] if answer is not None else None,
        "tested": answer.of if answer is not None else None,
        "testedImage": answer.image if answer is not None else None,
        "testedAt": answer.at if answer is not None else None,
        "testing": facts.of if verdict.testing else None,
        "baseline": None if baseline is None else _as_status(baseline),
    }


def _result(result: Result, model: str) -> dict[str, Any]:
    outcome = result.outcome
    more = {"observed": outcome.observed, "slice": outcome.slice, "message": outcome.message}
    said = {"name": outcome.name, "passed": outcome.passed, "threshold": outcome.threshold}
    said["source"] = result.source or model
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
    begun_with = _begun_with(facts)
    baseline = begun_with.artifact if begun_with is not None else None
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
            facts.image,
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
    compared = _begun_with(facts)
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
