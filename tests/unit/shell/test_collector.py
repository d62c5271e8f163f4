"""The collector: asks pods on loopback addresses, whatever they answer, and never more often than it should."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from ways import Way, never_ends, says, sends

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Measurement, Settings
from modelmill.shell import collector
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.collector import Collector
from modelmill.shell.metrics import Metrics
from modelmill.shell.reconciler import utc_now
from modelmill_contracts.progress import LIMIT, Progress

GOOD = "127.0.1.1"


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    while await reader.read(1024):
        pass


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader, writer


BODY = b'{"percent": 40, "phase": "fold"}'
# By what is counted of it.
WAYS: dict[str, dict[str, Way]] = {
    "silent": {
        "hangs": hangs,
        "hangs up": hangs_up,
        "is slow": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[b" "] * 100, pause=0.05),
        "breaks off": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        "does not speak HTTP": sends(b"220 mail.example.org ESMTP\r\n\r\n"),
    },
    "nonsense": {
        "never ends": never_ends,
        "is too long": says(BODY + b" " * LIMIT),
        "is no JSON": says(b"up 1\n"),
        "is none of ours": says(b'{"percent": "most"}'),
        "is nested": says(b'{"percent": 1, "x": ' + b"[" * 4000),
        "is not found": says(b"", status="404 Not Found"),
        "leads elsewhere": says(BODY, f"Location: http://{GOOD}/progress", status="302 Found"),
        "is packed": says(gzip.compress(BODY), "Content-Encoding: gzip"),
    },
    "answered": {"is good": says(BODY)},
}


class Pods:
    """Pods with an address each, of one TrainingJob each, that answer in their own way on one port."""

    def __init__(self) -> None:
        self.cache = Cache(CONTROLLERS, Settings("trainer:1", "server:1"))
        self.metrics = Metrics()
        self.woken: list[ObjectKey] = []
        self.asked: list[str] = []  # addresses
        self.open = self.most_open = 0
        self._ways: dict[str, Way] = {}
        self._version = 0
        self.port = 0

    def add(self, name: str, address: str, way: Way, owner: str = "") -> None:
        self._ways[address] = way
        owner = owner or name
        if not self.cache.observe(key(owner)):
            spec = {"data": {"datasetRef": {"name": "tumours"}}}
            self.cache.store("TrainingJob", {**self._object(owner, owner), "spec": spec})
        labels = {"modelmill.dev/owner-uid": owner, "modelmill.dev/trainingjob": owner}
        running = {"name": "trainer", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
        status = {"phase": "Running", "podIP": address, "containerStatuses": [running]}
        self.cache.store("Pod", {**self._object(name, f"pod-{name}", labels=labels), "status": status})

    def _object(self, name: str, uid: str, **metadata: Any) -> dict[str, Any]:
        self._version += 1
        version = str(self._version)
        return {"metadata": {"name": name, "namespace": "a", "uid": uid, "resourceVersion": version, **metadata}}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("sockname")[0]
        self.asked.append(address)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._ways[address](reader, writer)
        self.open -= 1
        writer.close()

    def measured(self, owner: str) -> list[Measurement]:
        observed = self.cache.observe(key(owner))
        assert observed is not None
        return list(observed.measured.values())

    def counted(self, outcome: str) -> float:
        labels = {"kind": "TrainingJob", "outcome": outcome}
        return self.metrics.registry.get_sample_value("modelmill_operator_measurements_total", labels) or 0


def key(owner: str) -> ObjectKey:
    return "TrainingJob", "a", owner


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    made = Pods()
    server = await asyncio.start_server(made.answer, "0.0.0.0", 0)  # noqa: S104 - every address of loopback
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@contextlib.asynccontextmanager
async def collecting(pods: Pods) -> AsyncIterator[Collector]:
    made = Collector(pods.cache, pods.woken.extend, pods.metrics, utc_now, pods.port)
    running = asyncio.create_task(made.run())
    try:
        yield made
        assert not running.done()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not reached():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(collector, "_LOOK", 0.01)


class Clock:
    """The collector's monotonic clock, which a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(collector, "monotonic", made)
    return made


ALL = [(outcome, name) for outcome, ways in WAYS.items() for name in ways]


@pytest.mark.parametrize(("outcome", "name"), ALL, ids=[name for _, name in ALL])
async def test_what_comes_of_an_answer(pods: Pods, outcome: str, name: str) -> None:
    pods.add("x", GOOD, WAYS[outcome][name])
    async with collecting(pods):
        await until(lambda: pods.counted(outcome) > 0 and (bool(pods.woken) or outcome != "answered"))
    assert [m.value for m in pods.measured("x")] == ([Progress(40, "fold")] if outcome == "answered" else [])
    assert pods.woken == ([key("x")] if outcome == "answered" else [])
    assert all(pods.counted(other) == 0 for other in WAYS if other != outcome)


async def test_a_pod_that_answers_is_heard_among_those_that_do_not(pods: Pods) -> None:
    bad = [way for outcome in ("silent", "nonsense") for way in WAYS[outcome].values()]
    for number, way in enumerate(bad):
        pods.add(f"bad-{number}", f"127.0.2.{number + 1}", way)
    pods.add("good", GOOD, says(BODY))
    async with collecting(pods):
        await until(lambda: pods.measured("good") != [] and pods.counted("silent") > 4 and pods.counted("nonsense") > 7)
    assert pods.woken == [key("good")]


@pytest.mark.usefixtures("clock")  # it stands still: nobody is asked a second time
async def test_no_more_than_so_many_are_asked_at_once_and_who_waits_for_that_is_not_silent(
    pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "AT_ONCE", 4)
    monkeypatch.setattr(collector, "ANSWER_SECONDS", 0.1)
    for number in range(40):
        pods.add(f"silent-{number}", f"127.0.3.{number + 1}", hangs)
    pods.add("good", GOOD, says(BODY))
    async with collecting(pods):
        await until(lambda: pods.measured("good") != [])
    # A connection that was given up is seen to be closed a moment later.
    assert pods.most_open <= 2 * 4


async def test_the_pods_of_one_object_are_asked_together_and_wake_it_once(pods: Pods) -> None:
    pods.add("x-1", GOOD, says(BODY), owner="x")
    pods.add("x-2", "127.0.1.2", says(b'{"percent": 50}'), owner="x")
    pods.add("x-3", "127.0.1.3", hangs_up, owner="x")
    async with collecting(pods):
        await until(lambda: bool(pods.woken))
    assert sorted(m.value.percent for m in pods.measured("x")) == [40, 50]
    assert pods.woken == [key("x")]


async def some_looks() -> None:
    await asyncio.sleep(0.1)


async def test_who_answered_is_asked_again_after_ten_seconds_and_no_sooner(pods: Pods, clock: Clock) -> None:
    pods.add("x", GOOD, says(BODY))
    async with collecting(pods):
        await until(lambda: pods.counted("answered") == 1)
        await some_looks()
        clock.now += 9.9
        await some_looks()
        assert pods.asked == [GOOD]
        clock.now += 0.2
        await until(lambda: pods.counted("answered") == 2)
    assert pods.woken == [key("x")]  # the second time it said the same


async def test_who_is_silent_is_asked_ever_more_seldom(pods: Pods, clock: Clock) -> None:
    pods.add("x", GOOD, hangs_up)
    async with collecting(pods):
        for number, pause in enumerate((2, 4, 8, 10, 10), 1):
            await until(lambda number=number: pods.counted("silent") == number)
            await some_looks()
            clock.now += pause - 0.1
            await some_looks()
            assert pods.counted("silent") == number
            clock.now += 0.2
        pods.add("x", GOOD, says(BODY))
        await until(lambda: pods.counted("answered") == 1)


async def test_a_pod_that_was_silent_for_days_can_still_be_asked(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_RETRY", 0.0)
    pods.add("x", GOOD, hangs_up)
    async with collecting(pods) as asking:
        await until(lambda: pods.counted("silent") > 2)
        asking._turns["a", "x"].silent = 100_000  # noqa: SLF001 - nobody waits so long
        before = pods.counted("silent")
        await until(lambda: pods.counted("silent") > before + 2)


async def test_another_pod_of_an_object_waits_for_the_objects_turn(pods: Pods, clock: Clock) -> None:
    pods.add("x-1", GOOD, says(BODY), owner="x")
    async with collecting(pods):
        await until(lambda: bool(pods.measured("x")))
        pods.cache.remove("Pod", "a", "x-1", "pod-x-1")
        await some_looks()
        pods.add("x-2", "127.0.1.2", says(BODY), owner="x")
        await some_looks()
        assert pods.asked == [GOOD]
        clock.now += 10
        await until(lambda: bool(pods.measured("x")))


async def test_a_pod_that_is_gone_is_not_asked_and_nothing_is_left_of_it(pods: Pods, clock: Clock) -> None:
    pods.add("x", GOOD, says(BODY))
    async with collecting(pods):
        await until(lambda: bool(pods.measured("x")))
        pods.cache.remove("Pod", "a", "x", "pod-x")
        clock.now += 100
        await some_looks()
    assert pods.asked == [GOOD]
    assert pods.measured("x") == []
    assert not pods.cache._measured  # noqa: SLF001 - it does not grow
