"""Lives of what not every namespace has: a canary, a Model's tests, a second run, collection, data that is read again.

Each begins with what it needs; the operator is killed in what comes then.
"""

from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from incarnation import Clock
from life import ARTIFACT, URI, Life, Step, View
from msgspec.structs import replace

from modelmill.core.actions import ANNOTATION
from modelmill.core.dataset import REFRESH_ANNOTATION
from modelmill_contracts import digest, report, routes


class SomeLife(Life):
    """A life of one thing."""

    begins: ClassVar[int]  # the number of the first step in which the operator is killed
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


LIVES: tuple[type[SomeLife], ...] = (CanaryLife, ModelTestsLife, ReproductionLife, CollectionLife, ReadAgainLife)
