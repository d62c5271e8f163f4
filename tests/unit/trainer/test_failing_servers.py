"""S3 servers that fail in the middle: what was read counts for nothing, and no part of a version is seen."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import s3_server
from s3_server import S3Server
from tcp_proxy import proxied
from trainer_tasks import run, snapshot, taken

from modelmill_contracts import environment
from modelmill_contracts import store as stores
from modelmill_contracts.store import Store, blob_key
from modelmill_contracts.task import CollectTask, PreflightTask, SnapshotTask, StoreLocation

READER = {environment.STORE_ACCESS_KEY: "reader", environment.STORE_SECRET_KEY: "readers-secret"}


# A key that is taken back.


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server with two files in the bucket `lake`, and a user who may read it, whose key the source has."""
    (tmp_path / "users").mkdir()
    (tmp_path / "s3").mkdir()
    options = ("--iam-dir", str(tmp_path / "users"), "--iam-cache-disable")
    with s3_server.running(tmp_path / "s3", *options) as server:
        server.admin("create-user", "--access", "reader", "--secret", "readers-secret", "--role", "admin")
        written = Store(server.bucket("lake"), server.keys())
        for key, rows in (("a.csv", b"x\n1\n2\n"), ("b.csv", b"x\n3\n")):
            written.put_once(key, rows)
        for name, value in READER.items():
            monkeypatch.setenv(environment.SOURCE_PREFIX + name, value)
        yield server


@pytest.mark.parametrize("uri", ["s3://lake/*.csv", "s3://lake/a.csv"], ids=["between two files", "after the last"])
def test_a_key_that_ends_while_the_source_is_read(
    store: StoreLocation, tmp_path: Path, lake: S3Server, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    asked = SnapshotTask(store, uri, StoreLocation("", lake.endpoint))
    before = taken(asked)
    blobs = set((tmp_path / "store" / "blobs").iterdir())
    read, real = [], Store.chunks

    def chunks(self: Store, key: str, tag: str | None = None) -> Iterator[bytes]:
        yield from real(self, key, tag)
        if not read:
            lake.admin("delete-user", "--access", "reader")
        read.append(key)

    monkeypatch.setattr(Store, "chunks", chunks)
    answer = run(asked)
    assert read == ["a.csv"]
    assert (answer.reason, answer.retryable, answer.result) == ("StoreRefused", False, None), answer
    assert (
        f"in s3://lake at {lake.endpoint}: it refuses the key; check the Secret that secretRef names" in answer.message
    )
    assert READER[environment.STORE_SECRET_KEY] not in answer.message
    # What was taken before stays, and nothing was added to it.
    assert set((tmp_path / "store" / "blobs").iterdir()) == blobs
    # With a new key it goes on.
    lake.admin("create-user", "--access", "reader", "--secret", "readers-secret", "--role", "admin")
    assert taken(asked) == before


# A store that dies within an upload.

_SENT = 13 << 20  # bytes: two parts are there, the third is on its way


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source whose snapshot is written in four parts."""
    monkeypatch.setattr(stores, "_WHOLE", 1 << 20)
    monkeypatch.setattr(stores, "_PART", 5 << 20)  # S3 takes no smaller ones
    path = tmp_path / "large.parquet"
    draw = np.random.default_rng(1)
    pyarrow.parquet.write_table(pa.table({name: draw.random(1_000_000) for name in ("x", "y")}), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an S3 server, with the bucket `models`."""
    (tmp_path / "s3" / "models").mkdir(parents=True)
    return tmp_path / "s3"


def _unfinished(folder: Path) -> list[Path]:
    """The parts of uploads that nobody has ended."""
    return [path for path in (folder / "models" / ".sgwtmp" / "multipart").rglob("*") if path.is_file()]


def _dies(server: S3Server) -> Callable[[int, bytes], None]:
    """The server is killed when parts are there; from then on no connection goes on."""

    def on_sent(sent: int, _: bytes) -> None:
        if sent > _SENT:
            server.process.kill()
            raise OSError

    return on_sent


def test_a_store_that_dies_within_an_upload_shows_no_partial_version(
    tmp_path: Path, folder: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = "0b5a3f9e-1111-4222-8333-944445555666"
    port = s3_server.free_port()
    with s3_server.running(folder, port=port) as server:
        for name, value in server.keys().items():
            monkeypatch.setenv(name, value)
        with proxied(port, _dies(server)) as way:
            answer = run(SnapshotTask(StoreLocation("s3://models", f"http://127.0.0.1:{way}"), str(large)))
    assert (answer.reason, answer.retryable, answer.result) == ("StoreUnreachable", True, None), answer
    assert "could not write blobs/sha256-" in answer.message
    with s3_server.running(folder, port=port) as server:
        place = StoreLocation("s3://models", server.endpoint)
        small = Store(place).keys("blobs")  # its profile and page, which nothing refers to
        assert len(small) == 2
        assert _unfinished(folder)  # which only the bucket's own rules, or a person, take away
        # The next look succeeds, and takes what is there already.
        found = snapshot(place, large)
        names = {blob_key(name) for name in (found.file, found.profile, found.page)}
        assert set(Store(place).keys("blobs")) == names
        assert set(small) < names
        Store(place).download(blob_key(found.file), tmp_path / "copy")
        assert pyarrow.parquet.read_table(tmp_path / "copy").equals(pyarrow.parquet.read_table(large))
        # What a collection finds is everything that can be listed.
        assert run(PreflightTask(place, owner)).result.owned
        later = (datetime.now(UTC) + timedelta(days=1, hours=1)).isoformat()
        assert run(CollectTask(place, owner, (), later)).result.moved == 3


def test_an_upload_that_fails_is_ended_where_the_server_still_answers(
    folder: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def refuses_parts(sent: int, data: bytes) -> None:
        if sent > _SENT and not seen:
            seen.extend(_unfinished(folder))
        if sent > _SENT and not data.startswith((b"DELETE ", b"GET ", b"HEAD ")):
            raise OSError

    with s3_server.running(folder) as server:
        for name, value in server.keys().items():
            monkeypatch.setenv(name, value)
        with proxied(int(server.endpoint.rpartition(":")[2]), refuses_parts) as way:
            answer = run(SnapshotTask(StoreLocation("s3://models", f"http://127.0.0.1:{way}"), str(large)))
        assert (answer.reason, answer.retryable, answer.result) == ("StoreUnreachable", True, None), answer
        assert seen
        assert _unfinished(folder) == []
