"""Kinds whose CRDs may not be there: nobody watches them before somebody needs them, and nobody waits for them."""

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import web
from answering import answering

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.core.resources import OPTIONAL, OWN, ResourceType
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache
from modelmill.shell.events import Recorder
from modelmill.shell.executor import Executor
from modelmill.shell.health import Health
from modelmill.shell.lease import Fence, clock
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue
from modelmill.shell.reconciler import Reconciler
from modelmill.shell.watch import Watched

KEY = ("ModelDeployment", "team-a", "triage")
EXPOSE = {"gateway": {"name": "public"}, "hostnames": ["triage.example.org"]}
MISSING = "the API server does not know httproutes"


def kind(name: str) -> ResourceType:
    return next(resource for resource in (*OPTIONAL, *OWN) if resource.kind == name)


def deployment(version: int, **more: Any) -> dict[str, Any]:
    metadata = {"name": "triage", "namespace": "team-a", "uid": "u", "resourceVersion": str(version), "generation": 1}
    return {"metadata": metadata, "spec": {"model": {"name": "triage"}, **more}}


@pytest.fixture
def cache() -> Cache:
    return Cache(CONTROLLERS, Settings("trainer:1", "server:1"))


async def test_a_kind_is_wanted_once_an_object_depends_on_it(cache: Cache) -> None:
    waiting = asyncio.create_task(cache.wanted("HTTPRoute"))
    cache.store("ModelDeployment", deployment(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert cache.dependents("HTTPRoute") == set()
    cache.store("ModelDeployment", deployment(2, expose=EXPOSE))
    async with asyncio.timeout(1):
        await waiting
    assert cache.dependents("HTTPRoute") == {KEY}
    assert cache.dependents("HorizontalPodAutoscaler") == set()


@pytest.mark.parametrize("code", [403, 404])
def test_a_replica_is_ready_whether_the_kind_is_there_or_not(code: int) -> None:
    watched = Watched(kind("HTTPRoute"))
    health = Health(WorkQueue(), [watched], Metrics())
    assert (health.problems(), health.left_out()) == ([], [])  # nobody asks for it
    watched.failed(ApiError(code, "NotFound", "no"))
    assert health.problems() == []
    (said,) = health.left_out()
    assert "httproutes" in said
    watched.listed()
    assert (health.problems(), health.left_out()) == ([], [])


async def reconciled(cache: Cache, *, usable: bool, absent: str | None) -> list[str]:
    """What is asked of the API server for the ModelDeployment."""
    asked = list[str]()

    async def refuses(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path.rsplit('/', 1)[-1]}")
        return web.json_response({"message": "no"}, status=500)

    fence = Fence()
    fence.renewed(clock() + 1000)
    async with answering(refuses) as server, Api(server, lambda *_: None) as api:
        executor = Executor(api, cache, fence, lambda _: None, Recorder(api, fence, "test"))
        reconciler = Reconciler(
            CONTROLLERS, api, cache, WorkQueue(), executor, Metrics(),
            usable=lambda name: usable or name != "HTTPRoute",
            absent=lambda name: absent if name == "HTTPRoute" else None,
        )  # fmt: skip
        with contextlib.suppress(ApiError):
            await reconciler.reconcile(KEY)
    return asked


async def test_what_is_not_listed_yet_is_waited_for_and_what_is_not_there_is_not(cache: Cache) -> None:
    cache.store("ModelDeployment", deployment(1, expose=EXPOSE))
    assert await reconciled(cache, usable=False, absent=None) == []
    assert await reconciled(cache, usable=False, absent=MISSING) == ["PATCH status"]


async def test_who_does_not_use_it_waits_for_nothing(cache: Cache) -> None:
    cache.store("ModelDeployment", deployment(1))
    assert await reconciled(cache, usable=False, absent=None) == ["PATCH status"]
