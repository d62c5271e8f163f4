"""Health: what kubelet is told is so, and what cannot heal by waiting is said."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import aiohttp
import pytest
from aiohttp import web
from answering import answering

from modelmill.shell import lease
from modelmill.shell.api import Api
from modelmill.shell.cache import ObjectKey
from modelmill.shell.health import STUCK_SECONDS, Health
from modelmill.shell.lease import Elector, Fence
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue

_numbers = count()


def some() -> ObjectKey:
    """An object of ours that was not there before."""
    return ("Model", "team-a", f"triage-{next(_numbers)}")


class Clock:
    """The queue's clock."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("modelmill.shell.queue.monotonic", made)
    return made


@asynccontextmanager
async def asked(health: Health) -> AsyncIterator[str]:
    """Where to ask it."""
    runner = await health.serve("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def code(health: Health, path: str = "/healthz") -> tuple[int, str]:
    async with asked(health) as url, aiohttp.ClientSession() as session, session.get(url + path) as answer:
        return answer.status, await answer.text()


async def test_who_waits_behind_others_that_are_processed_is_no_reason_to_be_restarted(clock: Clock) -> None:
    queue: WorkQueue[ObjectKey] = WorkQueue()
    health = Health(queue, [], Metrics())
    health.leading = True
    queue.add_behind(some())
    for _ in range(10):
        queue.add(some())
        clock.now += STUCK_SECONDS / 4
        queue.done(await queue.get())
    assert queue.oldest > STUCK_SECONDS
    assert (await code(health))[0] == 200


async def test_a_queue_from_which_nobody_takes_anything_is_found(clock: Clock) -> None:
    queue: WorkQueue[ObjectKey] = WorkQueue()
    health = Health(queue, [], Metrics())
    health.leading = True
    queue.add(some())
    clock.now += STUCK_SECONDS + 1
    assert (await code(health))[0] == 503
    health.leading = False  # a standby takes nothing
    assert (await code(health))[0] == 200


async def test_a_worker_that_never_comes_back_is_found_though_others_go_on(clock: Clock) -> None:
    queue: WorkQueue[ObjectKey] = WorkQueue()
    health = Health(queue, [], Metrics())
    health.leading = True
    queue.add(some())
    held = await queue.get()
    for _ in range(10):
        clock.now += STUCK_SECONDS / 4
        queue.add(some())
        queue.done(await queue.get())
    assert (await code(health))[0] == 503
    queue.done(held)
    assert (await code(health))[0] == 200


async def test_who_may_not_have_the_lease_is_not_ready_and_says_which_role_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "ASK", 0.01)
    caplog.set_level(logging.INFO)
    tries, granted = 0, False

    async def answer(request: web.Request) -> web.Response:
        nonlocal tries
        tries += 1
        if not granted:
            return web.json_response({"message": 'leases "mill" is forbidden'}, status=403)
        if request.method == "GET":
            return web.json_response({"message": "not found"}, status=404)
        return web.json_response(await request.json())

    async with answering(answer) as server, Api(server, lambda *_: None) as api, asyncio.timeout(10):
        elector = Elector(api, Fence(), "mill-system", "mill", "me")
        health = Health(WorkQueue(), [], Metrics(), lambda: elector.problem)
        acquiring = asyncio.create_task(elector.acquire())
        while tries < 5:
            await asyncio.sleep(0.01)
        status, text = await code(health, "/readyz")
        assert status == 503
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(said) == 1
        assert said[0] in text
        for what in ("the lease mill in namespace mill-system", "Role", 'leases "mill" is forbidden'):
            assert what in text
        granted = True
        await acquiring
        assert await code(health, "/readyz") == (200, "ok, standby\n")
