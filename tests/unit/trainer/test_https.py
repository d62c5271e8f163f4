"""Downloads reach public servers only, whatever a name resolves to and wherever a redirect leads."""

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import trustme
from trainer_tasks import run

from modelmill_contracts.addresses import Address, is_denied
from modelmill_contracts.task import SnapshotTask, StoreLocation
from modelmill_trainer.failure import TaskError
from modelmill_trainer.https import download

CONTENT = b"a,b\n1,2\n" * 1000


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        where, _, rest = self.path.lstrip("/").partition("/")
        if where == "data":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)
        elif where == "dated":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.send_header("Last-Modified", unquote(rest))
            self.end_headers()
            self.wfile.write(CONTENT)
        elif where == "cut":
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)
        elif where == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif where == "to-bytes":  # as servers do that quote nothing
            self.send_response(302)
            self.send_header("Location", unquote(rest, "latin-1"))
            self.end_headers()
        else:
            self.send_response(int(where))
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class _Server:
    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.base = f"https://localhost:{self.http.server_port}"
        self.path = folder / "got"

    def get(self, path: str, limit: int = 1 << 20, trust: ssl.SSLContext | None = None) -> bytes:
        uri = path if path.startswith("http") else f"{self.base}/{path}"
        self.modified_at = download(
            uri, self.path, schemes=("https",), limit=limit, denied=_denied_but_the_server, context=trust or self.trust
        )
        return self.path.read_bytes()


def _denied_but_the_server(address: Address) -> bool:
    """The rule, with the test's own server standing for a public one."""
    return is_denied(address) and address not in (ip_address("127.0.0.1"), ip_address("::1"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    server = _Server(tmp_path)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104
        "169.254.169.254",
        "169.254.1.1",
        "fd20:ce::254",
        "224.0.0.1",
        "168.63.129.16",
        "100.100.100.200",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_addresses_of_the_machine_and_of_metadata_are_denied(text: str) -> None:
    assert is_denied(ip_address(text))


@pytest.mark.parametrize(
    "text", ["93.184.215.14", "10.0.0.8", "::ffff:10.0.0.8", "192.168.1.4", "2606:2800:21f:cb07::1", "fd12:3456::1"]
)
def test_other_addresses_are_not(text: str) -> None:
    assert not is_denied(ip_address(text))


def test_a_file_and_redirects_to_it(server: _Server) -> None:
    assert server.get("data") == CONTENT
    assert server.get("to//data") == CONTENT
    assert server.get(f"to/{server.base}/to//data") == CONTENT


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("to/https://127.0.0.2/data", "SourceAddressDenied"),
        ("to/https://169.254.169.254/latest/meta-data", "SourceAddressDenied"),
        ("to/http://localhost/data", "SourceSchemeDenied"),
        ("to/file:///etc/passwd", "SourceSchemeDenied"),
        ("404", "SourceNotFound"),
        ("403", "SourceRefused"),
        ("400", "SourceUnavailable"),
        ("https://name.invalid/data", "SourceUnresolvable"),
        ("https://größe-例.invalid/data", "SourceUnresolvable"),
        ("https://localhost:99999/data", "SourceInvalid"),
        ("https://[::1/data", "SourceInvalid"),
        ("to/https://localhost:99999/data", "SourceInvalid"),
        ("to/https://[::1/data", "SourceInvalid"),
    ],
)
def test_what_is_not_fetched(server: _Server, path: str, reason: str) -> None:
    with pytest.raises(TaskError) as caught:
        server.get(path)
    assert caught.value.reason == reason
    assert caught.value.retryable == (reason == "SourceUnresolvable")


@pytest.mark.parametrize(
    ("header", "moment"),
    [
        ("Sat, 31 Jan 2026 12:00:00 GMT", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("Sat, 31 Jan 2026 12:00:00 -0000", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
    ],
)
def test_when_a_file_was_modified(server: _Server, header: str, moment: datetime | None) -> None:
    server.get(f"dated/{quote(header)}")
    assert server.modified_at == moment


@pytest.mark.parametrize(
    "path",
    [
        "data/größe 例.csv?größe=1",
        "data/%67r%C3%B6%C3%9Fe.csv",
        f"to-bytes//data/{quote('größe.csv')}",
        f"to-bytes//data/{quote('größe.csv', encoding='latin-1')}",
    ],
)
def test_names_of_files_in_any_language(server: _Server, path: str) -> None:
    assert server.get(path) == CONTENT


@pytest.mark.parametrize(
    ("uri", "shown"),
    [("https://user:pw@[::1/data.csv", "(not shown)"), ("https://user:pw@a:x/b", "https://a:x/b")],
)
def test_what_is_no_uri(store: StoreLocation, uri: str, shown: str) -> None:
    answer = run(SnapshotTask(store, uri))
    assert (answer.reason, answer.message) == (
        "SourceInvalid",
        f"source.uri {shown} is no URI, or leads to what is none: mend its host and port",
    )


def test_a_redirect_in_a_circle_ends(server: _Server) -> None:
    with pytest.raises(TaskError) as caught:
        server.get("to/" * 20)
    assert caught.value.reason == "SourceRedirects"


@pytest.mark.parametrize(("path", "reason"), [("503", "SourceUnavailable"), ("cut", "SourceUnreachable")])
def test_trouble_that_may_pass_is_worth_another_try(server: _Server, path: str, reason: str) -> None:
    with pytest.raises(TaskError) as caught:
        server.get(path)
    assert (caught.value.reason, caught.value.retryable) == (reason, True)


def test_more_than_the_limit_is_not_stored(server: _Server) -> None:
    with pytest.raises(TaskError, match="more than 100 bytes") as caught:
        server.get("data", limit=100)
    assert caught.value.reason == "SourceTooLarge"
    assert server.path.stat().st_size <= 100


def test_a_certificate_that_nobody_vouches_for(server: _Server) -> None:
    with pytest.raises(TaskError) as caught:
        server.get("data", trust=ssl.create_default_context())
    assert caught.value.reason == "SourceCertificateInvalid"


def test_the_connection_goes_to_the_address_that_was_judged(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # A name whose second answer is another address: there must be no second question.
    asked = []
    real = socket.getaddrinfo

    def answer(host: str, *args: object, **options: object) -> object:
        if host == "rebind.test":
            asked.append(host)
            assert len(asked) == 1
            host = "127.0.0.1"
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with pytest.raises(TaskError) as caught:  # it reached the server, whose certificate is for another name
        server.get(f"https://rebind.test:{server.http.server_port}/data")
    assert caught.value.reason == "SourceCertificateInvalid"
    assert asked == ["rebind.test"]


def test_a_user_or_a_password_is_refused_and_not_left_out(server: _Server) -> None:
    with pytest.raises(TaskError) as caught:
        server.get(f"{server.base.replace('https://', 'https://user:pw@')}/data")
    assert caught.value.reason == "SourceInvalid"
    assert "has, or leads to one that has, a user or a password" in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_dataset_cannot_read_the_machine_itself(server: _Server, store: StoreLocation) -> None:
    answer = run(
        SnapshotTask(store=store, source=f"{server.base.replace('https://', 'https://user:pw@')}/data?token=x")
    )
    assert answer.reason == "SourceAddressDenied"
    assert "pw" not in answer.message
    assert "token" not in answer.message
