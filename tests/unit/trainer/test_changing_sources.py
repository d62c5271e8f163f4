"""A source that vanishes, or that somebody writes while it is read, makes no version: it is read again later."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from s3_server import S3Server
from trainer_tasks import csv, run

from modelmill_contracts import environment
from modelmill_contracts.report import Report
from modelmill_contracts.store import Store
from modelmill_contracts.task import Column, SnapshotTask, StoreLocation
from modelmill_trainer import mounted, reading


@pytest.fixture
def lake(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> StoreLocation:
    for name, value in s3.keys().items():
        monkeypatch.setenv(environment.SOURCE_PREFIX + name, value)
    location = s3.bucket("changing")
    written = Store(location, s3.keys())
    for key in written.keys(""):
        written.delete(key)
    for key in ("a.csv", "b.csv"):
        written.put_once(key, b"x\n1\n2\n")
    return location


def _overwrite(written: Store) -> None:
    written.delete("a.csv")
    written.put_once("a.csv", b"x\n3\n4\n")


def _during_the_read(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """`act` once, when the first batch was read."""
    real, acted = reading._read_csv, []  # noqa: SLF001

    def read(path: Path, where: str) -> Iterator[pa.RecordBatch]:
        for batch in real(path, where):
            yield batch
            if not acted:
                acted.append(act())

    monkeypatch.setattr(reading, "_read_csv", read)


def _during_the_download(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """`act` after each object was fetched."""
    real = Store.chunks

    def chunks(self: Store, key: str, tag: str | None = None) -> Iterator[bytes]:
        yield from real(self, key, tag)
        act()

    monkeypatch.setattr(Store, "chunks", chunks)


def _is_changed(answer: Report, what: str) -> None:
    assert (answer.reason, answer.retryable) == ("SourceChanged", True), answer
    assert answer.message == f"{what} was changed while it was read; it is read again later"
    assert answer.result is None


def test_a_mounted_file_that_is_appended_to(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = csv(tmp_path / "data.csv", "x", ["1", "2"])
    _during_the_read(monkeypatch, lambda: source.write_text("x\n1\n2\n3\n"))
    _is_changed(run(SnapshotTask(store, str(source))), "the mounted source")
    assert not (tmp_path / "store" / "blobs").exists()
    assert run(SnapshotTask(store, str(source))).result.rows == 3


def test_a_mounted_folder_that_gets_another_file(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    csv(tmp_path / "in" / "1.csv", "x", ["1"])
    _during_the_read(monkeypatch, lambda: csv(tmp_path / "in" / "2.csv", "x", ["2"]))
    _is_changed(run(SnapshotTask(store, str(tmp_path / "in"))), "the mounted source")


def test_a_mounted_file_that_vanishes(store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = csv(tmp_path / "data.csv", "x", ["1", "2"])
    _during_the_read(monkeypatch, source.unlink)
    _is_changed(run(SnapshotTask(store, str(source))), "the mounted source")
    answer = run(SnapshotTask(store, str(source)))
    assert (answer.reason, answer.message) == (
        "SourceNotFound",
        (
            "the mounted source has no file 'data.csv': check the path on the volume, or configMapRef.key and that the"
            " ConfigMap has it"
        ),
    )


@pytest.mark.parametrize(
    ("uri", "act"),
    [
        ("s3://changing/a.csv", _overwrite),
        ("s3://changing/a.csv", lambda written: written.delete("a.csv")),
        ("s3://changing/*.csv", lambda written: written.put_once("c.csv", b"x\n5\n")),
        ("s3://changing/*.csv", lambda written: written.delete("b.csv")),
    ],
    ids=["overwritten", "deleted", "another part", "a part less"],
)
def test_a_bucket_that_is_written(
    store: StoreLocation,
    s3: S3Server,
    lake: StoreLocation,
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    act: Callable[[Store], Any],
) -> None:
    _during_the_download(monkeypatch, lambda: act(Store(lake, s3.keys())))
    _is_changed(run(SnapshotTask(store, uri, source_store=lake)), f"source.uri {uri}")


def test_when_a_source_was_written(store: StoreLocation, tmp_path: Path, s3: S3Server, lake: StoreLocation) -> None:
    source = csv(tmp_path / "data.csv", "x", ["1"])
    os.utime(source, (1_700_000_000, 1_700_000_000))
    assert run(SnapshotTask(store, str(source))).result.modified_at == "2023-11-14T22:13:20Z"
    before = datetime.now(UTC).replace(microsecond=0)
    _overwrite(Store(lake, s3.keys()))
    answer = run(SnapshotTask(store, "s3://changing/a.csv", source_store=lake))
    assert before <= datetime.fromisoformat(answer.result.modified_at) <= datetime.now(UTC)


def test_a_config_map_does_not_say_when_it_was_written(store: StoreLocation, tmp_path: Path) -> None:
    # As kubelet mounts it: its files are as old as the pod.
    folder = tmp_path / "source"
    (folder / "..2026_01_01").mkdir(parents=True)
    csv(folder / "..2026_01_01" / "data.csv", "x", ["1"])
    (folder / "..data").symlink_to("..2026_01_01")
    (folder / "data.csv").symlink_to("..data/data.csv")
    answer = run(SnapshotTask(store, str(folder / "data.csv")))
    assert (answer.ok, answer.result.modified_at) == (True, None)


def test_a_folder_is_one_table_of_its_files(store: StoreLocation, tmp_path: Path) -> None:
    (tmp_path / "in" / "day=1").mkdir(parents=True)
    for name, value in (("b.csv", "2"), ("a.csv", "1"), ("day=1/c.csv", "3"), ("_SUCCESS", "no"), (".part", "no")):
        csv(tmp_path / "in" / name, "x", [value])
    bounded = (Column("x", "Integer", max="2"),)
    assert run(SnapshotTask(store, str(tmp_path / "in"))).result.rows == 3
    assert run(SnapshotTask(store, str(tmp_path / "in"), columns=bounded)).problems[0].rows == (3,)
    assert run(SnapshotTask(store, str(tmp_path / "in" / "*.csv"))).result.rows == 2


def test_a_folder_without_files(store: StoreLocation, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    answer = run(SnapshotTask(store, str(tmp_path / "in")))
    assert (answer.reason, answer.message) == (
        "SourceNotFound",
        "the mounted folder has no file; write one (names that start with . or _ are left out)",
    )


@pytest.mark.parametrize("target", ["/proc/self/environ", "../outside.csv"])
def test_a_link_that_leads_out_of_the_volume(store: StoreLocation, tmp_path: Path, target: str) -> None:
    csv(tmp_path / "outside.csv", "x", ["1"])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data.csv").symlink_to(target)
    for source in (tmp_path / "in", tmp_path / "in" / "data.csv"):
        answer = run(SnapshotTask(store, str(source)))
        assert (answer.reason, answer.message) == (
            "SourceInvalid",
            "the mounted source's 'data.csv' is a link that leads out of its folder",
        )


def test_a_volume_s_root_is_what_links_must_not_leave(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounted, "_MOUNTS", (tmp_path / "mount",))
    (tmp_path / "mount" / "a").mkdir(parents=True)
    csv(tmp_path / "mount" / "shared.csv", "x", ["1"])
    (tmp_path / "mount" / "a" / "data.csv").symlink_to("../shared.csv")
    assert run(SnapshotTask(store, str(tmp_path / "mount" / "a"))).ok


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]"])
def test_an_endpoint_that_is_a_metadata_address(store: StoreLocation, host: str) -> None:
    endpoint = StoreLocation("", f"http://{host}")
    answer = run(SnapshotTask(store, "s3://latest/meta-data", source_store=endpoint))
    name = host.strip("[]")
    assert (answer.reason, answer.message) == (
        "SourceAddressDenied",
        (
            f"spec.source.endpoint: {name!r} is a link-local or metadata address, which sources may not be read from;"
            f" use the address of a real server"
        ),
    )


def test_a_store_that_fails_half_way_shows_no_partial_version(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = csv(tmp_path / "data.csv", "x", ["1"])
    whole = run(SnapshotTask(store, str(source))).result
    for name in (tmp_path / "store" / "blobs").iterdir():
        name.unlink()
    real, written = Store.put_once, []

    def put_once(self: Store, key: str, content: bytes | Path) -> bool:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(key)
        return real(self, key, content)

    monkeypatch.setattr(Store, "put_once", put_once)
    answer = run(SnapshotTask(store, str(source)))
    assert (answer.ok, answer.reason, answer.result) == (False, "ScratchFull", None)
    assert answer.message == (
        "the node's disk, which has the pod's scratch volume, is full: read fewer rows or columns, or give the nodes"
        " more disk"
    )
    # What is there already is found, and the rest is written, when it is tried again.
    monkeypatch.undo()
    assert run(SnapshotTask(store, str(source))).result.file == whole.file
