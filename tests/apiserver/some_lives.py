"""Lives of what not every namespace has: a canary, a Model's tests, a second run, collection, data that is read again,
a search.

Each begins with what it needs; the operator is killed in what comes then.
"""

import json
import re
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any, ClassVar

from incarnation import Clock
from life import ARTIFACT, SHOWN, URI, Life, Step, View
from msgspec.structs import replace

from modelmill.core import conditions, windows
from modelmill.core.actions import ANNOTATION
from modelmill.core.dataset import REFRESH_ANNOTATION
from modelmill.core.experiment import BATCH_ANNOTATION
from modelmill.core.plan import Measurement
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, Manifest, dig
from modelmill.shell.cache import Cache
from modelmill_contracts import counters, digest, report, routes


class SomeLife(Life):
    """A life of one thing."""

    makes: ClassVar[tuple[tuple[str, str], ...]]  # kind and name of what this life is about, as often as it is made

    def stored(self) -> Step:
        return Step("the store is declared", self.store, lambda v: v.says("Workspace", "default", "Ready"))

    def read(self) -> Step:
        return Step("data is declared", self.data, lambda v: v.says("Dataset", "tumours", "Ready"))

    async def version(self, number: int) -> None:
        """Somebody writes a version by hand."""
        artifact = {"uri": URI, "digest": ARTIFACT}
        spec = {"modelRef": {"name": "triage"}, "version": number, "artifact": artifact}
        await self.create("ModelVersion", f"triage-{number}", spec)


class CanaryLife(SomeLife):
    """One version is promoted and the next one aborted, each during its first step: there are no pods to count."""

    begins = 2
    makes = 2 * (("ConfigMap", "triage-routes"), ("Service", "triage-candidate"))

    def steps(self) -> tuple[Step, ...]:
        return (
            self.stored(),
            Step("version 1 serves", self._first, lambda v: v.serves(1, 2)),
            Step("version 2 comes by steps", partial(self.version, 2), lambda v: _weight(v) == 5),
            Step("it is promoted", partial(self._ask, "promote"), lambda v: v.serves(2, 2) and _nothing_left(v)),
            Step("version 3 comes by steps", partial(self.version, 3), lambda v: _weight(v) == 5),
            Step(
                "it is aborted",
                partial(self._ask, "abort"),
                lambda v: v.says("ModelDeployment", "triage", "RolledBack") and _nothing_left(v),
            ),
        )

    async def _first(self) -> None:
        await self.version(1)
        rollout = {"strategy": "Canary", "steps": [{"weight": 5, "hold": "Manual"}]}
        spec = {"model": {"name": "triage"}, "replicas": 2, "revisionHistoryLimit": 1, "rollout": rollout}
        await self.create("ModelDeployment", "triage", spec)

    async def _ask(self, verb: str) -> None:
        (found,) = (await self.view(("ModelDeployment",))).all("ModelDeployment")
        text = f"{verb}@{found['status']['candidate']['revision']}"
        await self.patch("ModelDeployment", "triage", {"metadata": {"annotations": {ANNOTATION: text}}})


class EvidenceLife(SomeLife):
    """One version is promoted by evidence, after copies and a share, and the next one rolled back by it.

    A pod counts by the clock.  The operator that is killed drops the window that is open, so that the evidence is
    weighed in other windows in each life: what is compared is what comes of it.
    """

    begins = 2
    makes = 2 * (("ConfigMap", "triage-routes"), ("Service", "triage-candidate"))
    _bad = False

    def steps(self) -> tuple[Step, ...]:
        return (
            self.stored(),
            Step("version 1 serves", self._first, lambda v: v.serves(1, 2)),
            Step("version 2 takes over", partial(self._next, 2), lambda v: v.serves(2, 2) and _nothing_left(v)),
            Step(
                "version 3 fails, and is rolled back",
                partial(self._next, 3, bad=True),
                lambda v: v.serves_whatever_is_declared(2, 2) and _reason(v) == "EvidenceAgainst" and _nothing_left(v),
            ),
        )

    async def _first(self) -> None:
        await self.version(1)
        steps = [{"shadow": "20s"}, {"weight": 50, "hold": "20s"}]
        analysis = {"interval": "5s", "minRequests": 10, "agreement": {"min": "0.9"}}
        rollout = {"strategy": "Canary", "steps": steps, "analysis": analysis}
        spec = {"model": {"name": "triage"}, "replicas": 2, "revisionHistoryLimit": 1, "rollout": rollout}
        await self.create("ModelDeployment", "triage", spec)
        (made,) = (await self.view(("ModelDeployment",))).all("ModelDeployment")
        labels = {**MANAGED_BY, OWNER_LABEL: made["metadata"]["uid"]}
        await self.pod("traffic", labels)

    async def _next(self, number: int, *, bad: bool = False) -> None:
        self._bad = bad
        await self.version(number)

    def answer(self, cache: Cache) -> None:
        """The pod has counted a thousand requests and copies a second, of each revision, since the clock began: under
        what it was told of last, and nothing before it was told."""
        assert isinstance(self._now, Clock)
        for deployment in cache.objects("ModelDeployment"):
            epoch, owner = dig(deployment, "status", "candidate", "epoch"), deployment["metadata"]["uid"]
            pods = [p for p in cache.objects("Pod") if dig(p, "metadata", "labels", OWNER_LABEL) == owner]
            told = [dig(routed, "data", routes.FILE) or "" for routed in cache.objects("ConfigMap")]
            if epoch is not None and any(epoch in text for text in told):
                counts = _counted(epoch, 1000 * self._now.seconds, bad=self._bad)
                said = {pod["metadata"]["uid"]: Measurement(counts, self._now(), monotonic()) for pod in pods}
                cache.measured(self.namespace, owner, said)

    async def view(self, kinds: tuple[str, ...] = SHOWN) -> View:
        found = await super().view(kinds)
        for deployment in found.all("ModelDeployment"):
            text = _BY_WINDOWS.sub(r'"\1": 0', json.dumps(deployment.get("status", {})))
            deployment["status"] = json.loads(_SAID.sub("ln E against it is enough", text))
        return found


_BY_WINDOWS = re.compile(r'"(windows|requests|failures|logE|logEPromotion)": "?-?[0-9.]+"?')
_SAID = re.compile(r"ln E against it is [0-9.]+")


def _counted(epoch: str, requests: int, *, bad: bool) -> windows.Counted:
    times = (requests, *(0,) * len(counters.LATENCY_EDGES))
    failed = requests // 2 if bad else 0
    stable, candidate = (
        counters.Arm(requests=requests, failures=failures, compute=counters.Latency(counts=times, total=0.0))
        for failures in (0, failed)
    )
    copies = counters.Shadow(stable=stable, candidate=candidate, compared=requests, agreed=requests)
    found = windows.Counts(epoch=epoch, stable=stable, candidate=candidate, shadow=copies)
    return windows.Counted(version=1, started=1.0, rollout=found)


def _reason(view: View) -> str | None:
    reason: str | None = dig(view.get("ModelDeployment", "triage"), "status", "rolledBack", "reason")
    return reason


def _weight(view: View) -> int:
    """The share of the requests that pods are told to send to the candidate, in percent."""
    found = view.get("ConfigMap", "triage-routes")
    return routes.decode(found["data"][routes.FILE].encode()).weight if found is not None else 0


def _nothing_left(view: View) -> bool:
    """Whether nothing leads to a candidate any more."""
    return view.get("ConfigMap", "triage-routes") is None and view.get("Service", "triage-candidate") is None


class ModelTestsLife(SomeLife):
    """A version is tested, and again when its Model asks for something else."""

    begins = 1
    makes = 2 * (("Job", "triage-1-test"),)

    def steps(self) -> tuple[Step, ...]:
        return (
            self.stored(),
            Step("a version is to be tested", self._first, _is_tested),
            Step("it is to be better", partial(self._least, "0.95"), _is_tested),
        )

    async def _first(self) -> None:
        await self.create("Model", "triage", {})
        await self._least("0.9")
        await self.version(1)

    async def _least(self, least: str) -> None:
        tests = {"metrics": [{"name": "roc_auc", "min": least}]}
        await self.patch("Model", "triage", {"spec": {"tests": tests}})

    def result(self, job: str) -> report.Result:
        if job.endswith("-test"):
            return report.ModelTestResult((report.Outcome("roc_auc", True, ">= 0.9", "0.99"),))
        return super().result(job)


def _is_tested(view: View) -> bool:
    found = view.get("ModelVersion", "triage-1")
    return view.says("ModelVersion", "triage-1", "Tested") and found is not None and "testing" not in found["status"]


class ReproductionLife(SomeLife):
    """A run is trained a second time, and both are compared."""

    begins = 2
    makes = (("Job", "run-a-train"), ("Job", "run-a-again"), ("ModelVersion", "triage-1"))

    def steps(self) -> tuple[Step, ...]:
        return (
            self.stored(),
            self.read(),
            Step(
                "a run is to be reproduced",
                partial(self.train, "run-a", reproduce={"runs": 2}),
                lambda v: (
                    v.says("ModelVersion", "triage-1", "Ready") and v.says("TrainingJob", "run-a", "Reproducible")
                ),
            ),
        )

    def result(self, job: str) -> report.Result:
        return super().result(job.replace("-again", "-train"))


class CollectionLife(SomeLife):
    """What nobody refers to is collected, and again the next day."""

    begins = 0
    makes = 2 * (("Job", "default-collect"),)

    def steps(self) -> tuple[Step, ...]:
        return (
            Step("the store is declared", self.store, _is_collected),
            Step("a day passes", self._tomorrow, _is_collected),
        )

    async def store(self) -> None:
        store = {"uri": "s3://models", "endpoint": "http://store:7070", "collect": {"enabled": True}}
        await self.create("Workspace", "default", {"store": store})

    async def _tomorrow(self) -> None:
        assert isinstance(self._now, Clock)
        self._now.wait(timedelta(days=1))

    def result(self, job: str) -> report.Result:
        if job == "default-collect":
            return report.CollectResult(moved=2, restored=0, deleted=1, freed=4711)
        found = super().result(job)
        return replace(found, owned=True) if isinstance(found, report.PreflightResult) else found


def _is_collected(view: View) -> bool:
    return view.says("Workspace", "default", "Collected")


class ReadAgainLife(SomeLife):
    """Data is read again on demand, and what is derived from it then."""

    begins = 2
    makes = 2 * (("Job", "tumours-data"), ("Job", "derived-data"))
    _content = "as it was"

    def steps(self) -> tuple[Step, ...]:
        return (
            self.stored(),
            self.read(),
            Step("data is derived from it", self._derive, partial(_has_versions, 1)),
            Step("somebody asks for a look when there is more", self._more, partial(_has_versions, 2)),
        )

    async def _derive(self) -> None:
        source = {"derive": {"from": [{"name": "tumours"}], "sql": "select * from tumours"}}
        await self.create("Dataset", "derived", {"source": source})

    async def _more(self) -> None:
        self._content = "with more rows"
        await self.patch("Dataset", "tumours", {"metadata": {"annotations": {REFRESH_ANNOTATION: "now"}}})

    def result(self, job: str) -> report.Result:
        found = super().result(job)
        if isinstance(found, report.SnapshotResult):
            return replace(found, version=digest.of_json([job, self._content]))
        return found


def _has_versions(number: int, view: View) -> bool:
    """Whether the derived data is there in so many versions."""
    found: dict[str, Any] = (view.get("Dataset", "derived") or {}).get("status") or {}
    return view.says("Dataset", "derived", "Ready") and len(found.get("history", ())) == number


class ExperimentLife(SomeLife):
    """Four trials, two at a time, in batches that a pod chooses, and the best one is promoted."""

    begins = 2
    makes = (
        *(("TrainingJob", f"search-{number}") for number in range(1, 5)),
        *(("TrainingJob", "search-best-3"), ("Job", "search-page"), ("ModelVersion", "triage-1")),
    )
    _values: ClassVar = {"1": "0.90", "2": "0.92", "3": "0.95", "4": "0.91"}
    _batch = 0

    def steps(self) -> tuple[Step, ...]:
        return (
            self.stored(),
            self.read(),
            Step("a search begins", self._search, lambda v: v.get("Job", "search-propose") is not None, pods_end=False),
            Step("it goes on to the end", self._on, _is_searched),
        )

    async def _search(self) -> None:
        steps = [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]
        data = {"datasetRef": {"name": "tumours"}, "target": "benign"}
        spec = {
            "objective": {"metric": "roc_auc"},
            "search": {"algorithm": "CMAES", "seed": 1},
            "parameters": [{"param": "lr__C", "float": {"min": "0", "max": "1"}}],
            "trials": {"max": 4, "parallel": 2},
            "template": {"spec": {"modelRef": {"name": "triage"}, "data": data, "estimator": {"steps": steps}}},
            "promote": "Best",
        }
        await self.create("Experiment", "search", spec)

    async def _on(self) -> None:
        await self.patch("Experiment", "search", {"spec": {"trials": {"maxFailed": 2}}})

    async def _end_job(self, job: Manifest) -> None:
        self._batch = int(job["metadata"].get("annotations", {}).get(BATCH_ANNOTATION, 0))
        await super()._end_job(job)

    def result(self, job: str) -> report.Result:
        if job == "search-propose":
            return report.ProposalResult(self._batch, tuple((f"0.{self._batch + n}",) for n in range(2)))
        if job == "search-page":
            return report.SearchPageResult(digest.of_json(job))
        found = super().result(job.replace("best-", ""))  # which is by the recipe of that trial
        if isinstance(found, report.TrainingResult):
            value = self._values[job.removesuffix("-train").rpartition("-")[2]]
            return replace(found, metrics=(report.Metric("roc_auc", value),), known="best" in job)
        return found


def _is_searched(view: View) -> bool:
    return view.says("Experiment", "search", "Succeeded") and view.says("ModelVersion", "triage-1", "Ready")


class PipelineLife(SomeLife):
    """Stages that are declared run, from data to a version that is Ready."""

    begins = 2
    makes = (
        ("PipelineRun", "triage-code-RUN"),
        ("TrainingJob", "triage-code-RUN-train"),
        ("ModelVersion", "triage-1"),
    )

    def steps(self) -> tuple[Step, ...]:
        return (
            self.stored(),
            self.read(),
            Step("a Pipeline is declared, whose stages run", self._first, _has_run),
        )

    async def _first(self) -> None:
        triggers = [{"name": "code", "onSpecChange": True}]
        await self.create("Pipeline", "triage", {"triggers": triggers, "stages": _STAGES})

    def result(self, job: str) -> report.Result:
        found = super().result(job)
        if isinstance(found, report.TrainingResult):
            return replace(found, recipe=digest.of_json("the only one"))  # the run's name is another in each life
        return found


_STAGES: list[dict[str, Any]] = [
    {"name": "data", "refresh": {"datasetRef": {"name": "tumours"}}},
    {
        "name": "train",
        "trainingJob": {
            "spec": {
                "modelRef": {"name": "triage"},
                "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
                "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
            }
        },
    },
    {"name": "gate", "approve": "Automatic"},
]


def _has_run(view: View) -> bool:
    """Whether the only run has succeeded."""
    return [conditions.is_true(run, "Succeeded") for run in view.all("PipelineRun")] == [True]


LIVES: tuple[type[SomeLife], ...] = (
    *(CanaryLife, EvidenceLife, ModelTestsLife, ReproductionLife, CollectionLife, ReadAgainLife, ExperimentLife),
    PipelineLife,
)
