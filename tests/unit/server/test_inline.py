"""A fast model answers in the event loop, but not for as many rows as would hold it up."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import artifacts
import msgspec
import numpy as np
import pytest
from artifacts import Made
from onnx import TensorProto, helper
from serving import matrix
from test_patience import PATH, serving

from modelmill_contracts import artifact
from modelmill_contracts.artifact import Manifest, Tensor
from modelmill_server import model
from modelmill_server.app import App
from modelmill_server.limits import Limits

FEW = 4  # rows


class Watched(NamedTuple):
    """A server of which a test sees in which threads its model runs, with how many rows."""

    app: App
    port: int
    calls: list[tuple[int, bool]]  # rows, and whether it was the event loop's thread

    async def ask(self, rows: int, *headers: str, path: str = PATH, pause: float = 0.0) -> tuple[int, Any]:
        """The answer to so many rows, whose body is complete after `pause` seconds."""
        values = np.ones((rows, 3))
        document = {"instances": values.tolist()} if path.startswith("/v1") else {"inputs": [matrix(values)]}
        body = msgspec.json.encode(document)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body[:5])
        if pause:
            await asyncio.sleep(pause)
        writer.write(body[5:])
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = msgspec.json.decode(await reader.readexactly(size))
        writer.close()
        return int(head.split(b" ")[1]), answer


@pytest.fixture
async def watched(regression: Made, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    servable = model.load(regression.folder, regression.digest, "model", "1")
    runtime, calls = servable.runtime, []
    loops = threading.get_ident()

    class Watches:
        def predict(self, feeds: dict[str, Any]) -> list[Any]:
            calls.append((len(feeds["input"]), threading.get_ident() == loops))
            return runtime.predict(feeds)

    servable.runtime, servable.inline_rows = Watches(), FEW
    monkeypatch.setattr(model, "load", lambda *_: servable)
    async with serving(regression, Limits()) as (app, port):
        yield Watched(app, port, calls)


@pytest.mark.parametrize("path", [PATH, f"{PATH}?x=1", "/v1/models/model:predict"])
async def test_many_rows_are_computed_in_a_thread(watched: Watched, path: str) -> None:
    for rows in (1, FEW, FEW + 1, 100):
        status, answer = await watched.ask(rows, path=path)
        assert status == 200
        assert (answer.get("predictions") or answer["outputs"][0]["data"]) == [pytest.approx(first(answer))] * rows
    assert watched.calls == [(1, True), (FEW, True), (FEW + 1, False), (100, False)]
    assert watched.app.counters.read().rows == 1 + FEW + FEW + 1 + 100


def first(answer: Any) -> Any:
    return (answer.get("predictions") or answer["outputs"][0]["data"])[0]


async def test_what_comes_after_its_deadline_is_not_computed(watched: Watched) -> None:
    for rows in (1, 100):
        status, answer = await watched.ask(rows, "x-request-timeout: 0.05", pause=0.2)
        assert (status, "deadline" in answer["error"]) == (504, True)
    assert watched.calls == []
    assert watched.app.counters.refusals == {"DeadlinePassed": 2}


@pytest.mark.parametrize("pause", [0.0, 0.1])  # on the short cut, where it is open, and not
async def test_a_deadline_that_is_none_is_refused_however_it_comes(watched: Watched, pause: float) -> None:
    status, _ = await watched.ask(1, "x-request-timeout: soon", pause=pause)
    assert status == 400
    status, _ = await watched.ask(1, "x-request-timeout: 5", pause=pause)
    assert status == 200


def test_the_time_of_a_row_is_measured(regression: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    servable = model.load(regression.folder, regression.digest, "model", "1")
    assert servable.inline_rows > 64
    # No more rows fit into the body on the short cut, at one byte for each of their three values.
    assert servable.inline_bytes == 3 * servable.inline_rows
    monkeypatch.setattr(model, "_timed", lambda *_: 64 * model.INLINE_SECONDS / 10)
    servable = model.load(regression.folder, regression.digest, "model", "1")
    assert servable.inline_rows == 10


def test_a_row_without_a_size_is_never_computed_in_the_event_loop(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])]
    artifacts._write_graph(tmp_path, nodes, ends, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])])  # noqa: SLF001
    inputs, outputs = (Tensor("x", "FP32", (-1, -1)),), (Tensor("y", "FP32", ()),)
    digest = artifacts.write(tmp_path, Manifest(runtime="onnx", files=(), inputs=inputs, outputs=outputs))
    assert (tmp_path / artifact.ONNX).is_file()
    assert not model.load(tmp_path, digest, "model", "1").inline


def test_a_model_of_one_size_always_is(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])]
    artifacts._write_graph(tmp_path, nodes, ends, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])])  # noqa: SLF001
    inputs, outputs = (Tensor("x", "FP32", (2, 3)),), (Tensor("y", "FP32", ()),)
    digest = artifacts.write(tmp_path, Manifest(runtime="onnx", files=(), inputs=inputs, outputs=outputs))
    servable = model.load(tmp_path, digest, "model", "1")
    assert servable.inline
    assert servable.inline_bytes > 1 << 30
