"""A ModelDeployment that declares drift, and pods that count what they see in the bins of a profile."""

import dataclasses
from datetime import timedelta
from typing import Any

import msgspec
from rolling_out import KIND, NAME, Rolling
from world import with_store, with_version

from modelmill.core import tally
from modelmill.core.measurement import asked_of
from modelmill.core.plan import Measurement, SetStatus
from modelmill_contracts import counters
from modelmill_contracts.counters import Bins, Reference, Trained

EVEN = (100,) * 11
SHIFTED = (0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200)
TRAINED = Reference(
    features=(Trained("radius", (400,) * 11, 3), Trained("city", (2000, 1500, 500), 10, 400)),
    predictions=Trained("predict", (600, 400), 0, 0),
    scores=Trained("score", (50,) * 20),
)


def snapshot(
    radius: tuple[int, ...] = EVEN,
    *,
    city: tuple[int, ...] = (500, 375, 125),
    other: int = 100,
    missing: int = 0,
    times: int = 1,
    **changes: Any,
) -> bytes:
    """What a pod that has counted so much answers; `times` such windows."""

    def bins(name: str, counts: tuple[int, ...], other: int = 0, missing: int = 0) -> Bins:
        return Bins(name, tuple(n * times for n in counts), other * times, missing * times)

    none = counters.Latency(counts=(0,) * (len(counters.LATENCY_EDGES) + 1), total=0.0)
    whole = counters.Snapshot(
        model="triage", model_version="1", arm="", digest=changes.pop("digest", ""), edges="e", started=1.0,
        ready=True, workers_ready=1, worker_restarts=0, in_flight=0, requests={}, refusals={}, rows=1100 * times,
        request=none, compute=none, features=(bins("radius", radius, 0, missing), bins("city", city, other)),
        predictions=bins("predict", (660, 440)), scores=bins("score", (55,) * 20), reference=TRAINED,
    )  # fmt: skip
    return msgspec.json.encode(msgspec.structs.replace(whole, **changes))


def answer(*args: Any, **changes: Any) -> tally.Answer:
    return tally.decode(snapshot(*args, **changes))


class Drifting(Rolling):
    """As the shell does, it remembers what pods had counted when the window of drift began."""

    def __init__(self) -> None:
        super().__init__()
        self.drift_baseline: dict[str, Any] = {}
        self.drift_window: Any = None
        self.opened = self.now
        self.sums: dict[str, list[int]] = {}  # what the pod x has counted
        self.windows_said = 0

    def restarted(self) -> None:
        """Another operator goes on."""
        self.drift_window = None

    def observed(self, kind: str, name: str) -> Any:
        asked = asked_of(self.get(kind, name)) if kind == KIND else None
        window = asked.drift if asked is not None else None
        if window != self.drift_window:
            self.drift_window, self.drift_baseline, self.opened = window, {}, self.now
        for uid, found in self.answers.items():
            if found.at >= self.opened:
                self.drift_baseline.setdefault(uid, found.value)
        seconds = (self.now - self.opened).total_seconds()
        return dataclasses.replace(
            super().observed(kind, name), drift_baseline=dict(self.drift_baseline), drift_seconds=seconds
        )

    def carry_out(self, kind: str, name: str, write: Any) -> None:
        super().carry_out(kind, name, write)
        if isinstance(write, SetStatus) and write.drift_baseline is not None:
            asked = asked_of(self.get(kind, name))
            assert asked is not None
            self.drift_window, self.drift_baseline, self.opened = asked.drift, dict(write.drift_baseline), self.now

    def says(self, found: tally.Answer, pod: str = "x", version: int = 1) -> None:
        """What a pod of that version has counted by now."""
        uid = self.get("Pod", f"{NAME}-{self.revision(version)}-{pod}")["metadata"]["uid"]
        self.answers[uid] = Measurement(found, self.now, 1.0)

    def sees(self, radius: tuple[int, ...] = EVEN, *, minutes: float = 60, **more: Any) -> None:
        """The pod x counts so much more, and the window's time is over."""
        parts = {"radius": radius, "city": more.get("city", (500, 375, 125)), "other": (more.get("other", 100),)}
        parts["missing"] = (more.get("missing", 0),)
        for name, counts in parts.items():
            known = self.sums.setdefault(name, [0] * len(counts))
            self.sums[name] = [a + b for a, b in zip(known, counts, strict=True)]
        self.windows_said += 1
        self.wait(minutes * 60)
        self.says(self.counted())
        self.step()

    def counted(self, **changes: Any) -> tally.Answer:
        """What the pod x has counted in all."""
        said = self.windows_said
        score, predict = (55 * said,) * 20, (660 * said, 440 * said)
        none = (0,) * 11
        found = {
            "features": (
                Bins("radius", tuple(self.sums.get("radius", none)), 0, self.sums.get("missing", [0])[0]),
                Bins("city", tuple(self.sums.get("city", (0, 0, 0))), self.sums.get("other", [0])[0]),
            ),
            "predictions": Bins("predict", predict),
            "scores": Bins("score", score),
        }
        return tally.decode(snapshot(**{**found, **changes}))

    def detected(self) -> tuple[str, str]:
        return self.condition(KIND, NAME, "DriftDetected")

    @property
    def drift(self) -> dict[str, Any]:
        return dict(self.status.get("drift") or {})

    @property
    def look_again(self) -> timedelta | None:
        return self.plan(KIND, NAME).requeue_after


def spec(**drift: Any) -> dict[str, Any]:
    return {"model": {"name": NAME}, "replicas": 1, "monitoring": {"drift": drift}}


def watching(**drift: Any) -> Drifting:
    """Version 1 serves, its pod has answered, and its first window is open."""
    world = Drifting()
    with_version(with_store(world), 1)
    world.put(KIND, NAME, spec=spec(**drift))
    world.step()
    world.pods_of(f"{NAME}-{world.revision(1)}", 1)
    world.step()
    world.pod(1)
    world.says(world.counted())
    world.step()
    return world


__all__ = ["EVEN", "KIND", "NAME", "SHIFTED", "Drifting", "answer", "snapshot", "spec", "watching"]
