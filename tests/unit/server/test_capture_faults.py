"""Every label that was acknowledged counts exactly once, whatever dies or is away meanwhile."""

import http.client
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import s3_server
from artifacts import Made
from captures import LABELS_PATH, Pod, folder_store, labels, pod, rows, stored
from s3_server import S3Server
from serving import matrix
from splitting import until
from tcp_proxy import proxied

from modelmill_contracts.captured import LABELS
from modelmill_contracts.task import StoreLocation

COUNT, TOGETHER, SENDERS = 5_000, 5, 4
PAUSE = 0.06  # seconds between what one sends, so that they last longer than the faults do


class Sender(threading.Thread):
    """Sends its labels, each until it is acknowledged, to whichever pod answers."""

    def __init__(self, pods: list[Pod], mine: list[list[dict[str, object]]]) -> None:
        super().__init__(daemon=True)
        self._pods = pods
        self._mine = mine
        self.acknowledged: dict[tuple[str, int], int] = {}
        self.refused = 0

    def run(self) -> None:
        turn = random.Random(len(self._mine))
        while self._mine:
            some = self._mine[-1]
            time.sleep(PAUSE)
            if self._send(turn.choice(self._pods), some):
                self._mine.pop()
                self.acknowledged |= {(str(one["id"]), 0): int(str(one["label"])) for one in some}
            else:
                self.refused += 1

    def _send(self, to: Pod, some: list[dict[str, object]]) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", to.server.port, timeout=30)
            connection.request("POST", LABELS_PATH, msgspec.json.encode({"labels": some}))
            answer = connection.getresponse()
            said = answer.read()
            connection.close()
        except (OSError, http.client.HTTPException, AssertionError):
            return False
        if answer.status == 200:
            assert msgspec.json.decode(said) == {"written": len(some), "not_sampled": 0}
        else:
            assert answer.status == 503, said
        return answer.status == 200


@contextmanager
def store_behind_a_way(folder: Path) -> Iterator[tuple[S3Server, StoreLocation, threading.Event]]:
    """A store, and what cuts every connection to it while it is set."""
    folder.mkdir()
    cut = threading.Event()

    def on_sent(_: int, __: bytes) -> None:
        if cut.is_set():
            raise OSError

    with (
        s3_server.running(folder) as server,
        proxied(int(server.endpoint.rpartition(":")[2]), on_sent) as way,
    ):
        place = server.bucket("captures")
        yield server, StoreLocation(place.uri, f"http://127.0.0.1:{way}"), cut


def test_every_acknowledged_label_counts_once(cancer: Made, tmp_path: Path) -> None:
    with store_behind_a_way(tmp_path / "s3") as (server, place, cut):
        keys = server.keys()
        with pod(cancer, place, keys=keys) as one, pod(cancer, place, keys=keys) as other:
            pods = [one, other]
            sent = [{"id": f"caller-{number}", "label": number % 2} for number in range(COUNT)]
            groups = [sent[first : first + TOGETHER] for first in range(0, COUNT, TOGETHER)]
            senders = [Sender(pods, groups[number::SENDERS]) for number in range(SENDERS)]
            for sender in senders:
                sender.start()
            for here in (one, other):
                time.sleep(0.5)
                here.server.signal(signal.SIGKILL)
                here.server.end()
                here.start_server()
                here.writer.signal(signal.SIGKILL)
                here.writer.end()
                here.start_writer()
                here.wait_until_connected()
            cut.set()
            time.sleep(3)
            one.writer.signal(signal.SIGKILL)
            one.writer.end()
            one.start_writer()
            cut.clear()
            # So long that attempts are given up, which the store may carry out all the same when it goes on.
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(12)
            server.process.send_signal(signal.SIGCONT)
            assert all(sender.is_alive() for sender in senders), "the faults came too late"
            for sender in senders:
                sender.join(90)
                assert not sender.is_alive(), "labels are left"
        acknowledged = {name: label for sender in senders for name, label in sender.acknowledged.items()}
        direct = StoreLocation(place.uri, server.endpoint)
        found = {name: label.label for name, label in labels(direct, keys).items()}
        segments = len(stored(direct, LABELS, keys))
    assert len(acknowledged) == COUNT
    assert found == acknowledged
    assert all(sender.refused for sender in senders)
    assert segments < COUNT / TOGETHER  # what waits goes together


def test_labels_are_refused_while_the_store_is_away_and_rows_wait_for_it(cancer: Made, tmp_path: Path) -> None:
    with store_behind_a_way(tmp_path / "s3") as (server, place, cut):
        direct, keys = StoreLocation(place.uri, server.endpoint), server.keys()
        with pod(cancer, place, keys=keys) as here:
            cut.set()
            assert here.server.infer(matrix(cancer.rows[:1]), id="a").status == 200
            until(lambda: here.metric("modelmill_capture_write_failures_total", kind="rows") > 1, "it is tried")
            answer = here.server.ask(
                "POST", LABELS_PATH, {"labels": [{"id": "a", "label": 1}]}, {"x-request-timeout": "2"}
            )
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert "StoreUnreachable" in answer.json["error"]
            assert here.metric("modelmill_capture_oldest_row_seconds") > 0
            cut.clear()
            until(lambda: [row.id for row in rows(direct, keys)] == ["a"], "it is written")
            assert here.label({"id": "a", "label": 1}).status == 200
            until(lambda: here.metric("modelmill_capture_oldest_row_seconds") == 0, "nothing is left")
        assert list(labels(direct, keys)) == [("a", 0)]


@pytest.mark.parametrize("wrong", ["key", "bucket"])
def test_a_store_that_refuses_is_named(cancer: Made, s3: S3Server, wrong: str) -> None:
    place = s3.bucket("refusing")
    keys = s3.keys("wrong-secret") if wrong == "key" else s3.keys()
    if wrong == "bucket":
        place = StoreLocation("s3://not-there", s3.endpoint)
    with pod(cancer, place, keys=keys) as here:
        body = {"labels": [{"id": "a", "label": 1}]}
        answer = here.server.ask("POST", LABELS_PATH, body, {"x-request-timeout": "3"})
        assert answer.status == 503
        assert ("StoreRefused" if wrong == "key" else "StoreBucketMissing") in answer.json["error"]
        assert here.server.infer(matrix(cancer.rows[:1])).status == 200


def test_a_volume_that_is_full_or_gone_is_tried_again(cancer: Made, tmp_path: Path) -> None:
    place = folder_store(tmp_path / "store")
    with pod(cancer, place) as here:
        assert here.label({"id": "a", "label": 1}).status == 200
        (tmp_path / "store" / "captured").rename(tmp_path / "away")
        (tmp_path / "store" / "captured").write_text("in the way")
        body = {"labels": [{"id": "b", "label": 1}]}
        assert here.server.ask("POST", LABELS_PATH, body, {"x-request-timeout": "1"}).status == 503
        (tmp_path / "store" / "captured").unlink()
        (tmp_path / "away").rename(tmp_path / "store" / "captured")
        assert here.label({"id": "b", "label": 0}).status == 200
    found = {name: label.label for name, label in labels(place).items()}
    assert found.keys() == {("a", 0), ("b", 0)}
