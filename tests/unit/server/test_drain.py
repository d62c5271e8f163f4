"""SIGTERM under load: no request is lost while another server takes over."""

import http.client
import signal
import socket
import threading
import time

import msgspec
from artifacts import Made
from serving import Server, matrix, serving

PATH = "/v2/models/model/infer"


class Client(threading.Thread):
    """Predicts on one kept-alive connection after another, at whatever port `target` holds."""

    def __init__(self, target: list[int], body: bytes, stop: threading.Event) -> None:
        super().__init__()
        self._target, self._body, self._enough = target, body, stop
        self.answered = 0
        self.closed = 0
        self.failures: list[str] = []

    def run(self) -> None:
        connection = None
        while not self._enough.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._target[0], timeout=30)
                connection.request("POST", PATH, self._body)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(f"status {answer.status}")
                self.answered += 1
                if answer.headers.get("connection") == "close":
                    self.closed += 1
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection = None


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 30)


def test_a_server_is_replaced_under_load_without_a_lost_request(cancer: Made) -> None:
    body = msgspec.json.encode({"inputs": [matrix(cancer.rows[:1])]})
    stop = threading.Event()
    with serving(cancer, "--drain-seconds", "2") as old, serving(cancer) as new:
        target = [old.port]
        clients = [Client(target, body, stop) for _ in range(6)]
        for client in clients:
            client.start()
        time.sleep(1)
        old.signal(signal.SIGTERM)
        # Endpoints take their time: new connections still come to the old server.
        time.sleep(1)
        reconnected = sum(client.closed for client in clients)
        target[0] = new.port
        assert old.wait(30) == 0
        time.sleep(0.5)
        stop.set()
        for client in clients:
            client.join(30)

        assert [client.failures for client in clients] == [[]] * len(clients)
        assert reconnected > len(clients)
        assert new.metrics()['modelmill_predictions_total{model="model",version="7"}'] > 0


def test_while_it_drains_a_server_is_not_ready_and_answers(cancer: Made) -> None:
    with serving(cancer, "--drain-seconds", "3") as server:
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        kept.request("GET", "/v2/health/ready")
        assert kept.getresponse().read()
        server.signal(signal.SIGTERM)
        server.wait_for("draining")

        ready = server.ask("GET", "/v2/health/ready")
        assert (ready.status, ready.headers["connection"]) == (503, "close")
        assert "about to stop" in ready.json["error"]
        assert server.ask("GET", "/v2/models/model/ready").status == 503
        assert server.ask("GET", "/v2/health/live").status == 200
        answer = server.infer(matrix(cancer.rows[:1]))
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        kept.request("POST", PATH, msgspec.json.encode({"inputs": [matrix(cancer.rows[:1])]}))
        old_connection = kept.getresponse()
        assert (old_connection.status, old_connection.headers["connection"]) == (200, "close")
        assert server.metrics()['modelmill_ready{model="model",version="7"}'] == 0
        assert server.wait() == 0


def test_what_is_in_flight_when_the_drain_ends_is_finished(cancer: Made) -> None:
    body = msgspec.json.encode({"inputs": [matrix(cancer.rows[:1])]})
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with serving(cancer, "--drain-seconds", "0") as server:
        port = server.port
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(head + body[:100])
            time.sleep(0.3)
            server.signal(signal.SIGTERM)
            time.sleep(1)
            connection.sendall(body[100:])
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
        assert server.wait() == 0


def test_idle_connections_do_not_hold_up_the_end(cancer: Made) -> None:
    with serving(cancer, "--drain-seconds", "0") as server, connected(server) as idle:
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert idle.recv(1) == b""


def test_an_interrupt_does_not_wait_for_endpoints_and_a_second_one_for_nothing(cancer: Made) -> None:
    with serving(cancer, "--drain-seconds", "600") as server:
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    with serving(cancer, "--drain-seconds", "600") as server, connected(server) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n".encode())
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        server.signal(signal.SIGINT)
        assert server.wait(20) == 0  # the body would be waited for for 30 s


def test_a_signal_while_the_model_loads(boosted: Made) -> None:
    server = Server(boosted.folder, "--digest", boosted.digest)
    try:
        server.wait_for("listening")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    finally:
        server.end()
