"""Events: they wait for what is more important, and an object that flaps has so many and no more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from answering import answering

from modelmill.core.plan import Record
from modelmill.shell.api import Api
from modelmill.shell.events import BURST, REFILL_SECONDS, Budget, Recorder
from modelmill.shell.lease import Fence, NotLeader, clock

KEY = ("Model", "team-a", "triage")
OWNER: dict[str, Any] = {"metadata": {"uid": "u", "resourceVersion": "1"}}


class Server:
    """An API server that takes Events, or hangs up."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.hangs_up = False

    async def take(self, request: web.Request) -> web.Response:
        assert request.path == "/apis/events.k8s.io/v1/namespaces/team-a/events"
        if self.hangs_up:
            assert request.transport is not None
            request.transport.close()
        else:
            self.reasons.append((await request.json())["reason"])
        return web.json_response({})


@asynccontextmanager
async def recorder(busy: Callable[[], bool] = lambda: False) -> AsyncIterator[tuple[Server, Recorder, Fence]]:
    """A recorder that runs, its server, and the fence that lets it write."""
    server, fence = Server(), Fence()
    fence.renewed(clock() + 1000)
    async with answering(server.take) as credentials, Api(credentials, lambda *_: None) as api:
        made = Recorder(api, fence, "test", busy)
        running = asyncio.create_task(made.run())
        yield server, made, fence
        running.cancel()
        with suppress(asyncio.CancelledError, NotLeader):
            await running


async def written(server: Server, number: int) -> list[str]:
    async with asyncio.timeout(10):
        while len(server.reasons) < number:
            await asyncio.sleep(0.01)
    return server.reasons


async def test_events_wait_while_objects_do_and_keep_their_order() -> None:
    busy = True
    async with recorder(lambda: busy) as (server, made, _):
        for reason in ("A", "B", "C"):
            made.record(KEY, OWNER, Record("Normal", reason, "x"))
        await asyncio.sleep(0.5)
        assert server.reasons == []
        busy = False
        assert await written(server, 3) == ["A", "B", "C"]


async def test_an_event_survives_an_api_server_that_is_away() -> None:
    async with recorder() as (server, made, _):
        server.hangs_up = True
        made.record(KEY, OWNER, Record("Normal", "A", "x"))
        await asyncio.sleep(0.5)
        server.hangs_up = False
        assert await written(server, 1) == ["A"]


async def test_who_does_not_lead_writes_none() -> None:
    async with recorder() as (server, made, fence):
        fence.close()
        made.record(KEY, OWNER, Record("Normal", "A", "x"))
        await asyncio.sleep(0.2)
        assert server.reasons == []


async def test_what_waits_at_the_end_is_written() -> None:
    async with recorder(lambda: True) as (server, made, _):
        made.record(KEY, OWNER, Record("Normal", "A", "x"))
        await made.flush()
        assert server.reasons == ["A"]


def test_an_object_has_a_burst_of_events_and_then_one_now_and_then() -> None:
    now = 0.0
    budget = Budget(lambda: now)
    assert [budget.take("a") for _ in range(BURST + 3)] == [True] * BURST + [False] * 3
    assert budget.take("b")  # another one is not concerned
    now = REFILL_SECONDS - 1
    assert not budget.take("a")
    now = REFILL_SECONDS
    assert budget.take("a")
    assert not budget.take("a")


def test_who_was_quiet_for_long_has_a_burst_again_and_no_more() -> None:
    now = 0.0
    budget = Budget(lambda: now)
    assert all(budget.take("a") for _ in range(BURST))
    now = 1000 * REFILL_SECONDS
    assert sum(budget.take("a") for _ in range(2 * BURST)) == BURST


def test_who_has_its_full_number_again_is_forgotten() -> None:
    now = 0.0
    budget = Budget(lambda: now)
    for number in range(5000):
        budget.take(str(number))
        now += REFILL_SECONDS
    assert len(budget._left) < 5000  # noqa: SLF001 - it does not grow
