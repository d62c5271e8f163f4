"""The store on a real S3 server: written once, never overwritten, and errors that say what to do."""

import json
import random
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from s3_server import S3Server

from modelmill_contracts import environment
from modelmill_contracts import store as stores
from modelmill_contracts.store import Store, StoreError, blob_key
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


@pytest.mark.parametrize("prefix", ["", "/team/a b"])
@pytest.mark.parametrize("scheme", ["s3", "file"])
def test_only_the_keys_of_a_range_are_listed(
    s3: S3Server, tmp_path: Path, scheme: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_PAGE", 2)
    uri = f"{s3.bucket(f'ranges-{len(prefix)}').uri}" if scheme == "s3" else f"file://{tmp_path}/store"
    where = StoreLocation(uri + prefix.replace(" ", "%20"), s3.endpoint if scheme == "s3" else None)
    store = Store(where, s3.keys() if scheme == "s3" else {})
    assert store.keys("of/x/") == []
    keys = [f"of/x/2026-{number:02d}" for number in (3, 1, 7, 5, 4)]
    for key in [*keys, "of/y/2026-04", "of/x-2026-04"]:
        store.put_once(key, b"1")
    keys.sort()
    assert store.keys("of/x/") == keys
    assert store.keys("of/x/", after="of/x/2026-02") == keys[1:]
    assert store.keys("of/x/", after=keys[1]) == keys[2:]
    assert store.keys("of/x/", before=keys[3]) == keys[:3]
    assert store.keys("of/x/", after=keys[0], before="of/x/2026-06") == keys[1:4]
    assert store.keys("of/x/", after="of/x/2027") == []


def test_an_object_over_the_limit_is_not_read(store: Store) -> None:
    store.put_once("large", b"12345")
    with pytest.raises(StoreError, match="5 bytes; 4 are allowed") as caught:
        store.get("large", 4)
    assert caught.value.reason == "ObjectTooLarge"


def test_a_large_file_is_written_in_parts_and_never_overwritten(store: Store, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(70 << 20)
    (tmp_path / "in-parts").write_bytes(content)
    assert store.put_once("in-parts", tmp_path / "in-parts")
    assert b"".join(store.chunks("in-parts")) == content
    (tmp_path / "in-parts").write_bytes(bytes(70 << 20))
    assert not store.put_once("in-parts", tmp_path / "in-parts")
    assert next(store.chunks("in-parts"))[:100] == content[:100]


@pytest.mark.parametrize("whole", [5, 1 << 20])
def test_a_blob_of_another_size_was_damaged_and_is_written_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(stores, "_WHOLE", whole)  # above it, a file is written in parts
    key, content = blob_key(f"sha256:{whole:064x}"), tmp_path / "blob"
    content.write_bytes(b"123456")
    assert store.put_once(key, b"123")
    assert store.put_once(key, content)
    assert store.get(key, 10) == b"123456"
    assert not store.put_once(key, content)
    store.delete(key)
    store.put_once(key, b"12345x")  # as long as it should be: that it is not the same is seen by who reads it
    assert not store.put_once(key, content)


def test_an_object_that_is_too_large_to_be_copied_is_moved_in_parts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(1).randbytes(40 << 20)  # three parts
    (tmp_path / "large").write_bytes(content)
    store.put_once("large-one", tmp_path / "large")
    monkeypatch.setattr(stores, "_COPY", len(content) - 1)
    monkeypatch.delattr(obstore, "copy")  # as S3 copies nothing of that size
    store.move("large-one", "moved-one")
    assert b"".join(store.chunks("moved-one")) == content
    with pytest.raises(StoreError, match="no such object"):
        store.look("large-one")


def test_an_object_is_read_as_it_was_looked_at_or_not_at_all(store: Store) -> None:
    store.put_once("changing", b"1")
    seen = store.look("changing")
    assert b"".join(store.chunks("changing", seen.tag)) == b"1"
    store.delete("changing")
    store.put_once("changing", b"2")
    with pytest.raises(StoreError) as caught:
        list(store.chunks("changing", seen.tag))
    assert (caught.value.reason, caught.value.retryable) == ("ObjectChanged", True)


class _Expired(BaseHTTPRequestHandler):
    """What S3 answers to credentials whose time is over."""

    def do_PUT(self) -> None:
        body = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_credentials_that_expired_are_refused() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Expired)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    keys = {environment.STORE_ACCESS_KEY: "access", environment.STORE_SECRET_KEY: "secret"}
    error = _reason_of(StoreLocation("s3://models", f"http://127.0.0.1:{server.server_port}"), keys)
    server.shutdown()
    server.server_close()
    assert (error.reason, error.retryable) == ("StoreRefused", False)


class _NoContainer(BaseHTTPRequestHandler):
    """What Azure answers where there is no container, each time with another id and time."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        body = (
            '<?xml version="1.0" encoding="utf-8"?>\n<Error><Code>ContainerNotFound</Code><Message>The specified'
            f" container does not exist.\n"
            f"RequestId:{self.asked}\nTime:2026-01-01T00:00:{self.asked:02}Z</Message></Error>"
        ).encode()
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-ms-error-code", "ContainerNotFound")
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


def test_a_missing_container_is_named_in_the_same_words_each_time() -> None:
    server = HTTPServer(("127.0.0.1", 0), _NoContainer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    keys = {environment.AZURE_ACCOUNT: "account", environment.AZURE_KEY: "a2V5"}
    store = Store(StoreLocation("az://nowhere", f"http://127.0.0.1:{server.server_port}/account"), keys)
    actions: tuple[Callable[[], object], ...] = (
        lambda: store.put_once("key", b""),
        lambda: store.look("key"),
        lambda: store.keys("folder"),
    )
    for act in actions:
        said = []
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                act()
            assert (caught.value.reason, caught.value.retryable) == ("StoreBucketMissing", False), caught.value
            said.append(str(caught.value))
        assert said[0] == said[1]
        assert said[0].endswith("ContainerNotFound: The specified container does not exist.)")
    server.shutdown()
    server.server_close()


def _google_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = key.private_bytes(*form).decode()
    account = {"private_key": pem, "private_key_id": "1", "client_email": "a@b.example", "type": "service_account"}
    return json.dumps(account)


@pytest.mark.parametrize(
    ("uri", "variables"),
    [
        ("az://container/x", {environment.AZURE_ACCOUNT: "account", environment.AZURE_KEY: "a2V5"}),
        ("gs://bucket/x", {environment.GOOGLE_KEY: _google_key()}),
    ],
)
def test_stores_of_other_clouds_take_their_own_credentials(
    uri: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in variables:
        monkeypatch.setenv(name, "{what the process has}")
    assert Store(StoreLocation(uri), variables).location.uri == uri
    if uri.startswith("gs"):
        with pytest.raises(StoreError) as caught:
            Store(StoreLocation(uri))  # those of the process, which are no key
        assert caught.value.reason == "StoreInvalid"


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254",
        "http://2852039166",  # the same address as one number
        "http://[fd00:ec2::254]:80",
        "http://[::ffff:169.254.169.254]",
        "https://[fe80::1]",
        "http://100.100.100.200",
        "http://metadata.example:7070",
    ],
)
def test_a_metadata_address_is_no_store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        return look_up("169.254.169.254" if host == "metadata.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    error = _reason_of(StoreLocation("s3://models", endpoint), {})
    assert (error.reason, error.retryable) == ("StoreAddressDenied", False)
    assert str(error).startswith("spec.store.endpoint: ")


@pytest.mark.parametrize(
    "endpoint",
    [
        r"http://169.254.169.254\@store",  # to some programs this is a path of the address
        "http://169.254.169%2e254",
        "http://store@169.254.169.254",
        "http://[::1",
        "http://stör",
    ],
)
def test_an_endpoint_that_may_be_read_in_two_ways_is_no_store(endpoint: str) -> None:
    error = _reason_of(StoreLocation("s3://models", endpoint), {})
    assert (error.reason, error.retryable) == ("StoreInvalid", False)
    assert "is not of the form http://HOST:PORT" in str(error)


def test_a_store_in_azure_is_in_the_account_that_is_declared_or_that_the_secret_names() -> None:
    declared, told = StoreLocation("az://container", account="ours"), {environment.AZURE_ACCOUNT: "ours"}
    for location, keys in ((declared, {}), (declared, told), (StoreLocation("az://container"), told)):
        assert Store(location, keys).location == location


@pytest.mark.parametrize(
    ("account", "keys", "reason", "words"),
    [
        (None, {}, "StoreAccountMissing", "name it in spec.store.account, or in the key accountName of the Secret"),
        (
            "ours",
            {environment.AZURE_ACCOUNT: "theirs", environment.AZURE_KEY: "a2V5"},
            "StoreAccountDiffers",
            "spec.store.account is ours, and the Secret that spec.store.secretRef names has another accountName",
        ),
    ],
)
def test_a_store_in_azure_without_an_account_or_with_two(
    account: str | None, keys: dict[str, str], reason: str, words: str
) -> None:
    error = _reason_of(StoreLocation("az://container", account=account), keys)
    assert (error.reason, error.retryable) == (reason, False)
    assert words in str(error)


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


def test_an_attempt_is_one_request_that_is_given_up_in_time(s3: S3Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = StoreLocation("s3://models", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not answer"):
            Store(place, s3.keys(), attempt=timedelta(seconds=0.5)).put_once("a", b"1")
        assert time.monotonic() - began < 5
        silent.settimeout(0.2)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
