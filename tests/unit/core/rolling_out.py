"""A ModelDeployment whose second version is rolled out, and pods that count what becomes of requests."""

import dataclasses
from typing import Any

from world import NAMESPACE, World, with_store, with_version

from modelmill.core import windows
from modelmill.core.measurement import asked_of
from modelmill.core.plan import Measurement, SetStatus
from modelmill_contracts import counters, routes

KIND, NAME = "ModelDeployment", "triage"
BINS = len(counters.LATENCY_EDGES) + 1


class Rolling(World):
    """As the shell does, it remembers what pods had counted when a window began."""

    def __init__(self) -> None:
        super().__init__()
        self.baseline: dict[str, windows.Counted] = {}
        self.window: Any = None
        self.prometheus: dict[str, Measurement] = {}  # what it answered last, by query

    def observed(self, kind: str, name: str) -> Any:
        asked = asked_of(self.get(kind, name)) if kind == KIND else None
        if asked is not None and asked.window != self.window:
            self.window, self.baseline = asked.window, {}
        for uid, answer in self.answers.items():
            self.baseline.setdefault(uid, answer.value)
        observed = super().observed(kind, name)
        return dataclasses.replace(observed, baseline=dict(self.baseline), answers=dict(self.prometheus))

    def carry_out(self, kind: str, name: str, write: Any) -> None:
        super().carry_out(kind, name, write)
        if isinstance(write, SetStatus) and write.baseline is not None:
            asked = asked_of(self.get(kind, name))
            self.window = asked.window if asked is not None else None
            self.baseline = dict(write.baseline)

    def step(self, seconds: float = 0) -> None:
        self.wait(seconds)
        self.reconcile(KIND, NAME)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.get(KIND, NAME)["status"])

    @property
    def candidate(self) -> dict[str, Any]:
        return dict(self.status.get("candidate") or {})

    def revision(self, version: int) -> str:
        label = "modelmill.dev/version"
        found = [
            n for n in self.deployments() if self.get("Deployment", n)["metadata"]["labels"][label] == str(version)
        ]
        return found[0].removeprefix(f"{NAME}-")

    def told(self) -> routes.Routes | None:
        if not self.has("ConfigMap", f"{NAME}-routes"):
            return None
        return routes.decode(self.get("ConfigMap", f"{NAME}-routes")["data"][routes.FILE].encode())

    def selected(self, service: str = NAME) -> str:
        return str(self.get("Service", service)["spec"]["selector"]["modelmill.dev/revision"])

    def act(self, text: str) -> None:
        live = self.get(KIND, NAME)
        annotations = {"modelmill.dev/action": text}
        self.store(KIND, NAME, {**live, "metadata": {**live["metadata"], "annotations": annotations}})

    def pod(self, version: int, name: str = "x") -> None:
        """A pod that runs for that version."""
        deployment = self.get("Deployment", f"{NAME}-{self.revision(version)}")
        metadata = {"labels": deployment["spec"]["template"]["metadata"]["labels"]}
        server = {"name": "server", "state": {"running": {}}}
        status = {"phase": "Running", "podIP": "10.0.0.9", "containerStatuses": [server]}
        self.put("Pod", f"{NAME}-{self.revision(version)}-{name}", metadata=metadata, status=status)

    def counts(
        self,
        stable: tuple[int, int],
        candidate: tuple[int, int],
        *,
        copies: bool = False,
        agreed: int = 0,
        slower: int = 0,
        started: float = 1.0,
        pod: str = "x",
    ) -> None:
        """What the pod of version 1 has counted by now: requests and failures of each arm.

        The candidate takes longer by so many bins of the histogram.
        """
        none, arms = arm(0, 0), (arm(*stable), arm(*candidate, slower))
        shadow = counters.Shadow(stable=arms[0], candidate=arms[1], compared=candidate[0], agreed=agreed)
        epoch = self.candidate["epoch"]
        found = windows.Counts(
            epoch=epoch,
            stable=none if copies else arms[0],
            candidate=none if copies else arms[1],
            shadow=shadow if copies else None,
        )
        uid = self.get("Pod", f"{NAME}-{self.revision(1)}-{pod}")["metadata"]["uid"]
        answer = windows.Counted(version=1, started=started, rollout=found)
        self.answers[uid] = Measurement(answer, self.now, 1.0)


def arm(requests: int, failures: int, place: int = 0) -> counters.Arm:
    times = tuple(requests - failures if index == place else 0 for index in range(BINS))
    return counters.Arm(requests=requests, failures=failures, compute=counters.Latency(counts=times, total=0.0))


def serving(replicas: int = 2, **rollout: Any) -> Rolling:
    """Version 1 serves, by the first deployment."""
    world = Rolling()
    with_version(with_store(world), 1)
    world.put(KIND, NAME, spec=spec(replicas, **rollout))
    world.step()
    world.pods_of(f"{NAME}-{world.revision(1)}", replicas)
    world.step()
    world.pod(1)
    world.wait(3600)
    return world


def spec(replicas: int = 2, **rollout: Any) -> dict[str, Any]:
    return {"model": {"name": NAME}, "replicas": replicas, "rollout": {"strategy": "Canary", **rollout}}


def begun(replicas: int = 2, **rollout: Any) -> Rolling:
    """Version 2 is ready, its first step has begun, and pods are told of it."""
    world = serving(replicas, **rollout)
    with_version(world, 2)
    world.step()
    world.pods_of(f"{NAME}-{world.revision(2)}", replicas)
    world.step()
    world.step(6)
    return world


def promoted(world: Rolling) -> None:
    """Evidence enough for each step, until it takes over."""
    given = 0
    for _ in range(40):
        if world.candidate.get("step", 9) > 3:
            return
        given += 1000
        world.counts((given * 9, 0), (given, 0))
        world.step(60)


def rolled_back() -> Rolling:
    """Version 2 was rolled back on evidence, and nothing is left of it but its Deployment."""
    world = begun()
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((9000, 90), (500, 250))
    world.step(20)
    for _ in range(3):
        world.step(6)
        world.pods_of(f"{NAME}-{world.revision(2)}", 0)
    assert world.told() is None
    return world


__all__ = ["KIND", "NAME", "NAMESPACE", "Rolling", "arm", "begun", "promoted", "rolled_back", "serving", "spec"]
