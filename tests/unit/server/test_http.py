"""HTTP as clients really send it: in pieces, chunked, pipelined, broken.  The short cut and the ordinary way agree."""

import socket
import time

import msgspec
import pytest
from artifacts import Made
from serving import Server, ask, matrix, read_all, serving

PATH = "/v2/models/model/infer"


@pytest.fixture
def body(cancer: Made) -> bytes:
    return msgspec.json.encode({"inputs": [matrix(cancer.rows[:1])]})


def post(body: bytes, *headers: str, version: str = "1.1", path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: x", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def statuses(data: bytes) -> list[str]:
    return [part.split(b" ")[0].decode() for part in data.split(b"HTTP/1.1 ")[1:]]


def without(data: bytes, *names: bytes) -> bytes:
    """A response without the headers that differ from one to the next."""
    head, _, body = data.partition(b"\r\n\r\n")
    return b"\n".join(sorted(line for line in head.split(b"\r\n") if not line.startswith(names))) + body


def test_the_short_cut_answers_as_the_ordinary_way_does(cancer_server: Server, body: bytes) -> None:
    for data in (body, b"nonsense"):
        short = cancer_server.raw(post(data), seconds=0.5)
        ordinary = cancer_server.raw(post(data, path=f"{PATH}?x=1"), seconds=0.5)
        assert statuses(short) in (["200"], ["400"])
        names = (b"date", b"modelmill-compute-us")
        assert without(short, *names) == without(ordinary, *names)
        assert all(name in short and name in ordinary for name in names)


@pytest.mark.parametrize(("where", "cut"), [("head", 1), ("head", 30), ("body", -2), ("body", 0), ("body", 100)])
def test_a_request_in_two_pieces(cancer_server: Server, body: bytes, cut: int, where: str) -> None:
    data = post(body)
    position = cut if where == "head" else len(data) - len(body) + cut
    with socket.create_connection(("127.0.0.1", cancer_server.port), 10) as connection:
        connection.sendall(data[:position])
        time.sleep(0.3)
        connection.sendall(data[position:])
        connection.settimeout(1)
        assert statuses(read_all(connection)) == ["200"]


def test_a_chunked_body(cancer_server: Server, body: bytes) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:50], body[50:])) + b"0\r\n\r\n"
    assert statuses(cancer_server.raw(head.encode() + chunks)) == ["200"]


def test_pipelined_requests_are_answered_in_order(cancer_server: Server, body: bytes) -> None:
    ids = [f"n{number}" for number in range(40)]
    requests = []
    for number, id_ in enumerate(ids):
        data = body[:-1] + b',"id":"%b"}' % id_.encode()
        # Some take the short cut, and some do not.
        requests.append(post(data, path=PATH if number % 3 else f"{PATH}?x=1"))
    requests.append(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = cancer_server.raw(b"".join(requests))
    assert statuses(answer) == ["200"] * 41
    positions = [answer.index(b'"id":"%b"' % id_.encode()) for id_ in ids]
    assert positions == sorted(positions)


def test_a_connection_is_closed_when_the_caller_asks_for_that(cancer_server: Server, body: bytes) -> None:
    for data in (post(body, "connection: close"), post(body, version="1.0")):
        answer = cancer_server.raw(data)
        assert statuses(answer) == ["200"]
        assert b"\r\nconnection: close\r\n" in answer


def test_an_offer_of_http2_is_answered_in_http1(cancer_server: Server, body: bytes) -> None:
    # Java's client offers it with each first request, and goes on with the connection.
    upgrade = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAABAAMAAABk")
    with socket.create_connection(("127.0.0.1", cancer_server.port), 10) as connection:
        connection.settimeout(1)
        connection.sendall(post(body, *upgrade))
        assert statuses(read_all(connection)) == ["200"]
        connection.sendall(post(body, "connection: close"))
        assert statuses(read_all(connection)) == ["200"]


def test_two_offers_in_one_read(cancer_server: Server, body: bytes) -> None:
    upgrade = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAABAAMAAABk")
    get = "\r\n".join(["GET /v2 HTTP/1.1", "host: x", *upgrade, "", ""]).encode()
    answer = cancer_server.raw(get + get + post(body, *upgrade) + post(body, "connection: close"))
    assert statuses(answer) == ["200"] * 4


def test_an_offer_does_not_hide_that_the_caller_wants_the_end(cancer_server: Server, body: bytes) -> None:
    answer = cancer_server.raw(post(body, "connection: upgrade, close", "upgrade: h2c"))
    assert statuses(answer) == ["200"]
    assert b"\r\nconnection: close\r\n" in answer


def test_expect_100_continue(cancer_server: Server, body: bytes) -> None:
    data = post(body, "expect: 100-continue", "connection: close")
    head, _, rest = data.partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", cancer_server.port), 10) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(rest)
        assert statuses(read_all(connection)) == ["200"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", "400"),
        (b"POST /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n", "400"),
        (b"POST /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n", "400"),
        (b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "400"),
        (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", "400"),
        (b"GET /v2 HTTP/1.1\r\n\r\n", "400"),
        (b"GET /v2 HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", "400"),
        (b"POST " + PATH.encode() + b" HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}", "400"),
        (b"GET /v2 HTTP/2.0\r\nhost: x\r\n\r\n", "505"),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", "400"),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n", "431"),
        (b"GET /v2 HTTP/1.1\r\n" + b"x: " + b"y" * 200_000, "431"),
        (b"GET /v2 HTTP/1.1\r\n" + b"x: y\r\n" * 40_000, "431"),
    ],
)
def test_broken_http(cancer_server: Server, data: bytes, status: str) -> None:
    answer = cancer_server.raw(data, seconds=2)
    assert statuses(answer)[0] == status
    assert b"connection: close" in answer
    assert answer.partition(b"\r\n\r\n")[2].startswith(b'{"error":')
    assert cancer_server.ask("GET", "/v2/health/ready").status == 200


def test_nonsense_behind_a_good_request_does_not_cost_its_answer(cancer_server: Server, body: bytes) -> None:
    for path in (PATH, f"{PATH}?x=1"):
        connections = [socket.create_connection(("127.0.0.1", cancer_server.port), 10) for _ in range(50)]
        for connection in connections:
            connection.sendall(post(body, path=path) + b"nonsense\r\n\r\n")
        for connection in connections:
            answer = read_all(connection)
            assert statuses(answer)[0] == "200"
            assert b"connection: close" in answer
            connection.close()


def test_nonsense_in_a_body_does_not_cost_the_answer_before_it(cancer_server: Server, cancer: Made) -> None:
    first = msgspec.json.encode({"instances": cancer.rows[:1].tolist()})
    broken = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".encode()
    answer = cancer_server.raw(post(first, path="/v1/models/model:predict") + broken)
    assert statuses(answer)[:2] == ["200", "400"]


def test_what_follows_the_last_request_is_not_answered(cancer_server: Server, body: bytes) -> None:
    for path in (PATH, "/v2/none"):
        answer = cancer_server.raw(post(body, "connection: close", path=path) + post(body) + b"nonsense")
        assert len(statuses(answer)) == 1


def test_a_head_is_answered_without_a_body(cancer_server: Server) -> None:
    both = b"HEAD /v2 HTTP/1.1\r\nhost: x\r\n\r\nGET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    head, rest = cancer_server.raw(both).split(b"\r\n\r\n", 1)
    assert b"content-length: " in head
    assert rest.startswith(b"HTTP/1.1 200 ")


def test_http_1_0_needs_no_host_and_gets_one_answer(cancer_server: Server) -> None:
    answer = cancer_server.raw(b"GET /v2 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert statuses(answer) == ["200"]
    assert b"\r\nconnection: close\r\n" in answer


def test_a_caller_that_hangs_up_is_forgotten(cancer_server: Server, body: bytes) -> None:
    before = cancer_server.refusals().get("Disconnected", 0)
    with socket.create_connection(("127.0.0.1", cancer_server.port), 10) as connection:
        connection.sendall(post(body)[:-10])
        time.sleep(0.2)
    deadline = time.monotonic() + 10
    while cancer_server.refusals().get("Disconnected", 0) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert cancer_server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0


def test_nothing_but_metrics_is_on_the_metrics_port(cancer_server: Server) -> None:
    port = cancer_server.metrics_port
    assert ask(port, "GET", "/healthz").status == 200
    assert ask(port, "POST", "/metrics", b"").status == 405
    assert ask(port, "POST", PATH, b"{}").status == 405
    assert ask(port, "GET", "/v2").status == 404
    assert cancer_server.ask("GET", "/metrics").status == 404


def test_each_of_many_callers_gets_its_own_answer(cancer: Made) -> None:
    expected = cancer.estimator.predict_proba(cancer.rows)[:, 1]
    with serving(cancer) as server:
        connections = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(300)]
        for _ in range(2):
            for number, connection in enumerate(connections):
                document = {"inputs": [matrix(cancer.rows[number : number + 1])], "id": str(number)}
                connection.sendall(post(msgspec.json.encode(document)))
            for number, connection in enumerate(connections):
                answer = b""
                while not answer.endswith(b"}"):
                    answer += connection.recv(65536)
                document = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
                assert document["id"] == str(number)
                assert document["outputs"][1]["data"][1] == pytest.approx(expected[number], abs=1e-5)
        for connection in connections:
            connection.close()
