"""A TCP proxy in front of a real server, that tells what a client sends: where a fault begins, to the byte."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def proxied(upstream: int, on_sent: Callable[[int, bytes], None]) -> Iterator[int]:
    """The port of a proxy for the local port `upstream`.

    Before bytes of a client's are passed on, `on_sent` is called with how many were passed on so far, of all
    connections, and these; where it raises OSError, this connection ends.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    lock, sent = threading.Lock(), [0]

    def pump(source: socket.socket, target: socket.socket, *, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    with lock:
                        on_sent(sent[0], data)
                        sent[0] += len(data)
                target.sendall(data)
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", upstream), 5)
                except OSError:
                    client.close()
                    continue
                for source, target, counted in ((client, server, True), (server, client, False)):
                    threading.Thread(target=pump, args=(source, target), kwargs={"counted": counted}).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
