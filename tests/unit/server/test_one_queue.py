"""V2, V1 and gRPC are one queue to a slow model: the same batches, limits, deadlines and counters."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import pytest
from artifacts import Made
from calls import INFER, raw, request, tensor
from serving import matrix
from test_batching import Slow, until
from test_patience import serving

from modelmill_server import batching, http2, model
from modelmill_server.app import App
from modelmill_server.counters import Board
from modelmill_server.grpc import Service
from modelmill_server.limits import Limits
from modelmill_server.outbox import Outbox

MANY = 3  # requests at once
LIMITS = Limits(threads=1, in_flight=MANY)


class Busy(NamedTuple):
    """A server whose model answers when the test lets it."""

    app: App
    slow: Slow
    port: int
    calls: grpc.aio.Channel
    row: Any  # [1, 30]

    async def post(self, path: str, body: Any) -> int:
        """The status of the answer."""
        content = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1])

    async def v2(self) -> int:
        return await self.post("/v2/models/model/infer", {"inputs": [matrix(self.row)]})

    async def v1(self) -> int:
        return await self.post("/v1/models/model:predict", {"instances": self.row.tolist()})

    async def grpc(self) -> int:
        """As the status that REST would have answered."""
        asked = request(tensor("input", "FP32", [1, 30]), raw_input_contents=[raw("FP32", self.row)])
        try:
            await self.calls.unary_unary(INFER)(asked.SerializeToString(), timeout=30)
        except grpc.aio.AioRpcError as error:
            codes = {grpc.StatusCode.RESOURCE_EXHAUSTED: 429, grpc.StatusCode.DEADLINE_EXCEEDED: 504}
            return codes[error.code()]
        return 200

    async def ask(self, protocol: str) -> int:
        status: int = await getattr(self, protocol)()
        return status


PROTOCOLS = ("v2", "v1", "grpc")


@asynccontextmanager
async def calling(app: App) -> AsyncIterator[grpc.aio.Channel]:
    """The application's gRPC port, with a channel to it."""
    loop = asyncio.get_running_loop()
    outbox, calls = Outbox(loop), http2.Server(Service(app), LIMITS.body_seconds)
    server = await loop.create_server(lambda: http2.Connection(calls, outbox, loop), "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as channel:
        yield channel
    server.close()


@pytest.fixture
async def busy(boosted: Made, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Busy]:
    monkeypatch.setattr(batching, "_CHECK_SECONDS", 60.0)  # a busy machine must not leave the check half done
    servable = model.load(boosted.folder, boosted.digest, "model", "1")
    assert servable.together >= MANY
    slow, runtime = Slow(), servable.runtime

    class Waits:
        def predict(self, feeds: dict[str, Any]) -> list[Any]:
            slow.predict({"input": feeds["input"][:, :1]})
            return runtime.predict(feeds)

    servable.runtime = Waits()
    monkeypatch.setattr(model, "load", lambda *_: servable)
    async with serving(boosted, LIMITS) as (app, port), calling(app) as channel:
        yield Busy(app, slow, port, channel, boosted.rows[:1])
    slow.go.release(100)


async def test_they_go_together(busy: Busy) -> None:
    busy.app.limits = Limits(threads=1)  # so that a fourth may wait
    first = asyncio.create_task(busy.v2())
    await until(lambda: busy.slow.calls)
    waiting = [asyncio.create_task(busy.ask(protocol)) for protocol in PROTOCOLS]
    await until(lambda: busy.app.counters.in_flight == 1 + MANY)
    await asyncio.sleep(0.2)  # so that all have been decoded
    busy.slow.go.release(2)
    assert await asyncio.gather(first, *waiting) == [200] * 4
    assert [len(rows) for rows in busy.slow.calls] == [1, MANY]
    counters = busy.app.counters.read()
    assert (counters.rows, counters.requests) == (4, {"200": 4})
    assert sum(counters.compute.counts) == sum(counters.request.counts) == 4


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_limit_is_on_all_of_them(busy: Busy, protocol: str) -> None:
    waiting = [asyncio.create_task(busy.ask(one)) for one in PROTOCOLS]
    await until(lambda: busy.app.counters.in_flight == MANY)
    assert await busy.ask(protocol) == 429
    busy.slow.go.release(10)
    assert await asyncio.gather(*waiting) == [200] * MANY
    assert busy.app.counters.refusals == {"QueueFull": 1}
    assert busy.app.counters.read().requests == {"200": MANY, "429": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_servers_deadline_is_on_all_of_them(busy: Busy, protocol: str) -> None:
    busy.app.limits = Limits(threads=1, deadline=0.1)
    first = asyncio.create_task(busy.v2())
    await until(lambda: busy.slow.calls)
    assert await busy.ask(protocol) == 504
    busy.slow.go.release(10)
    assert await first == 200
    assert len(busy.slow.calls) == 1
    assert busy.app.counters.refusals == {"DeadlinePassed": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_their_rows_are_in_the_same_bins(cancer: Made, protocol: str) -> None:
    async with serving(cancer, LIMITS) as (app, port):
        servable = app.servable
        assert servable is not None
        assert servable.bins is not None
        board = Board()
        board.bin_rows(servable.bins)
        app.counters.bins = board.workers[0].bins
        async with calling(app) as channel:
            fast = Busy(app, Slow(), port, channel, cancer.rows[:1])
            for _ in range(3):
                assert await fast.ask(protocol) == 200
    assert app.counters.bins is not None
    assert {sum(feature.counts) for feature in app.counters.bins.read().features()} == {3}
