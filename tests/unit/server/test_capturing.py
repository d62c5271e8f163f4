"""What is kept of predictions, from the codec to the socket."""

import asyncio
import math
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import uvloop

from modelmill_contracts import captured, environment
from modelmill_contracts.artifact import Feature, Manifest, Tensor
from modelmill_contracts.task import StoreLocation
from modelmill_server import capture, segments, signature
from modelmill_server.__main__ import main
from modelmill_server.capturing import Queue
from modelmill_server.counters import Board
from modelmill_server.link import Link
from modelmill_server.records import Recorder
from modelmill_server.v2 import Call

NAN = math.nan


def recorder(features: int = 1) -> Recorder:
    """Of a classifier of two classes."""
    inputs = (Tensor("input", "FP32", (-1, features)),)
    outputs = (Tensor("predict", "INT64", (-1,)), Tensor("predict_proba", "FP32", (-1, 2)))
    named = tuple(Feature(f"f{number}", "Float") for number in range(features))
    manifest = Manifest("onnx", (), inputs, outputs, named, classes=("0", "1"))
    return Recorder(manifest, signature.of_manifest(manifest), None)


def test_scores_that_are_not_finite_are_none_and_spoil_no_segment() -> None:
    ours = recorder()
    call = Call(3, {"input": np.array([[1], [NAN], [3]], np.float32)}, "a")
    scores = np.array([[0.25, 0.75], [NAN, NAN], [math.inf, 0]], np.float32)
    kept = ours.keep(call, [np.array([1, 0, 0]), scores])
    count, text = ours.lines(kept, 10)
    _, rows = captured.unpack(captured.pack_lines(ours.header("sha256:0", "1"), text))
    assert count == 3
    assert [(row.values, row.scores) for row in rows] == [((1.0,), (0.25, 0.75)), ((None,), ()), ((3.0,), ())]


@pytest.mark.parametrize(("features", "at_once"), [(1, 250), (997, 8), (20_000, 1)])
def test_wide_rows_are_made_records_of_few_at_a_time(features: int, at_once: int) -> None:
    queue = Queue(recorder(features), Board().workers[0])
    matrix = np.zeros((600 if features == 1 else 20, features), np.float32)
    queue.add(Call(len(matrix), {"input": matrix}, "a"), [np.zeros(len(matrix)), np.full((len(matrix), 2), 0.5)])
    frames = [frame.count(b"\n") for frame in iter(queue.take, b"")]
    assert sum(frames) == len(matrix)
    assert max(frames) == at_once


def test_what_is_on_its_way_to_a_slow_writer_is_sent_before_the_end(tmp_path: Path) -> None:
    counters = Board().workers[0]
    queue = Queue(recorder(900), counters)
    matrix = np.random.default_rng(7).random((18, 900), np.float32)
    link = Link(tmp_path / "socket", b"", queue)
    got = bytearray()

    def read() -> None:
        connection, _ = listener.accept()
        time.sleep(1)  # the frames are larger than what the socket holds
        while some := connection.recv(1 << 16):
            got.extend(some)

    async def run() -> None:
        link.start()
        while not link.connected:
            await asyncio.sleep(0.01)
        queue.add(Call(18, {"input": matrix}, "a"), [np.zeros(18), np.full((18, 2), 0.5)])
        while counters.captured.read().get("Kept") != 18:
            await asyncio.sleep(0.01)
        await link.close(10)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        reader = threading.Thread(target=read)
        reader.start()
        uvloop.run(run())
        reader.join()
    assert got.count(b"\n") == 18


def test_labels_that_wait_for_the_store_take_little_memory_however_few_come_at_a_time() -> None:
    waiting = segments.Labels(segments.Segments(StoreLocation("file:///nowhere"), "of"))
    refused: list[bool] = []
    tracemalloc.start()
    try:
        for number in range(100_000):
            waiting.add(b'["%d",0,1795982091078,1]\n' % number, 1, refused.append)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(refused) > 30_000
    assert not any(refused)
    assert taken < 64 << 20


def test_a_socket_that_cannot_be_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(environment.STORE_LOCATION, '{"uri": "file:///nowhere"}')
    for path, reason in ((Path("/nowhere/socket"), "No such file"), (Path("/tmp") / ("x" * 120), "path too long")):
        assert capture.main("of", path, 1) == 1
        assert reason in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "-1", "1.5", "nan", "all"])
def test_a_share_that_is_none_is_refused_as_one(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["model", f"--capture={share}"])
    assert "a share above 0, at most 1" in capsys.readouterr().err
