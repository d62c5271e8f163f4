"""The transport: what may not be written any more is not sent, however long it has waited."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from answering import answering

from modelmill.core.resources import TYPES
from modelmill.shell.api import Api
from modelmill.shell.lease import LEASES, Fence, NotLeader, clock

CONNECTIONS = 64


async def test_a_write_that_waited_for_a_connection_until_the_lease_was_lost_is_not_sent() -> None:
    methods, free = list[str](), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        methods.append(request.method)
        await free.wait()
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})

    fence, jobs = Fence(), TYPES["Job"]
    fence.renewed(clock() + 1000)
    manifest = {"metadata": {"namespace": "team-a", "name": "a"}}
    async with (
        answering(answer) as server,
        Api(server, lambda *_: None, may_write=fence.check) as api,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(CONNECTIONS):
            group.create_task(api.get(jobs, "team-a", "a"))
        while len(methods) < CONNECTIONS:
            await asyncio.sleep(0.01)
        waiting = group.create_task(refused(api.create(jobs, manifest)))
        await asyncio.sleep(0.05)
        fence.close()
        free.set()
        await waiting
        assert "POST" not in methods
        await api.create(LEASES, manifest)  # which is how it becomes ours again
        assert methods[-1] == "POST"


async def refused(write: Any) -> None:
    with pytest.raises(NotLeader):
        await write
