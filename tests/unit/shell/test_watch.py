"""The watch: what is none of Kubernetes' answers is said, and ends nothing."""

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import web
from answering import answering

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.core.resources import TYPES
from modelmill.shell import watch
from modelmill.shell.api import Api
from modelmill.shell.cache import Cache


async def followed(event: Any, until: Any) -> tuple[watch.Watched, list[dict[str, str]]]:
    """How Services are doing once a watch of them said this, and what was asked."""
    asked = list[dict[str, str]]()

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        if "watch" not in request.query:
            return web.json_response({"items": [], "metadata": {"resourceVersion": "5"}})
        return web.json_response(event)

    async def with_newline(request: web.Request) -> web.Response:
        made = await answer(request)
        return web.Response(body=made.body + b"\n", content_type="application/json") if made.body else made

    watched, cache = watch.Watched(TYPES["Service"]), Cache(CONTROLLERS, Settings("trainer:1", "server:1"))
    async with answering(with_newline) as server, Api(server, lambda *_: None) as api:
        following = asyncio.create_task(watch.follow(api, cache, watched, None, lambda _: None))
        while not until(watched, asked):
            await asyncio.sleep(0.01)
        assert not following.done()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    return watched, asked


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ADDED", "object": {}},
        {"type": "DELETED", "object": {}},
        {"type": "DELETED", "object": {"metadata": {"resourceVersion": "6"}}},
        {"type": "BOOKMARK", "object": {"metadata": {}}},
        {"type": "MODIFIED"},
        {"object": {}},
        [],
        "hello",
    ],
)
async def test_a_watch_event_about_no_object_is_said_and_the_watch_goes_on(event: Any) -> None:
    async with asyncio.timeout(20):
        watched, _ = await followed(event, lambda watched, _: watched.problem is not None)
    assert watched.nonsense
    assert "InvalidObjectError" in str(watched.problem)


async def test_a_watch_is_asked_for_no_longer_than_silence_is_believed() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}
    async with asyncio.timeout(20):
        _, asked = await followed(bookmark, lambda _, asked: len(asked) > 2)
    first, second = asked[1:3]
    assert (first["timeoutSeconds"], first["resourceVersion"]) == ("110", "5")
    assert second["resourceVersion"] == "7"  # it goes on from where it was, and lists nothing
