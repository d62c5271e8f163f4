"""A story in which every condition of every kind gets every status that it can have.

Chapter by chapter: nothing works without a store; the store; data; training; versions; serving; names that are
taken; children that are refused; rest; specs that nobody has seen; the end.
"""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubelet
from conftest import Operator
from recording import PLURALS, Checkpoint, Manifest, Recorder, Recording

from live import API_VERSION, Kubectl, eventually, kubectl_program
from modelmill_contracts.report import (
    CollectResult,
    Metric,
    MirroredRun,
    MirrorResult,
    ModelTestResult,
    Outcome,
    PreflightResult,
    Problem,
    Report,
    SearchPageResult,
    SnapshotResult,
    StoppedResult,
    TrainingResult,
    VerificationResult,
)

Start = Callable[..., Operator]
HEADLINE = dict.fromkeys(("TrainingJob", "Experiment", "PipelineRun"), "Succeeded")  # every other kind has Ready


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def made(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def workspace(endpoint: str = "http://store:7070", **more: Any) -> Manifest:
    return made("Workspace", "default", {"store": {"uri": "s3://models", "endpoint": endpoint}, **more})


def dataset(name: str, **more: Any) -> Manifest:
    return made("Dataset", name, {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}, **more})


def training(name: str, **more: Any) -> Manifest:
    steps = [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]
    data = {"datasetRef": {"name": "tumours"}, "target": "benign"}
    return made("TrainingJob", name, {"data": data, "estimator": {"steps": steps}, **more})


def search(name: str, *, most: int = 1, suspend: bool = False, **more: Any) -> Manifest:
    spec = {
        "objective": {"metric": "roc_auc"},
        "search": {"algorithm": "Random"},
        "parameters": [{"param": "lr__C", "float": {"min": "0.1", "max": "1"}}],
        "trials": {"max": most, "maxFailed": 0},
        "template": {"spec": training("lr", **more)["spec"]},
        "suspend": suspend,
    }
    return made("Experiment", name, {**spec, **({"promote": "Best"} if "modelRef" in more else {})})


def version(model: str, number: int) -> Manifest:
    artifact = {"uri": "s3://models/artifacts/x", "digest": digest("1")}
    return made(
        "ModelVersion", f"{model}-{number}", {"modelRef": {"name": model}, "version": number, "artifact": artifact}
    )


def model_with_test(name: str, least: str, **more: Any) -> Manifest:
    return made("Model", name, {"tests": {"metrics": [{"name": "roc_auc", "min": least}], **more}})


def tested(observed: str, *, passed: bool) -> Report:
    return Report(True, "TestsRun", result=ModelTestResult((Outcome("roc_auc", passed, ">= it", observed),)))


QUALITY: Manifest = {"name": "quality", "metric": {"name": "roc_auc", "min": "0.9"}}


def use_case(name: str, requirements: list[Manifest], **more: Any) -> Manifest:
    return made("UseCase", name, {"owner": "ana@example.org", "requirements": requirements, **more})


def approval(name: str, of: str, by: str, letter: str = "1", decision: str = "Approve") -> Manifest:
    spec = {"modelVersionRef": {"name": of}, "digest": digest(letter), "decision": decision, "by": by}
    return made("ModelApproval", name, spec)


def deployment(name: str, model: Manifest | None = None, **more: Any) -> Manifest:
    fixed = {"uri": "s3://models/artifacts/x", "digest": digest("1")}
    return made("ModelDeployment", name, {"model": model or fixed, **more})


def pipeline(name: str, *triggers: Manifest, **more: Any) -> Manifest:
    steps = [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]
    data = {"datasetRef": {"name": "tumours"}, "target": "benign"}
    stages = [{"name": "train", "trainingJob": {"spec": {"data": data, "estimator": {"steps": steps}}}}]
    named = [{"name": f"trigger-{number}", **trigger} for number, trigger in enumerate(triggers)]
    return made("Pipeline", name, {"triggers": named, "stages": stages, **more})


def run(name: str, of: str, **more: Any) -> Manifest:
    return made("PipelineRun", name, {"pipelineRef": {"name": of}, **more})


STORE_WORKS = Report(True, "StoreWorks", result=PreflightResult(("write", "read", "delete")))
STORE_IS_OURS = Report(True, "StoreWorks", result=PreflightResult(("write", "read", "delete"), owned=True))
COLLECTED = Report(True, "Collected", result=CollectResult(moved=2, restored=0, deleted=1, freed=4711))
MLFLOW_IS_AWAY = Report(False, "MlflowUnreachable", "no answer from http://mlflow:5000", retryable=True)
SHOWN = Report(True, "Mirrored", result=MirrorResult((MirroredRun("4f00"),) * 50))
TAKEN = (  # an object, and its child whose name somebody else has
    ("Dataset", "taken", "job/taken-data"),
    ("TrainingJob", "taken", "job/taken-train"),
    ("ModelVersion", "taken-1", "job/taken-1-verify"),
    ("ModelDeployment", "taken", "service/taken"),
)
STORE_FAILS = Report(
    False, "StoreUnreachable", "nothing answers at http://store:7070; check spec.store.endpoint", retryable=True
)
STORE_REFUSES = Report(False, "StoreRefused", "the key is not taken; check spec.store.secretRef")
NO_SOURCE = Report(False, "SourceNotFound", "there is no ConfigMap tumours; create it")
BAD_DATA = Report(
    False,
    "DataInvalid",
    "1 rule is violated; see status.problems",
    problems=(Problem("minRows", "has 3 rows, not 10"),),
)
TRAINED = Report(
    True,
    "TrainingSucceeded",
    result=TrainingResult(digest("c"), digest("1"), "s3://models/artifacts/x", "onnx", (Metric("roc_auc", "0.99"),)),
)
TRAINED_OTHERWISE = Report(
    True,
    "TrainingSucceeded",
    result=TrainingResult(digest("c"), digest("2"), "s3://models/artifacts/y", "onnx", (Metric("roc_auc", "0.99"),)),
)
NOT_TRAINED = Report(False, "TargetMissing", "there is no column benign; name one of the data's columns")
STOPPED = Report(
    True,
    "StoppedEarly",
    "after 1 of 3 folds roc_auc was 0.5, less than 0.9 (evaluation.stopping)",
    result=StoppedResult((Metric("roc_auc", "0.5"),), ("0.5",)),
)
PAGE = Report(True, "PageWritten", result=SearchPageResult(digest("9")))
VERIFIED = Report(True, "Verified", result=VerificationResult(digest("1"), (), (), 100))
OTHER_BYTES = Report(False, "DigestMismatch", "the artifact has another digest; name the right one")


def snapshot(letter: str, modified_at: str | None = None) -> Report:
    result = SnapshotResult(digest(letter), digest("b"), 569, 31, modified_at=modified_at)
    return Report(True, "SnapshotTaken", result=result)


class Scenario:
    """The story; each chapter leaves the namespace as the next one needs it."""

    def __init__(self, kubectl: Kubectl, operator: Start, folder: Path) -> None:
        self.kubectl = kubectl
        self._operator = operator
        self.recorder = Recorder(kubectl, folder)
        self.checkpoints: list[Checkpoint] = []
        self.waits_in_vain: dict[str, int] = {}
        self.waits: dict[str, int] = {}
        self.written_at_rest: list[str] = []
        self._audit = Path(kubectl.config).parent / "logs/audit.log"
        self._begun = datetime.now(UTC)

    def play(self) -> Recording:
        try:
            running = self._operator("first").active()
            self.without_a_store()
            self.the_store()
            self.collection()
            self.data()
            self.training()
            self.tracking()
            self.versions()
            self.experiments()
            self.tests()
            self.use_cases()
            self.approvals()
            self.serving()
            self.pipelines()
            self.names_that_are_taken()
            self.children_that_are_refused()
            running = self.rest(running)
            self.names_that_are_free()
            running = self.specs_that_nobody_has_seen(running)
            self.the_end()
            running.stop()
            recording = self.recorder.recording()
        finally:
            self.recorder.stop()
        recording.checkpoints = self.checkpoints
        recording.waits_in_vain, recording.waits = self.waits_in_vain, self.waits
        recording.written_at_rest = self.written_at_rest
        recording.status_writes = self._status_writes()
        return recording

    # What the chapters are told in.

    def stands(self, title: str, kind: str, name: str, stand: str) -> None:
        """Note what a person would say of the object now."""
        manifest = self.kubectl.get(kind, name)
        assert manifest is not None
        self.checkpoints.append(Checkpoint(title, manifest, stand))

    def comes(self, title: str, kind: str, name: str, stand: str, reason: str) -> None:
        """Wait until the object says so, and note it."""
        type_ = {"Stalled": "Stalled", "InProgress": "Reconciling"}.get(stand, HEADLINE.get(kind, "Ready"))
        status = "Unknown" if stand == "Suspended" else "True"
        self.kubectl.wait_for(kind, name, type_, status, reason=reason)
        self.stands(title, kind, name, stand)

    def ends(self, title: str, job: str, said: Report, kind: str, name: str, stand: str, reason: str = "") -> None:
        """End the Job's pods with that report until the object says what came of it."""
        decisive = {"Stalled": "Stalled", "InProgress": "Reconciling"}.get(stand, HEADLINE.get(kind, "Ready"))

        def told() -> bool:
            condition = self.kubectl.condition(kind, name, decisive)
            return condition.get("status") == "True" and reason in ("", condition["reason"])

        kubelet.end(self.kubectl, job, said, told, f"{kind}/{name} {decisive} {reason}")
        self.stands(title, kind, name, stand)

    def look_again(self, *names: str) -> None:
        self.kubectl.run("annotate", "--overwrite", *names, f"look={time.monotonic_ns()}")

    def theirs(self, child: str) -> None:
        """Somebody else's object, under a name that the operator would take."""
        kind, name = child.split("/")
        more = ("job", name, "--image=theirs") if kind == "job" else ("service", "clusterip", name, "--tcp=80:80")
        self.kubectl.run("create", *more)

    # The chapters.

    def without_a_store(self) -> None:
        self.kubectl.apply(
            made("Model", "other", {}),
            dataset("tumours"),
            training("lr", modelRef={"name": "triage"}),
            version("other", 1),
            deployment("fixed"),
            deployment("newest", {"name": "triage"}),
        )
        self.comes("a Model needs nothing", "Model", "other", "Done", "Numbering")
        self.comes("no Model to serve yet", "ModelDeployment", "newest", "InProgress", "ModelNotFound")
        for kind, name in (
            ("Dataset", "tumours"),
            ("TrainingJob", "lr"),
            ("ModelVersion", "other-1"),
            ("ModelDeployment", "fixed"),
        ):
            self.comes("no Workspace", kind, name, "Stalled", "WorkspaceNotFound")

    def the_store(self) -> None:
        self.theirs("job/default-preflight")
        self.kubectl.apply(workspace())
        self.comes("the Job's name is taken", "Workspace", "default", "Stalled", "NameConflict")
        self.kubectl.run("delete", "job", "default-preflight")
        self.look_again("workspace/default")
        # The store is tried again and again: a try that waits for a node must not be taken for the answer.
        for kind, name in (("Workspace", "default"), ("Dataset", "tumours")):
            job = "default-preflight"
            self.ends("the store is not there yet", job, STORE_FAILS, kind, name, "InProgress", "StoreUnreachable")
            self.ends("the store refuses the key", job, STORE_REFUSES, kind, name, "Stalled", "StoreRefused")
        self.kubectl.apply(workspace("http://store:7071"))
        self.ends("the store works", "default-preflight", STORE_WORKS, "Workspace", "default", "Done")

    def collection(self) -> None:
        """Nothing is collected where others may have left something; then it is asked again whose the store is."""
        store = {"uri": "s3://models", "endpoint": "http://store:7071", "collect": {"enabled": True}}
        self.kubectl.apply(made("Workspace", "default", {"store": store}))
        self.kubectl.wait_for("Workspace", "default", "Collected", "False", reason="StoreShared")
        self.kubectl.run("delete", "job", "default-preflight")
        for job, said, reasons in (
            ("default-preflight", STORE_IS_OURS, ("CollectionRunning", "Unschedulable")),
            ("default-collect", COLLECTED, ("Collected",)),
        ):

            def told(reasons: tuple[str, ...] = reasons) -> bool:
                return self.kubectl.condition("Workspace", "default", "Collected").get("reason") in reasons

            kubelet.end(self.kubectl, job, said, told, f"Workspace/default Collected {' or '.join(reasons)}")
        self.kubectl.wait_for("Workspace", "default", "Collected", "True", reason="Collected")
        self.stands("what nobody refers to was collected", "Workspace", "default", "Done")
        self.kubectl.apply(workspace("http://store:7071"))

    def data(self) -> None:
        self.ends("no source", "tumours-data", NO_SOURCE, "Dataset", "tumours", "Stalled", "SourceNotFound")
        self.comes("the data waits for a person", "TrainingJob", "lr", "Stalled", "DatasetNotReady")
        self.kubectl.apply(dataset("tumours", expectations={"minRows": 10}))
        self.ends("the data is bad", "tumours-data", BAD_DATA, "Dataset", "tumours", "Stalled", "DataInvalid")
        self.kubectl.apply(dataset("tumours", expectations={"minRows": 1}))
        self.ends("the data is good", "tumours-data", snapshot("a"), "Dataset", "tumours", "Done")
        self.kubectl.apply(dataset("tumours", expectations={"minRows": 2}))
        self.comes("other rules", "Dataset", "tumours", "Stalled", "Unschedulable")
        self.ends("other rules hold", "tumours-data", snapshot("d"), "Dataset", "tumours", "Done")
        self.kubectl.apply(dataset("old", expectations={"maxAge": "1h"}))
        of_2020 = snapshot("e", "2020-01-01T00:00:00Z")
        self.ends("the data is too old", "old-data", of_2020, "Dataset", "old", "Stalled", "DataStale")

    def training(self) -> None:
        self.comes("the Job's pod has no node", "TrainingJob", "lr", "Stalled", "Unschedulable")
        self.ends("trained", "lr-train", TRAINED, "TrainingJob", "lr", "Done")
        self.kubectl.apply(version("used", 999_999), training("late", modelRef={"name": "used"}))
        self.ends("trained, and no number is left", "late-train", TRAINED, "Model", "used", "Stalled", "NumbersUsedUp")
        self.kubectl.run("delete", "tjob/late", "mver/used-999999", "mdl/used")
        self.stands("made by the TrainingJob", "Model", "triage", "Done")
        self.kubectl.apply(training("later", suspend=True))
        self.comes("suspended", "TrainingJob", "later", "Suspended", "Suspended")
        self.kubectl.apply(training("later", suspend=False))
        self.ends("training failed", "later-train", NOT_TRAINED, "TrainingJob", "later", "Stalled", "TargetMissing")
        verdicts = (("same", TRAINED, "True"), ("other", TRAINED_OTHERWISE, "False"), ("once", NOT_TRAINED, "Unknown"))
        for name, again, same in verdicts:
            self.kubectl.apply(training(name, reproduce={"runs": 2}))
            for job, said in ((f"{name}-train", TRAINED), (f"{name}-again", again)):

                def has_ended(job: str = job) -> bool:
                    ended = self.kubectl.get("job", job)
                    said = ended["status"].get("conditions", ()) if ended is not None else ()
                    return any(condition["type"] in ("Complete", "Failed") for condition in said)

                kubelet.end(self.kubectl, job, said, has_ended, f"Job {job} has ended")
            self.kubectl.wait_for("TrainingJob", name, "Reproducible", same)
            self.comes("trained twice", "TrainingJob", name, "Done", "TrainingSucceeded")
        self.kubectl.apply(training("without-data", data={"datasetRef": {"name": "nowhere"}, "target": "benign"}))
        self.comes("no Dataset yet", "TrainingJob", "without-data", "InProgress", "DatasetNotFound")

    def tracking(self) -> None:
        """Runs that ended are shown in MLflow, which is away at first."""
        store = {"uri": "s3://models", "endpoint": "http://store:7071"}
        tracking = {"mlflow": {"uri": "http://mlflow:5000"}}
        self.kubectl.apply(made("Workspace", "default", {"store": store, "tracking": tracking}))
        for said, reason in ((MLFLOW_IS_AWAY, "MlflowUnreachable"), (SHOWN, "Mirrored")):

            def told(reason: str = reason) -> bool:
                return bool(self.kubectl.condition("Workspace", "default", "Mirrored").get("reason") == reason)

            kubelet.end(self.kubectl, "default-mirror", said, told, f"Workspace/default Mirrored {reason}")
            self.stands(f"Mirrored says {reason}", "Workspace", "default", "Done")
        run = self.kubectl.get("tjob", "lr")
        assert run is not None
        assert run["status"]["mlflow"] == {"run": "4f00"}
        self.kubectl.apply(workspace("http://store:7071"))

    def versions(self) -> None:
        self.ends("verified", "triage-1-verify", VERIFIED, "ModelVersion", "triage-1", "Done")
        self.ends("other bytes", "other-1-verify", OTHER_BYTES, "ModelVersion", "other-1", "Stalled", "DigestMismatch")

    def experiments(self) -> None:
        evaluation = {"metrics": ["roc_auc"], "crossValidation": 3}
        evaluation["stopping"] = {"metric": "roc_auc", "bounds": [{"folds": 1, "value": "0.9"}]}
        self.kubectl.apply(training("hopeless", evaluation=evaluation))
        self.ends("stopped early", "hopeless-train", STOPPED, "TrainingJob", "hopeless", "Done", "StoppedEarly")
        self.kubectl.apply(search("best", suspend=True, modelRef={"name": "best"}))
        self.comes("a suspended search", "Experiment", "best", "Suspended", "Suspended")
        self.kubectl.apply(search("best", modelRef={"name": "best"}))
        self.comes("its trial has no node", "Experiment", "best", "Stalled", "Unschedulable")
        self.promotes("best")

        def writes() -> bool:
            return self.kubectl.get("job", "best-page") is not None

        kubelet.end(self.kubectl, "best-best-1-train", TRAINED, writes, "a page is written")
        self.ends("it has ended", "best-page", PAGE, "Experiment", "best", "Done", "SearchEnded")
        self.kubectl.apply(search("unlucky", modelRef={"name": "unlucky"}))
        self.promotes("unlucky")
        job, said = "unlucky-best-1-train", "PromotionFailed"
        self.ends("the best one fails", job, NOT_TRAINED, "Experiment", "unlucky", "Stalled", said)
        self.kubectl.apply(search("plain"))

        def page() -> bool:
            return self.kubectl.get("job", "plain-page") is not None

        kubelet.end(self.kubectl, "plain-1-train", TRAINED, page, "a page is written")
        self.ends("there is no page", "plain-page", STORE_REFUSES, "Experiment", "plain", "Done", "SearchEnded")
        self.kubectl.apply(search("worst"))
        self.ends("its trials fail", "worst-1-train", NOT_TRAINED, "Experiment", "worst", "Stalled", "TrialsFailed")

    def promotes(self, search: str) -> None:
        """Its only trial ends well, and is promoted."""

        def promoting() -> bool:
            return self.kubectl.get("job", f"{search}-best-1-train") is not None

        kubelet.end(self.kubectl, f"{search}-1-train", TRAINED, promoting, f"{search} is promoted")
        self.comes("its promotion has no node", "Experiment", search, "Stalled", "Unschedulable")

    def tests(self) -> None:
        name, job = "tested-1", "tested-1-test"
        self.kubectl.apply(model_with_test("tested", "0.9"), version("tested", 1))

        def verified() -> bool:
            return self.kubectl.condition("ModelVersion", name, "Verified").get("status") == "True"

        kubelet.end(self.kubectl, f"{name}-verify", VERIFIED, verified, f"{name} is verified")
        self.comes("the tests' pod has no node", "ModelVersion", name, "Stalled", "Unschedulable")
        self.ends("the tests are passed", job, tested("0.95", passed=True), "ModelVersion", name, "Done")
        self.kubectl.apply(model_with_test("tested", "0.99"))
        failed = tested("0.95", passed=False)
        self.ends("other tests are not passed", job, failed, "ModelVersion", name, "Stalled", "TestFailed")
        baseline = {"deploymentRef": {"name": "tsted"}, "metric": "roc_auc", "maxRegression": "0.01"}
        self.kubectl.apply(model_with_test("tested", "0.99", baseline=baseline))
        missing = "ModelDeploymentNotFound"
        self.comes("what it is compared with is not there", "ModelVersion", name, "InProgress", missing)

    def use_cases(self) -> None:
        """From a promise that nobody is to keep to one that is kept; what is between needs a person, or time."""
        name = "triage"
        self.kubectl.apply(use_case(name, [QUALITY]), made("Model", "governed", {"useCaseRef": {"name": "later"}}))
        self.comes("no Model refers to it", "UseCase", name, "InProgress", "ModelNotFound")
        self.comes("no use case yet", "Model", "governed", "InProgress", "UseCaseNotFound")
        self.kubectl.run("delete", "usecase", name)
        name = "later"
        self.kubectl.apply(use_case(name, [QUALITY], data=[{"datasetRef": {"name": "tumours"}}]))
        self.comes("nothing was trained for it", "UseCase", name, "InProgress", "NoReadyVersion")
        self.comes("its Model reads it", "Model", "governed", "Done", "Numbering")
        self.kubectl.apply(use_case(name, [QUALITY], data=[{"datasetRef": {"name": "tumours"}, "minRows": 1000}]))
        self.comes("there is too little data", "UseCase", name, "Stalled", "TooFewRows")
        self.kubectl.apply(use_case(name, [QUALITY, {"name": "b", "metric": {"name": "roc_auc", "max": "0.5"}}]))
        self.comes("no model meets both", "UseCase", name, "Stalled", "RequirementsContradict")
        self.comes("nor does its Model know how", "Model", "governed", "Stalled", "UseCaseInvalid")
        self.kubectl.apply(use_case(name, []))
        self.comes("nothing was promised", "UseCase", name, "Done", "NothingRequired")
        self.kubectl.run("delete", f"usecase/{name}", "model/governed")

    def approvals(self) -> None:
        by = self.kubectl.user()
        self.kubectl.apply(
            made("Model", "asking", {"approval": "Manual"}),
            version("asking", 1),
            approval("other", "asking-1", by, letter="2"),
            approval("early", "asking-2", by),
        )
        self.comes("a decision on other bytes", "ModelApproval", "other", "Stalled", "OtherDigest")
        self.comes("there is no such version yet", "ModelApproval", "early", "InProgress", "ModelVersionNotFound")
        job, name = "asking-1-verify", "asking-1"
        self.ends("it waits for an approval", job, VERIFIED, "ModelVersion", name, "InProgress", "WaitingForApproval")
        self.kubectl.apply(approval("yes", name, by))
        self.comes("approved", "ModelVersion", name, "Done", "Approved")
        self.comes("the approval counts", "ModelApproval", "yes", "Done", "Counts")
        self.kubectl.run("delete", "modelapproval/yes")
        self.comes("the approval was withdrawn", "ModelVersion", name, "Stalled", "ApprovalWithdrawn")
        self.kubectl.apply(approval("no", name, by, decision="Reject"))
        self.comes("rejected", "ModelVersion", name, "Stalled", "Rejected")
        self.kubectl.apply(approval("late", name, by))
        self.comes("a rejection is final", "ModelApproval", "late", "Stalled", "VersionRejected")
        unknown = {"uri": "s3://models/artifacts/y", "digest": digest("9")}
        versions_only = workspace("http://store:7071", allow={"artifacts": "ReadyVersions"})
        self.kubectl.apply(versions_only, deployment("unknown", unknown))
        self.comes("an artifact of no version", "ModelDeployment", "unknown", "Stalled", "ArtifactNotAllowed")
        self.kubectl.run("delete", "modeldeployment/unknown")
        self.kubectl.apply(workspace("http://store:7071"))

    def serving(self) -> None:
        for name in ("newest", "fixed"):
            self.comes("no node takes the pod", "ModelDeployment", name, "Stalled", "Unschedulable")
            self.serves("serves", name)
        self.kubectl.apply(deployment("newest", {"name": "triage", "version": 9}))
        self.comes("no such version yet", "ModelDeployment", "newest", "InProgress", "ModelVersionNotFound")
        self.kubectl.apply(deployment("newest", {"name": "triage"}))
        self.serves("as before", "newest")
        self.kubectl.apply(deployment("fixed", {"uri": "s3://models/artifacts/x", "digest": digest("2")}))
        self.comes("the next revision has no node", "ModelDeployment", "fixed", "Stalled", "Unschedulable")
        self.serves("the next revision took over", "fixed")
        self.kubectl.apply(deployment("newest", {"name": "triage"}, replicas=0))
        self.comes("scaled to zero", "ModelDeployment", "newest", "Done", "ScaledToZero")

    def pipelines(self) -> None:
        never = {"schedule": {"cron": "0 0 31 2 *"}}
        gate = [{"name": "gate", "approve": "Automatic"}]
        self.kubectl.apply(
            pipeline("line", concurrencyPolicy="Queue"),
            pipeline("waiting", {"newVersionOf": {"datasetRef": {"name": "nowhere"}}}),
            pipeline("never", never),
            pipeline("gate", stages=gate),
            run("of-nobody", "nobody"),
        )
        self.comes("nothing starts a run", "Pipeline", "line", "Done", "WaitingForCause")
        self.comes("what a trigger refers to is not there", "Pipeline", "waiting", "InProgress", "DatasetNotFound")
        self.comes("a schedule that never comes", "Pipeline", "never", "Stalled", "ScheduleInvalid")
        self.comes("stages that lack something", "Pipeline", "gate", "Stalled", "StagesInvalid")
        self.comes("no Pipeline yet", "PipelineRun", "of-nobody", "InProgress", "PipelineNotFound")
        self.kubectl.apply(run("line-1", "line"))
        self.comes("a run goes on", "PipelineRun", "line-1", "InProgress", "StageRunning")
        self.comes("one of its runs goes on", "Pipeline", "line", "Done", "RunGoesOn")
        self.kubectl.apply(run("line-2", "line"))
        self.comes("it waits for the other one", "PipelineRun", "line-2", "Suspended", "Queued")
        self.ends("every stage succeeded", "line-1-train-train", TRAINED, "PipelineRun", "line-1", "Done")
        self.comes("it is its turn", "PipelineRun", "line-2", "InProgress", "StageRunning")
        self.kubectl.apply(run("line-2", "line", cancel=True))
        self.comes("it is cancelled", "PipelineRun", "line-2", "Stalled", "Cancelled")
        self.kubectl.apply(run("gate-1", "gate"))
        self.comes("stages that lack something", "PipelineRun", "gate-1", "Stalled", "StagesInvalid")
        self.kubectl.run("delete", "mplr/of-nobody")  # it would give up while everything is to be at rest

    def serves(self, title: str, name: str) -> None:
        def told() -> bool:
            return self.kubectl.condition("ModelDeployment", name, "Ready").get("status") == "True"

        kubelet.serve(self.kubectl, name, told, f"{name} is Ready")
        self.stands(title, "ModelDeployment", name, "Done")

    def names_that_are_taken(self) -> None:
        for *_, child in TAKEN:
            self.theirs(child)
        self.kubectl.apply(dataset("taken"), training("taken"), version("taken", 1), deployment("taken"))
        for kind, name, _ in TAKEN:
            self.comes("the child's name is taken", kind, name, "Stalled", "NameConflict")

    def names_that_are_free(self) -> None:
        self.kubectl.run("delete", *(child for *_, child in TAKEN))
        self.look_again(*(f"{kind}/{name}" for kind, name, _ in TAKEN))
        for kind, name, _ in TAKEN:
            self.comes("the name is free", kind, name, "Stalled", "Unschedulable")

    def children_that_are_refused(self) -> None:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "no-more"},
            "spec": {"hard": {"count/jobs.batch": "0", "count/deployments.apps": "0"}},
        }
        self.kubectl.apply(quota)
        eventually(lambda: (self.kubectl.get("quota", "no-more") or {}).get("status", {}).get("hard"), "a quota")
        self.kubectl.apply(dataset("refused"), training("refused"), version("refused", 1), deployment("refused"))
        for kind, name in (
            ("Dataset", "refused"),
            ("TrainingJob", "refused"),
            ("ModelVersion", "refused-1"),
            ("ModelDeployment", "refused"),
        ):
            self.comes("the child is refused", kind, name, "Stalled", "ChildRefused")
        self.kubectl.apply(workspace("http://store:7072"))
        self.comes("the child is refused", "Workspace", "default", "Stalled", "ChildRefused")
        self.kubectl.run("delete", "quota", "no-more")
        self.look_again("workspace/default")
        self.ends("the store works again", "default-preflight", STORE_WORKS, "Workspace", "default", "Done")
        self.comes("its data is to be in the other store", "Dataset", "tumours", "Stalled", "Unschedulable")
        self.ends("the data in the other store", "tumours-data", snapshot("d"), "Dataset", "tumours", "Done")
        refused = ("Dataset/refused", "TrainingJob/refused", "ModelVersion/refused-1", "ModelDeployment/refused")
        self.look_again(*refused)
        for name in refused:
            self.comes("the child is there", *_split(name), "Stalled", "Unschedulable")

    def rest(self, running: Operator) -> Operator:
        """Everything is as it can be: neither time nor another operator, which looks at everything anew, writes."""
        quiet = 8.0  # longer than a former revision keeps its pods
        eventually(lambda: self._quiet_for(quiet), "nothing changes any more", 60)
        running.stop()
        before = self._versions()
        begun = datetime.now(UTC)
        running = self._operator("second").active()
        time.sleep(4)
        after = self._versions()
        self.written_at_rest = [
            *(f"{name} changed" for name in after if after[name] != before.get(name)),
            *(
                f"{line['verb']} {line['requestURI']}"
                for line in self._requests(begun)
                if line["verb"] not in ("get", "list", "watch")
            ),
        ]
        return running

    def _versions(self) -> dict[str, str]:
        kinds = ",".join((*PLURALS.values(), "deployments.apps", "services", "jobs.batch", "events.events.k8s.io"))
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for item in self.kubectl.list(kinds)
            if item["kind"] != "Event" or item.get("reportingController") == "modelmill.dev/operator"
        }

    def _quiet_for(self, seconds: float) -> bool:
        before = self._versions()
        time.sleep(seconds)
        return self._versions() == before

    def specs_that_nobody_has_seen(self, running: Operator) -> Operator:
        """While no operator runs, nothing may look done for a spec that is new."""
        running.stop()
        self.kubectl.apply(
            workspace("http://store:7072", allow={"sources": ["s3"]}),
            dataset("tumours", expectations={"minRows": 2}, versionHistoryLimit=3),
            training("lr", modelRef={"name": "triage"}, suspend=True),
            made("Model", "other", {"description": "changed"}),
            deployment("fixed", {"uri": "s3://models/artifacts/x", "digest": digest("2")}, replicas=2),
            deployment("newest", {"name": "triage"}, replicas=1),
        )
        changed = ("Workspace/default", "Dataset/tumours", "TrainingJob/lr", "Model/other", "ModelDeployment/fixed")
        fresh = (
            dataset("fresh"),
            training("fresh"),
            search("fresh"),
            made("Model", "fresh", {}),
            version("unverified", 1),
            approval("fresh", "nothing-1", self.kubectl.user()),
            deployment("fresh", {"name": "fresh"}),
            pipeline("fresh"),
            run("fresh", "fresh"),
        )
        self.kubectl.apply(*fresh)
        names = [*changed, *(f"{m['kind']}/{m['metadata']['name']}" for m in fresh)]
        for name in names:
            title = "a changed spec" if name in changed else "a new object"
            self.stands(f"{title} and no operator", *_split(name), "InProgress")
        self.waits_in_vain = self._kubectl_waits(names)
        running = self._operator("third").active()
        for name in changed:
            kind = name.split("/")[0]
            if kind != "ModelDeployment":
                self.kubectl.wait_for(*_split(name), HEADLINE.get(kind, "Ready"))
                self.stands("an operator again", *_split(name), "Done")
        self.serves("an operator again", "fixed")
        self.waits = self._kubectl_waits(list(changed))
        self.comes("no ModelVersion yet", "ModelDeployment", "fresh", "InProgress", "NoReadyVersion")
        self.comes("a Model needs nothing", "Model", "fresh", "Done", "Numbering")
        return running

    def _kubectl_waits(self, names: list[str]) -> dict[str, int]:
        """The exit codes of `kubectl wait`, all at the same time."""
        command = [
            kubectl_program(),
            "--kubeconfig",
            self.kubectl.config,
            "--namespace",
            self.kubectl.namespace,
            "wait",
        ]
        running = {}
        for name in names:
            condition = HEADLINE.get(name.split("/")[0], "Ready")
            words = [*command, f"--for=condition={condition}", name, "--timeout=3s"]
            running[f"{condition} of {name}"] = subprocess.Popen(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        return {name: process.wait() for name, process in running.items()}

    def the_end(self) -> None:
        """In the foreground, so that every object is seen while it goes."""
        self.kubectl.run("delete", "modelmill", "--all", "--cascade=foreground", "--timeout=60s")

    # The audit log.

    def _requests(self, since: datetime) -> list[Manifest]:
        """The operator's requests about this namespace that succeeded; none where the cluster keeps no such log."""
        if not self._audit.exists():
            return []
        found = []
        for text in self._audit.read_text().splitlines():
            if self.kubectl.namespace not in text:
                continue
            line = json.loads(text)
            if (
                line["userAgent"].startswith("modelmill-operator")
                and line.get("objectRef", {}).get("namespace") == self.kubectl.namespace
                and line["responseStatus"]["code"] < 300
                and datetime.fromisoformat(line["requestReceivedTimestamp"]) >= since
            ):
                found.append(line)
        return found

    def _status_writes(self) -> dict[tuple[str, str], int] | None:
        if not self._audit.exists():
            return None
        writes = Counter(
            (line["objectRef"]["resource"], line["objectRef"]["name"])
            for line in self._requests(self._begun)
            if line["objectRef"].get("subresource") == "status"
        )
        return dict(writes)


def _split(name: str) -> tuple[str, str]:
    kind, _, rest = name.partition("/")
    return kind, rest
