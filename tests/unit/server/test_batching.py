"""Requests that wait for a slow model go together, and nobody's answer depends on who else asks."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from artifacts import Made
from serving import matrix
from test_patience import serving

from modelmill_server import batching, model
from modelmill_server.app import App
from modelmill_server.batching import Batches
from modelmill_server.errors import RefusedError, invalid
from modelmill_server.limits import Limits

Feeds = dict[str, Any]
PATH = "/v2/models/model/infer"


class Slow:
    """Doubles rows, as fast as the test lets it: each call waits for `go`."""

    def __init__(self, refuse: float | None = None) -> None:
        self.calls: list[list[float]] = []
        self.go = threading.Semaphore(0)
        self._refuse = refuse

    def predict(self, feeds: Feeds) -> list[Any]:
        self.calls.append(feeds["input"].ravel().tolist())
        assert self.go.acquire(timeout=20)
        if self._refuse is not None and self._refuse in feeds["input"]:
            raise invalid("ModelRefused", "no")
        return [feeds["input"] * 2]


def row(*values: float) -> tuple[Feeds, int]:
    return {"input": np.array(values, np.float32).reshape(-1, 1)}, len(values)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_lone_request_goes_at_once_and_what_waits_goes_together() -> None:
    slow = Slow()
    batches = Batches(slow, 8, 1)
    tasks = [asyncio.create_task(batches.predict(*row(1)))]
    await until(lambda: slow.calls)
    assert slow.calls == [[1]]
    for values in ((2,), (3, 4), (5,), (6, 7, 8, 9, 10), (11,)):
        tasks.append(asyncio.create_task(batches.predict(*row(*values))))
        await asyncio.sleep(0)
    for _ in range(3):
        slow.go.release()
    outputs = [task[0][0].ravel().tolist() for task in await asyncio.gather(*tasks)]
    # No more than eight rows, and in the order in which they came: nobody overtakes.
    assert slow.calls == [[1], [2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert outputs == [[2], [4], [6, 8], [10], [12, 14, 16, 18, 20], [22]]


async def test_one_that_is_larger_than_a_batch_goes_alone() -> None:
    slow = Slow()
    batches = Batches(slow, 2, 1)
    tasks = [asyncio.create_task(batches.predict(*row(*values))) for values in ((1,), (2, 3, 4), (5,), (6,))]
    for _ in range(3):
        slow.go.release()
    await asyncio.gather(*tasks)
    assert slow.calls == [[1], [2, 3, 4], [5, 6]]


async def test_a_bad_request_does_not_spoil_the_others() -> None:
    slow = Slow(refuse=3)
    batches = Batches(slow, 8, 1)
    tasks = [asyncio.create_task(batches.predict(*row(value))) for value in (1, 2, 3, 4)]
    for _ in range(9):
        slow.go.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[2], RefusedError)
    assert results[2].reason == "ModelRefused"
    assert [one[0][0].tolist() for one in results if not isinstance(one, BaseException)] == [[[2]], [[4]], [[8]]]
    assert slow.calls[1] == [2, 3, 4]


async def test_what_waits_beyond_its_deadline_is_refused_then_and_not_computed() -> None:
    slow = Slow()
    batches = Batches(slow, 8, 1)
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(batches.predict(*row(1), loop.time() + 0.01))  # it does not wait
    await until(lambda: slow.calls)
    patient = asyncio.create_task(batches.predict(*row(2), loop.time() + 60))
    began = loop.time()
    with pytest.raises(RefusedError) as refused:
        await batches.predict(*row(3), began + 0.1)
    assert 0.09 < loop.time() - began < 5
    assert (refused.value.status, refused.value.reason) == (504, "DeadlinePassed")
    with pytest.raises(RefusedError):
        await batches.predict(*row(4), began)  # it has passed already
    for _ in range(2):
        slow.go.release()
    await asyncio.gather(first, patient)
    assert slow.calls == [[1], [2]]


async def test_a_caller_that_has_gone_is_not_computed_for() -> None:
    slow = Slow()
    batches = Batches(slow, 8, 1)
    tasks = [asyncio.create_task(batches.predict(*row(value))) for value in (1, 2, 3)]
    await until(lambda: slow.calls)
    tasks[1].cancel()
    await asyncio.sleep(0)
    for _ in range(2):
        slow.go.release()
    await asyncio.gather(tasks[0], tasks[2])
    assert slow.calls == [[1], [3]]


async def test_what_a_caller_that_has_gone_sent_does_not_wait_for_the_model() -> None:
    slow = Slow()
    batches = Batches(slow, 8, 1)
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(batches.predict(*row(1)))
    await until(lambda: slow.calls)
    feeds, rows = row(2)
    sent = weakref.ref(feeds["input"])
    second = asyncio.create_task(batches.predict(feeds, rows, loop.time() + 3600))
    await asyncio.sleep(0)
    del feeds
    second.cancel()
    await asyncio.wait([second])
    del second
    gc.collect()
    assert sent() is None
    slow.go.release()
    await first
    assert slow.calls == [[1]]


async def test_arrays_that_do_not_fit_together_go_one_after_the_other() -> None:
    slow = Slow()
    batches = Batches(slow, 8, 1)
    arrays = [
        np.ones((1, 2), np.float32),
        np.ones((1, 3), np.float32),
        np.ones((2, 3), np.float32),
        np.ones((1, 3), np.float64),
        np.ones((1, 3, 1), np.float64),
        np.ones((1, 2), np.float32),
        np.ones((1, 2), np.float32),
    ]
    tasks = [asyncio.create_task(batches.predict({"input": array}, len(array))) for array in arrays]
    for _ in range(9):
        slow.go.release()
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*tasks)
    assert [answer[0][0].shape for answer in answers] == [array.shape for array in arrays]
    assert [len(call) for call in slow.calls] == [2, 9, 3, 3, 4]


async def test_nobodys_rows_stand_beside_another_callers() -> None:
    """Inputs of different numbers of rows, which only together with those of somebody else would be as many."""

    class Pairs(Slow):
        def predict(self, feeds: Feeds) -> list[Any]:
            super().predict({"input": feeds["a"]})
            return [feeds["a"] + feeds["b"]]

    slow = Pairs()
    batches = Batches(slow, 8, 1)
    few, many = np.full((1, 1), 100, np.float32), np.full((3, 1), 1, np.float32)
    pairs = [{"a": few, "b": few}, {"a": few, "b": many}, {"a": many, "b": few}, {"a": few, "b": few}]
    tasks = [asyncio.create_task(batches.predict(feeds, len(feeds["b"]))) for feeds in pairs]
    for _ in range(9):
        slow.go.release()
    answers = await asyncio.gather(*tasks)
    assert [answer[0][0].ravel().tolist() for answer in answers] == [[200], [101] * 3, [101] * 3, [200]]
    assert len(slow.calls) == 4


async def test_nobody_waits_for_ever_whatever_the_model_does() -> None:
    class Ends(Slow):
        def predict(self, feeds: Feeds) -> list[Any]:
            super().predict(feeds)
            raise SystemExit(1)

    slow = Ends()
    batches = Batches(slow, 8, 1)
    tasks = [asyncio.create_task(batches.predict(*row(value))) for value in (1, 2, 3)]
    for _ in range(9):
        slow.go.release()
    async with asyncio.timeout(20):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == ["the model's thread ended: SystemExit"] * 3


async def test_as_many_at_once_as_there_are_threads() -> None:
    slow = Slow()
    batches = Batches(slow, 8, 2)
    tasks = [asyncio.create_task(batches.predict(*row(value))) for value in (1, 2, 3, 4)]
    await until(lambda: len(slow.calls) == 2)
    for _ in range(3):
        slow.go.release()
    await asyncio.gather(*tasks)
    assert sorted(slow.calls) == [[1], [2], [3, 4]]


class Blas:
    """A model whose sums differ when more than `exact` rows go together."""

    def __init__(self, exact: int) -> None:
        self._exact = exact

    def predict(self, feeds: Feeds) -> list[Any]:
        rows = feeds["input"]
        sums = rows.sum(axis=1)
        return [np.zeros(len(rows), np.int64), np.nextafter(sums, np.float32(9)) if len(rows) > self._exact else sums]


@pytest.mark.parametrize(("exact", "found"), [(1, 1), (4, 3), (8, 8), (100, 64)])
def test_no_more_rows_together_than_give_the_same_bits(exact: int, found: int) -> None:
    rows = [row(value)[0] for value in np.random.default_rng(1).normal(size=64)]
    assert batching.rows_together(Blas(exact), rows) == found


def test_a_very_slow_model_does_not_hold_up_the_start() -> None:
    class VerySlow(Blas):
        def predict(self, feeds: Feeds) -> list[Any]:
            time.sleep(0.2)
            return super().predict(feeds)

    began = time.monotonic()
    assert batching.rows_together(VerySlow(100), [row(value)[0] for value in range(64)]) in (2, 3)
    assert time.monotonic() - began < 2


@pytest.fixture(params=["boosted", "cancer", "mixed"])
def made(request: pytest.FixtureRequest) -> Made:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


async def answers(port: int, bodies: list[bytes], headers: str = "") -> list[tuple[int, bytes]]:
    async def one(body: bytes) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]

    return await asyncio.gather(*map(one, bodies))


class Recorded:
    """A runtime whose calls are slow enough for others to wait, with the rows of each."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.sizes: list[int] = []

    def predict(self, feeds: Feeds) -> list[Any]:
        self.sizes.append(len(next(iter(feeds.values()))))
        time.sleep(0.02)
        return self._runtime.predict(feeds)  # type: ignore[no-any-return]


async def test_answers_together_are_those_alone_bit_for_bit(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "INLINE_SECONDS", 0.0)  # a fast model is made a slow one
    monkeypatch.setattr(batching, "_CHECK_SECONDS", 60.0)  # a busy machine must not leave the check half done
    servable = model.load(made.folder, made.digest, "model", "1")
    assert not servable.inline
    recorded = Recorded(servable.runtime)
    bodies = [msgspec.json.encode({"id": str(index), "inputs": inputs(made, index)}) for index in range(60)]
    alone = [
        servable.codec.encode(call, servable.runtime.predict(call.feeds))[0]
        for call in map(servable.codec.decode, bodies)
    ]
    servable.runtime = recorded
    monkeypatch.setattr(model, "load", lambda *_: servable)
    bad = b'{"inputs": []}'
    async with serving(made, Limits(threads=1)) as (app, port):
        found = await answers(port, [bad, *bodies, bad])
    assert [status for status, _ in found] == [400, *[200] * 60, 400]
    assert [body for _, body in found[1:-1]] == alone
    assert max(recorded.sizes) <= max(3, servable.together)
    # A linear model sums in another order for more rows (BLAS); trees do not.
    assert len(recorded.sizes) < 30 if made.folder.parent.name.startswith("boosted") else servable.together < 5
    assert app.counters.read().requests == {"200": 60, "400": 2}


def inputs(made: Made, index: int) -> list[dict[str, Any]]:
    rows = made.rows[index : index + 1 + index % 3]
    if not hasattr(rows, "columns"):
        return [matrix(rows)]
    shape = [len(rows)]
    return [
        {
            "name": name,
            "shape": shape,
            "datatype": "BYTES" if name == "city" else "FP32",
            "data": [None if value != value else value for value in rows[name].tolist()],
        }
        for name in rows.columns
    ]


@pytest.fixture
async def busy(boosted: Made, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Slow, App, int, bytes]]:
    """A server whose model takes as long as the test wants."""
    servable = model.load(boosted.folder, boosted.digest, "model", "1")
    slow, runtime = Slow(), servable.runtime

    class Waits:
        def predict(self, feeds: Feeds) -> list[Any]:
            slow.predict({"input": feeds["input"][:, :1]})
            return runtime.predict(feeds)

    servable.runtime = Waits()
    monkeypatch.setattr(model, "load", lambda *_: servable)
    body = msgspec.json.encode({"inputs": [matrix(boosted.rows[:1])]})
    async with serving(boosted, Limits(threads=1, in_flight=3, deadline=30.0)) as (app, port):
        yield slow, app, port, body
    slow.go.release(100)


@pytest.mark.parametrize("header", ["X-Request-Timeout: 0.1", "x-envoy-expected-rq-timeout-ms: 100"])
async def test_a_deadline_in_a_header(busy: tuple[Slow, App, int, bytes], header: str) -> None:
    slow, app, port, body = busy
    first = asyncio.create_task(answers(port, [body], header + "\r\n"))
    await until(lambda: slow.calls)
    ((status, answer),) = await answers(port, [body], header + "\r\n")
    assert status == 504
    assert "deadline" in msgspec.json.decode(answer)["error"]
    slow.go.release(10)
    assert (await first)[0][0] == 200
    assert len(slow.calls) == 1
    assert app.counters.refusals == {"DeadlinePassed": 1}


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon", ""])
async def test_a_deadline_that_is_none(busy: tuple[Slow, App, int, bytes], value: str) -> None:
    _, app, port, body = busy
    ((status, answer),) = await answers(port, [body], f"X-Request-Timeout: {value}\r\n")
    assert status == 400
    assert value == "" or value not in msgspec.json.decode(answer)["error"]
    assert app.counters.refusals == {"DeadlineInvalid": 1}


async def test_a_full_queue(busy: tuple[Slow, App, int, bytes]) -> None:
    slow, app, port, body = busy
    waiting = [asyncio.create_task(answers(port, [body])) for _ in range(3)]
    await until(lambda: app.counters.in_flight == 3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1\r\n" in head
    writer.close()
    slow.go.release(10)
    assert [(await one)[0][0] for one in waiting] == [200] * 3


async def test_the_servers_own_deadline(boosted: Made, busy: tuple[Slow, App, int, bytes], tmp_path: Path) -> None:  # noqa: ARG001
    slow, app, port, body = busy
    app.limits = Limits(threads=1, deadline=0.1)
    first = asyncio.create_task(answers(port, [body]))
    await until(lambda: slow.calls)
    assert (await answers(port, [body], "X-Request-Timeout: 60\r\n"))[0][0] == 504
    slow.go.release(10)
    assert (await first)[0][0] == 200
