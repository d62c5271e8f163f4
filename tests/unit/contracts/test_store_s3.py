"""The store on a real S3 server: written once, never overwritten, and errors that say what to do."""

import socket
from pathlib import Path

import pytest
from s3_server import S3Server

from modelmill_contracts import environment
from modelmill_contracts.store import Store, StoreError
from modelmill_contracts.task import StoreLocation


@pytest.fixture
def store(s3: S3Server) -> Store:
    return Store(s3.bucket("models"), s3.keys())


def test_what_was_written_is_never_overwritten(store: Store) -> None:
    assert store.put_once("once", b"first")
    assert not store.put_once("once", b"second")
    assert store.get("once", 100) == b"first"


def test_a_file_is_written_and_read_in_pieces(store: Store, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000  # 5 MB: several pieces
    (tmp_path / "file").write_bytes(content)
    store.put_once("file", tmp_path / "file")
    assert b"".join(store.chunks("file")) == content
    store.download("file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_a_prefix_in_the_uri_keeps_stores_apart(s3: S3Server, store: Store) -> None:
    inner = Store(StoreLocation(f"{s3.bucket('models').uri}/team/a", s3.endpoint), s3.keys())
    inner.put_once("blobs/x", b"1")
    assert inner.keys("blobs") == ["blobs/x"]
    assert "team/a/blobs/x" in store.keys("team")
    inner.delete("blobs/x")
    assert inner.keys("blobs") == []


def test_an_object_over_the_limit_is_not_read(store: Store) -> None:
    store.put_once("large", b"12345")
    with pytest.raises(StoreError, match="5 bytes; 4 are allowed") as caught:
        store.get("large", 4)
    assert caught.value.reason == "ObjectTooLarge"


def _reason_of(location: StoreLocation, keys: dict[str, str]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        Store(location, keys).put_once("key", b"content")
    return caught.value


def test_a_wrong_secret_is_refused_and_not_retried(s3: S3Server) -> None:
    error = _reason_of(s3.bucket("models"), s3.keys(secret_key="wrong"))
    assert (error.reason, error.retryable) == ("StoreRefused", False)
    assert "secretRef" in str(error)


def test_an_unknown_access_key_is_refused(s3: S3Server) -> None:
    keys = {environment.STORE_ACCESS_KEY: "nobody", environment.STORE_SECRET_KEY: "wrong"}
    assert _reason_of(s3.bucket("models"), keys).reason == "StoreRefused"


def test_a_missing_bucket_is_named(s3: S3Server) -> None:
    error = _reason_of(StoreLocation("s3://nowhere", s3.endpoint), s3.keys())
    assert (error.reason, error.retryable) == ("StoreBucketMissing", False)
    assert "s3://nowhere" in str(error)


def test_a_request_that_the_server_does_not_take_is_not_retried(s3: S3Server) -> None:
    error = _reason_of(StoreLocation("s3://no", s3.endpoint), s3.keys())  # too short for a bucket's name
    assert (error.reason, error.retryable) == ("StoreRequestInvalid", False)


def test_a_store_that_does_not_answer_is_worth_another_try(s3: S3Server) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        error = _reason_of(StoreLocation("s3://models", endpoint), s3.keys())
    assert (error.reason, error.retryable) == ("StoreUnreachable", True)
    assert endpoint in str(error)


def test_an_object_that_is_not_there(store: Store) -> None:
    with pytest.raises(StoreError, match="no such object") as caught:
        store.get("missing", 10)
    assert caught.value.reason == "ObjectNotFound"


def test_messages_do_not_change_from_try_to_try(s3: S3Server) -> None:
    # They end in conditions: a text with the client's timings would be a new status each time.
    first, second = (_reason_of(s3.bucket("models"), s3.keys(secret_key="wrong")) for _ in range(2))
    assert str(first) == str(second)
    assert "SignatureDoesNotMatch" in str(first)


def test_the_process_own_keys_are_not_sent_where_others_are_meant(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(name, value)
    location = s3.bucket("models")
    assert Store(location).put_once("own", b"1")  # the environment's keys are good
    with pytest.raises(StoreError):  # the server refuses who has no key
        Store(location, {}).get("own", 10)


def test_a_scheme_that_no_store_has() -> None:
    assert _reason_of(StoreLocation("ftp://models"), {}).reason == "StoreSchemeUnknown"


def test_a_uri_that_cannot_be_opened_is_not_retried() -> None:
    error = _reason_of(StoreLocation("s3://"), {})
    assert (error.reason, error.retryable) == ("StoreInvalid", False)
