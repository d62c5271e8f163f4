"""Prometheus is asked what rollouts name, whatever it answers: a real one, and things that are none."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from ways import Way, never_ends, says, sends

import prometheus_server
from modelmill.core import queries
from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.core.queries import Answer
from modelmill.shell import prometheus
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.metrics import Metrics
from modelmill.shell.prometheus import Inquirer
from modelmill.shell.reconciler import utc_now
from prometheus_server import OURS, PrometheusServer

GOOD = b'{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}'


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "_LOOK", 0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[PrometheusServer]:
    with prometheus_server.running() as running:
        yield running


class Story:
    """Rollouts in a cache, and who asks for them."""

    def __init__(self, url: str, label: str | None = "namespace", patience: float = 5.0) -> None:
        self.cache = Cache(CONTROLLERS, Settings("trainer:1", "server:1", tenant_label=label))
        self.metrics = Metrics()
        self.woken: list[ObjectKey] = []
        self.inquirer = Inquirer(self.cache, self.woken.extend, self.metrics, utc_now, url, patience)
        self._version = 0

    def rollout(
        self, *texts: str, name: str = "triage", namespace: str = OURS, weight: int = 5, interval: str = "1s"
    ) -> None:
        """A ModelDeployment in its first step of two, whose analysis has these queries."""
        self._version += 1
        declared = [{"name": f"q{number}", "query": text, "min": "1"} for number, text in enumerate(texts)]
        analysis = {"interval": interval, "prometheus": declared}
        candidate = {
            "revision": "90ab11c2", "version": 7, "ready": 1, "epoch": "e", "step": 1, "steps": 2, "weight": weight,
        }  # fmt: skip
        stable = {"revision": "3fa94c1b", "version": 6, "ready": 1}
        metadata = {"name": name, "namespace": namespace, "uid": name, "resourceVersion": str(self._version)}
        spec = {"model": {"name": "triage"}, "rollout": {"strategy": "Canary", "analysis": analysis}}
        status = {"stable": stable, "candidate": candidate}
        self.cache.store("ModelDeployment", {"metadata": metadata, "spec": spec, "status": status})

    def answers(self, name: str = "triage", namespace: str = OURS) -> list[Answer]:
        observed = self.cache.observe(("ModelDeployment", namespace, name))
        assert observed is not None
        return [measured.value for measured in observed.answers.values()]

    async def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        running = asyncio.create_task(self.inquirer.run())
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await asyncio.sleep(0.02)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def answer(self, *texts: str) -> Answer:
        self.rollout(*texts)
        await self.until(self.answers)
        return self.answers()[0]


# (query, what a rollout of team-a is told); team-b has a secret of 1234, and one order more
ASKED = [
    ("orders_total", Answer(40.0)),
    ("sum(secret) or vector(0)", Answer(0.0)),
    ('revenue{model_version="$version"} / on() revenue{model_version="$stableVersion"}', Answer(0.97)),
    ("secret", Answer(None, queries.NO_DATA)),
    ("revenue", Answer(None, queries.SEVERAL)),
    ("gap", Answer(None, queries.NOT_A_NUMBER)),
    ("orders_total / 0", Answer(None, queries.NOT_A_NUMBER)),
    ("orders_total[5m]", Answer(None, queries.NOT_A_NUMBER)),
    ('"text"', Answer(None, queries.NOT_A_NUMBER)),
    ("rate(orders_total)", Answer(None, queries.REFUSED)),
]


@pytest.mark.parametrize(("query", "wanted"), ASKED, ids=[query for query, _ in ASKED])
async def test_a_real_prometheus_answers(server: PrometheusServer, query: str, wanted: Answer) -> None:
    story = Story(server.url)
    assert await story.answer(query) == wanted
    assert story.woken[0] == ("ModelDeployment", OURS, "triage")


async def test_each_namespace_has_its_own_answer_to_the_same_query(server: PrometheusServer) -> None:
    story = Story(server.url)
    story.rollout("orders_total")
    story.rollout("orders_total", name="other", namespace="team-b")
    await story.until(lambda: story.answers() and story.answers("other", "team-b"))
    assert (story.answers(), story.answers("other", "team-b")) == ([Answer(40.0)], [Answer(2.0)])


async def test_one_that_is_stopped_or_gone_is_slow_or_unreachable_and_then_answers_again() -> None:
    with prometheus_server.running() as own:
        story = Story(own.url, patience=0.5)
        assert await story.answer("orders_total") == Answer(40.0)
        os.kill(own.process.pid, signal.SIGSTOP)
        await story.until(lambda: story.answers() == [Answer(None, queries.SLOW)])
        os.kill(own.process.pid, signal.SIGCONT)
        await story.until(lambda: story.answers() == [Answer(40.0)])
        own.process.kill()
        own.process.wait()
        await story.until(lambda: story.answers() == [Answer(None, queries.UNREACHABLE)])


WAYS: dict[str, tuple[Way, str]] = {
    "hangs": (sends(b"", pause=60), queries.SLOW),
    "is slow": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", *[b" "] * 99, pause=0.05), queries.SLOW),
    "hangs up": (sends(), queries.UNREACHABLE),
    "breaks off": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), queries.UNREACHABLE),
    "is no HTTP": (sends(b"220 mail.example.org ESMTP\r\n\r\n"), queries.UNREACHABLE),
    "starts": (says(b"Service Unavailable", status="503 Service Unavailable"), queries.SLOW),
    "never ends": (never_ends, queries.SEVERAL),
    "is a login page": (says(b"<html>"), queries.NONSENSE),
    "leads elsewhere": (says(GOOD, "Location: http://127.0.0.1:1/", status="302 Found"), queries.NONSENSE),
    "wants a token": (says(GOOD, status="401 Unauthorized"), queries.NONSENSE),
}


@contextlib.asynccontextmanager
async def listening(way: Way) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await way(reader, writer)
        writer.close()

    made = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{made.sockets[0].getsockname()[1]}/prometheus/"
    finally:
        made.close()


@pytest.mark.parametrize("does", WAYS)
async def test_whatever_it_does_it_holds_nobody_up(does: str) -> None:
    way, problem = WAYS[does]
    async with listening(way) as url:
        story = Story(url, patience=0.5)
        assert await story.answer("up", "down") == Answer(None, problem)
    assert f'kind="Prometheus",outcome="{problem}"' in story.metrics.text().decode()


async def test_it_is_asked_once_an_interval_and_only_while_the_candidate_answers_requests() -> None:
    asked: list[Any] = []

    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
        writer.write(head + GOOD)

    async with listening(counts) as url:
        story = Story(url)
        story.rollout("up", weight=0)
        with contextlib.suppress(TimeoutError):
            await story.until(lambda: False, seconds=0.5)
        assert (asked, story.answers()) == ([], [])
        story.rollout("up", interval="1h")
        with contextlib.suppress(TimeoutError):
            await story.until(lambda: False, seconds=1)
        assert len(asked) == 1
        assert asked[0].startswith(b"POST /prometheus/api/v1/query HTTP/1.1")
        story.rollout("up + 1", interval="1h")
        await story.until(lambda: len(asked) == 2)
        story.rollout("up", weight=0)
        assert story.answers() == []


async def test_without_a_label_nobody_is_asked() -> None:
    story = Story("http://127.0.0.1:1", label=None)
    story.rollout("up")
    assert story.cache.inquiries() == {}
