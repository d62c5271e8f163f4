"""Two replicas and one lease: who takes over, how fast, and that who lost it writes nothing."""

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime

from audit import OPERATOR, Writes
from conftest import LEASE_NAMESPACE, Operator
from incarnation import Mortal, connection
from life import Life

from live import API_VERSION, Kubectl, eventually

Start = Callable[..., Operator]
WORKERS = 8  # of an operator, each with one write at a time


def model(name: str) -> dict[str, object]:
    """The smallest work for an operator: it says that the Model numbers."""
    return {"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": name}}


def reconciled(kubectl: Kubectl, name: str, begun: float) -> float:
    """The seconds from `begun` until a Model that is made now is reconciled."""
    kubectl.apply(model(name))
    kubectl.wait_for("mdl", name, "Ready", seconds=60)
    return time.monotonic() - begun


def test_a_standby_takes_over_from_one_that_was_killed(
    kubectl: Kubectl, operator: Start, tell: Callable[[str], None]
) -> None:
    active, standby = operator("killed", pod="a").active(), operator("killed", pod="b").standby()
    reconciled(kubectl, "before", 0)
    active.kill()
    taken = reconciled(kubectl, "after", time.monotonic())
    tell(f"a new object is reconciled {taken:.1f} s after kill -9 of the active replica")
    assert taken < 15
    assert standby.ready() == (200, "ok, active\n")


def test_a_standby_takes_over_at_once_from_one_that_stops(
    kubectl: Kubectl, operator: Start, tell: Callable[[str], None]
) -> None:
    active, standby = operator("stopped", pod="a").active(), operator("stopped", pod="b").standby()
    assert active.process
    active.process.send_signal(signal.SIGTERM)
    taken = reconciled(kubectl, "after", time.monotonic())
    tell(f"a new object is reconciled {taken:.1f} s after SIGTERM of the active replica")
    assert taken < 3
    assert standby.ready() == (200, "ok, active\n")
    assert active.process.wait(20) == 0


def test_an_operator_that_was_killed_goes_on_when_it_is_started_again(
    kubectl: Kubectl, operator: Start, tell: Callable[[str], None]
) -> None:
    only = operator("alone", pod="a").active()
    only.kill()
    begun = time.monotonic()
    only.start()
    taken = reconciled(kubectl, "after", begun)
    tell(f"a new object is reconciled {taken:.1f} s after a restart that follows kill -9")
    assert taken < 10


def test_a_holder_whose_lease_was_edited_or_deleted_keeps_it(config: str, kubectl: Kubectl, operator: Start) -> None:
    only, leases = operator("edited", pod="a").active(), Kubectl(config, LEASE_NAMESPACE)

    def renewed() -> str:
        found = leases.get("lease", "edited")
        return str(found["spec"]["renewTime"]) if found else ""

    before = renewed()
    leases.run("annotate", "lease/edited", "somebody=looked")
    after = eventually(lambda: max(renewed(), before) > before and renewed(), "it is renewed", 10)
    leases.run("delete", "lease/edited")
    eventually(lambda: renewed() > str(after), "it is made anew", 10)
    reconciled(kubectl, "after", 0)
    assert only.ready() == (200, "ok, active\n")


def test_who_slept_longer_than_the_lease_writes_nothing_any_more(
    config: str, kubectl: Kubectl, operator: Start
) -> None:
    sleeper, standby = operator("slept", pod="a").active(), operator("slept", pod="b").standby()
    sleeper.expected = ("the lease ran out", "the lease is lost")
    assert sleeper.process
    in_namespace, of_lease = (Writes(config, "_a)", n) for n in (kubectl.namespace, LEASE_NAMESPACE))
    # It falls asleep with work in its hands.
    kubectl.apply(*(model(f"m{number}") for number in range(60)))
    eventually(lambda: len(in_namespace()) > 3, "it has begun")
    sleeper.process.send_signal(signal.SIGSTOP)
    standby.active()
    for number in range(60):
        kubectl.wait_for("mdl", f"m{number}", "Ready")
    time.sleep(1)  # what was on its way when it fell asleep is in the audit log by now
    before = in_namespace(), of_lease()
    sleeper.process.send_signal(signal.SIGCONT)
    assert sleeper.process.wait(30) == 1
    # A process can be stopped between its last look at the lease and the write itself: then the API server refuses it,
    # because the object is another one by now.
    late = in_namespace()[len(before[0]) :] + of_lease()[len(before[1]) :]
    assert not [write for write in late if write.code < 400]
    assert len(late) <= WORKERS
    sleeper.start().standby()
    assert standby.ready() == (200, "ok, active\n")


async def test_a_rolling_update_under_load_keeps_nobody_waiting(
    config: str, kubectl: Kubectl, operator: Start, tell: Callable[[str], None]
) -> None:
    written = Writes(config, OPERATOR, kubectl.namespace)
    old = operator("rolled", pod="a").active(), operator("rolled", pod="b").standby()
    ended, made = asyncio.Event(), dict[str, float]()
    waited: dict[str, float] = {}

    async def load() -> None:
        async with Mortal(await connection(config)) as api:
            life = Life(api, kubectl.namespace, lambda: datetime.now(UTC))
            while not ended.is_set() or made.keys() != waited.keys():
                if not ended.is_set():
                    name = f"m{len(made)}"
                    made[name] = time.monotonic()
                    await life.create("Model", name, {})
                view = await life.view(("Model",))
                for name, begun in made.items():
                    if name not in waited and view.says("Model", name, "Ready"):
                        waited[name] = time.monotonic() - begun
                await asyncio.sleep(0.2)

    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        group.create_task(load())
        # As the Deployment controller does it with maxSurge 1 and maxUnavailable 0.
        for number, former in enumerate(old):
            new = operator("rolled", pod=f"new-{number}")
            await asyncio.to_thread(new.available)  # it may be the first to see the lease that the last one gave back
            await asyncio.to_thread(former.stop)
        await asyncio.sleep(3)
        ended.set()
    longest = max(waited.values())
    tell(
        f"{len(waited)} objects were made meanwhile; the one that waited longest was reconciled after {longest:.1f} s",
    )
    assert longest < 5
    created = [write.name for write in written() if write.verb == "patch"]
    assert len(created) == len(set(created)) == len(made)
