"""SIGTERM under gRPC: GOAWAY, answers to everything that was sent, no failed call."""

import signal
import threading
import time

import grpc
from artifacts import Made
from calls import INFER, call, channel, grpc_port, request, tensor
from serving import serving

HEALTH = "/grpc.health.v1.Health/Check"


class Client(threading.Thread):
    """Calls without a pause.  It knows two servers and prefers the first one."""

    def __init__(self, ports: tuple[int, int], message: bytes, stop: threading.Event) -> None:
        super().__init__()
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        self._channel = grpc.insecure_channel(f"ipv4:{addresses}", [("grpc.use_local_subchannel_pool", 1)])
        self._message, self._enough = message, stop
        self.answered = 0
        self.failures: list[str] = []

    def run(self) -> None:
        ask = self._channel.unary_unary(INFER)
        while not self._enough.is_set():
            futures = [ask.future(self._message, timeout=30) for _ in range(4)]
            for future in futures:
                if future.code() != grpc.StatusCode.OK:
                    self.failures.append(f"{future.code()}: {future.details()}")
                self.answered += 1
        self._channel.close()


def test_a_server_is_replaced_under_load_without_a_failed_call(cancer: Made) -> None:
    message = request(tensor("input", "FP32", [1, 30], [1.0] * 30)).SerializeToString()
    stop = threading.Event()
    with serving(cancer, "--drain-seconds", "2") as old, serving(cancer) as new:
        clients = [Client((grpc_port(old), grpc_port(new)), message, stop) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(1)
        assert new.metrics()['modelmill_predictions_total{model="model",version="7"}'] == 0
        old.signal(signal.SIGTERM)
        assert old.wait(30) == 0
        time.sleep(1)
        stop.set()
        for client in clients:
            client.join(30)
        assert [client.failures for client in clients] == [[]] * len(clients)
        assert new.metrics()['modelmill_predictions_total{model="model",version="7"}'] > 0


def test_while_it_drains_a_server_is_not_ready_and_answers(cancer: Made) -> None:
    message = request(tensor("input", "FP32", [1, 30], [1.0] * 30)).SerializeToString()
    with serving(cancer, "--drain-seconds", "3") as server, channel(server) as kept:
        assert call(kept, HEALTH, b"")[0] == b"\x08\x01"
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        with channel(server) as on:
            assert call(on, HEALTH, b"")[0] == b"\x08\x02"
            assert call(on, INFER, message)[0]
        assert call(kept, INFER, message)[0]
        assert server.wait() == 0


def test_what_is_in_flight_when_the_drain_ends_is_finished(boosted: Made) -> None:
    rows = boosted.rows
    message = request(tensor("input", "FP32", list(rows.shape), rows.ravel())).SerializeToString()
    with serving(boosted, "--drain-seconds", "0") as server, channel(server) as on:
        ask = on.unary_unary(INFER)
        call(on, HEALTH, b"")
        futures = [ask.future(message, timeout=60) for _ in range(100)]
        while server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] < 50:
            time.sleep(0.01)
        server.signal(signal.SIGTERM)
        assert {future.code() for future in futures} == {grpc.StatusCode.OK}
        assert server.wait() == 0


def test_idle_connections_do_not_hold_up_the_end(cancer: Made) -> None:
    with serving(cancer, "--drain-seconds", "0") as server, channel(server) as on:
        call(on, HEALTH, b"")
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - began < 10
