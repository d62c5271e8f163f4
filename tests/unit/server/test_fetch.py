"""The init container: an artifact from a store into a folder, or a report that says why not."""

import contextlib
import json
import shutil
import socket
import threading
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import pytest
from artifacts import Made, write
from serving import Process

from modelmill_contracts import artifact, digest, environment, folder
from modelmill_contracts.store import Store, StoreError, artifact_key
from modelmill_contracts.task import StoreLocation
from modelmill_server import fetch as fetching


class Stored(NamedTuple):
    location: StoreLocation
    uri: str
    digest: str
    path: Path  # of the artifact in the store


@pytest.fixture
def stored(regression: Made, tmp_path: Path) -> Stored:
    location = StoreLocation((tmp_path / "store").as_uri())
    manifest = artifact.decode((regression.folder / artifact.MANIFEST).read_bytes())
    assert folder.publish(Store(location), regression.folder, manifest) == regression.digest
    key = artifact_key(regression.digest)
    return Stored(location, f"{location.uri}/{key}", regression.digest, tmp_path / "store" / key)


class Outcome(NamedTuple):
    code: int
    report: dict[str, Any]


def fetch(stored: Stored, target: Path, tmp_path: Path, variables: dict[str, str] | None = None) -> Outcome:
    report = tmp_path / "termination-log"
    process = Process(
        "fetch",
        stored.uri,
        stored.digest,
        str(target),
        variables={
            environment.REPORT: str(report),
            environment.STORE_LOCATION: msgspec.json.encode(stored.location).decode(),
            **(variables or {}),
        },
    )
    try:
        code = process.wait()
    finally:
        process.end()
    return Outcome(code, json.loads(report.read_bytes()) if report.exists() else {})


def test_a_folder_as_it_was_published(stored: Stored, regression: Made, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert fetch(stored, target, tmp_path) == Outcome(0, {})
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in regression.folder.iterdir()
    }


def test_what_is_not_served_stays_in_the_store(regression: Made, tmp_path: Path) -> None:
    made, target = tmp_path / "made", tmp_path / "target"
    shutil.copytree(regression.folder, made)
    for name in artifact.NOT_SERVED:
        (made / name).write_bytes(b"rows of people")
    expected = write(made, artifact.decode((made / artifact.MANIFEST).read_bytes()))
    location = StoreLocation((tmp_path / "store").as_uri())
    folder.publish(Store(location), made, artifact.decode((made / artifact.MANIFEST).read_bytes()))
    uri = f"{location.uri}/{artifact_key(expected)}"
    for _ in range(2):  # a pod that is started again finds its folder as it left it
        fetching.fetch(location, uri, expected, target)
        assert {path.name for path in made.iterdir()} - {path.name for path in target.iterdir()} == set(
            artifact.NOT_SERVED
        )


def test_again_on_what_an_earlier_try_left_behind(stored: Stored, regression: Made, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / artifact.ONNX).write_bytes(b"half")
    assert fetch(stored, target, tmp_path).code == 0
    assert folder.verify(target, regression.digest)
    # And what is complete needs no store.
    shutil.rmtree(stored.path)
    assert fetch(stored, target, tmp_path).code == 0


def test_a_model_that_was_changed_in_the_store(stored: Stored, tmp_path: Path) -> None:
    (stored.path / artifact.ONNX).write_bytes(b"x" * (stored.path / artifact.ONNX).stat().st_size)
    code, report = fetch(stored, tmp_path / "target", tmp_path)
    assert (code, report["reason"]) == (1, "DigestMismatch")
    assert "model.onnx" in report["message"]
    assert report.get("retryable", False) is False
    assert not (tmp_path / "target" / artifact.MANIFEST).exists()


def test_a_manifest_that_was_changed_in_the_store(stored: Stored, tmp_path: Path) -> None:
    with (stored.path / artifact.MANIFEST).open("ab") as file:
        file.write(b" ")
    assert fetch(stored, tmp_path / "target", tmp_path).report["reason"] == "DigestMismatch"


def test_an_artifact_that_is_not_there(stored: Stored, tmp_path: Path) -> None:
    shutil.rmtree(stored.path)
    code, report = fetch(stored, tmp_path / "target", tmp_path)
    assert (code, report["reason"]) == (1, "ObjectNotFound")


@pytest.mark.parametrize(
    "uri", ["s3://other/artifacts/sha256-" + "0" * 64, "file:///elsewhere", "file:///x/../artifacts"]
)
def test_a_uri_of_another_store(stored: Stored, tmp_path: Path, uri: str) -> None:
    code, report = fetch(stored._replace(uri=uri), tmp_path / "target", tmp_path)
    assert (code, report["reason"]) == (1, "UriMismatch")


def test_a_uri_of_another_artifact(stored: Stored, tmp_path: Path) -> None:
    other = digest.of_bytes(b"other")
    assert fetch(stored._replace(digest=other), tmp_path / "t", tmp_path).report["reason"] == "UriMismatch"
    assert fetch(stored._replace(digest="md5:1"), tmp_path / "t", tmp_path).report["reason"] == "DigestInvalid"


def test_no_store(stored: Stored, tmp_path: Path) -> None:
    variables = {environment.STORE_LOCATION: "{}"}
    assert fetch(stored, tmp_path / "target", tmp_path, variables).report["reason"] == "StoreMissing"


def test_a_key_that_the_store_refuses(s3: Any, regression: Made, tmp_path: Path) -> None:
    location = s3.bucket("fetch")
    manifest = artifact.decode((regression.folder / artifact.MANIFEST).read_bytes())
    folder.publish(Store(location, s3.keys()), regression.folder, manifest)
    stored = Stored(location, f"{location.uri}/{artifact_key(regression.digest)}", regression.digest, tmp_path)

    assert fetch(stored, tmp_path / "good", tmp_path, s3.keys()).code == 0
    code, report = fetch(stored, tmp_path / "bad", tmp_path, s3.keys("wrong"))
    assert (code, report["reason"]) == (1, "StoreRefused")
    assert "wrong" not in report["message"]


def test_a_store_that_comes_up_late(s3: Any, regression: Made, tmp_path: Path) -> None:
    location = s3.bucket("late")
    manifest = artifact.decode((regression.folder / artifact.MANIFEST).read_bytes())
    folder.publish(Store(location, s3.keys()), regression.folder, manifest)
    with Relay(s3.endpoint) as relay:
        fetched = fetching.fetch(
            StoreLocation(location.uri, relay.endpoint),
            f"{location.uri}/{artifact_key(regression.digest)}",
            regression.digest,
            tmp_path / "target",
            sleep=lambda _: relay.start(),
            variables=s3.keys(),
        )
    assert fetched == manifest


def test_patience_ends(tmp_path: Path) -> None:
    wanted = digest.of_bytes(b"")
    location = StoreLocation("s3://bucket", "http://127.0.0.1:1")  # nothing listens there
    uri = f"s3://bucket/{artifact_key(wanted)}"
    keys = {environment.STORE_ACCESS_KEY: "a", environment.STORE_SECRET_KEY: "b"}
    with pytest.raises(StoreError) as caught:
        fetching.fetch(location, uri, wanted, tmp_path / "target", 0, variables=keys)
    assert (caught.value.reason, caught.value.retryable) == ("StoreUnreachable", True)


class Relay:
    """Forwards a port to a server once it is started."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def start(self) -> None:
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                far = socket.create_connection(self._target)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
