"""The reconciler: what it makes of an object that it cannot read."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from answering import answering

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.events import Recorder
from modelmill.shell.executor import Executor
from modelmill.shell.lease import Fence, clock
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue
from modelmill.shell.reconciler import Reconciler


async def nothing(_: web.Request) -> web.Response:
    raise AssertionError("nothing is asked of the API server")


def dataset(spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "tumours", "namespace": "team-a", "uid": "u", "resourceVersion": "1", "generation": 1}
    return {"metadata": metadata, "spec": spec}


async def test_an_object_of_another_versions_shape_is_named_by_its_field_and_is_no_bug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, fence, metrics = Cache(CONTROLLERS, Settings("trainer:1", "server:1")), Fence(), Metrics()
    queue: WorkQueue[ObjectKey] = WorkQueue()
    fence.renewed(clock() + 1000)
    key = ("Dataset", "team-a", "tumours")
    spec = {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}, "versionHistoryLimit": "as many as fit"}
    cache.store("Dataset", dataset(spec))
    async with answering(nothing) as server, Api(server, lambda *_: None) as api:
        executor = Executor(api, cache, fence, lambda _: None, Recorder(api, fence, "test"))
        reconciler = Reconciler(CONTROLLERS, api, cache, queue, executor, metrics)
        working = asyncio.create_task(reconciler.work())
        queue.add(key)
        async with asyncio.timeout(10):
            while not caplog.records or queue.busy:
                await asyncio.sleep(0.01)
        working.cancel()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    said = record.getMessage()
    assert "DatasetSpec.versionHistoryLimit: " in said
    assert "found 'as many as fit'" in said
    assert "CRDs" in said
    assert b'kind="Dataset",outcome="unreadable"' in metrics.text()


async def test_a_name_whose_holder_may_not_be_seen_any_more_keeps_no_status_from_being_written() -> None:
    asked = list[str]()

    async def refusing(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.json_response({"message": "the role lacks it"}, status=403)

    cache, fence = Cache(CONTROLLERS, Settings("trainer:1", "server:1")), Fence()
    fence.renewed(clock() + 1000)
    key = ("Dataset", "team-a", "tumours")
    cache.store("Dataset", dataset({"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}}))
    cache.set_foreign(key, "Job", "tumours-data", taken=True)
    async with answering(refusing) as server, Api(server, lambda *_: None) as api:
        executor = Executor(api, cache, fence, lambda _: None, Recorder(api, fence, "test"))
        reconciler = Reconciler(CONTROLLERS, api, cache, WorkQueue(), executor, Metrics())
        with pytest.raises(ApiError):
            await reconciler.reconcile(key)
    assert asked == ["GET", "PATCH"]
    assert cache.foreign(key) == {("Job", "tumours-data")}
