"""A hundred versions of one model: ten trainings at a time, and the operator is killed ten times meanwhile."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from audit import OPERATOR, Writes, succeeded
from conftest import Operator
from control_plane import asleep
from incarnation import Mortal, connection
from life import Life, View

from live import Kubectl
from modelmill_contracts import report

RUNS, AT_A_TIME, KILLS = 100, 10, 10
SECONDS = 600.0
LATEST = 0.6  # seconds after trainings ended: by then their numbers are given


class Runs(Life):
    """A life of trainings only."""

    ended = 0  # trainings, well

    def result(self, job: str) -> report.Result:
        found = super().result(job)
        self.ended += isinstance(found, report.TrainingResult)
        return found


def numbers(view: View) -> dict[str, int]:
    """The version that each TrainingJob says it became."""
    said = {run["metadata"]["name"]: (run.get("status") or {}).get("modelVersion") for run in view.all("TrainingJob")}
    return {run: int(version.rpartition("-")[2]) for run, version in said.items() if version}


def settled(view: View) -> bool:
    """Whether every run has succeeded, and the Model knows that they know their numbers."""
    model = view.get("Model", "triage") or {}
    runs = (f"run-{number:03}" for number in range(RUNS))
    return not model.get("status", {}).get("reservations") and all(
        view.says("TrainingJob", run, "Succeeded") for run in runs
    )


async def test_a_hundred_versions_have_the_numbers_one_to_a_hundred_whenever_the_operator_dies(
    config: str, kubectl: Kubectl, operator: Callable[..., Operator], tell: Callable[[str], None]
) -> None:
    written = Writes(config, OPERATOR, kubectl.namespace)
    process = operator(None, pod=f"pod-{os.getpid()}").active()
    draw, begun, started, recovered = random.Random(7), time.monotonic(), 0, list[float]()
    with asleep(config, "kube-controller-manager"):
        async with Mortal(await connection(config)) as api:
            runs = Runs(api, kubectl.namespace, lambda: datetime.now(UTC).replace(microsecond=0))
            await runs.begin()
            await runs.store()
            await runs.data()
            while True:
                view = await runs.view(("TrainingJob", "Model"))
                while started < min(RUNS, len(numbers(view)) + AT_A_TIME):
                    await runs.train(f"run-{started:03}")
                    started += 1
                await runs.play()
                if len(recovered) < runs.ended // AT_A_TIME:  # ten more have ended, and are being numbered
                    await asyncio.sleep(draw.uniform(0, LATEST))
                    recovered.append(round(process.reborn(), 1))
                if settled(view):
                    break
                assert time.monotonic() - begun < SECONDS, (started, numbers(view), recovered)
                await asyncio.sleep(0.2)
            view = await runs.view(("TrainingJob", "Model", "ModelVersion"))
    tell(f"{RUNS} versions in {time.monotonic() - begun:.0f} s; active again after kill -9: {recovered} s")
    assert len(recovered) == KILLS
    became = numbers(view)
    assert sorted(became.values()) == list(range(1, RUNS + 1))
    made = Counter(name for kind, name in succeeded(written(), "create") if kind == "ModelVersion")
    assert made == Counter(f"triage-{number}" for number in range(1, RUNS + 1))
    for version in view.all("ModelVersion"):
        run = version["spec"]["lineage"]["trainingJob"]["name"]
        assert version["metadata"]["name"] == f"triage-{version['spec']['version']}" == f"triage-{became[run]}"
    model = view.get("Model", "triage")
    assert model is not None
    assert model["status"]["lastVersion"] == RUNS
