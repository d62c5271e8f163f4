"""What a server serves to whom, and the ports on which its callers connect."""

import contextlib
import errno
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from modelmill_contracts import environment
from modelmill_server import log, termination
from modelmill_server.limits import Limits

BACKLOG = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is served to whom, wherever predictions come from."""

    name: str
    version: str
    digest: str | None  # the artifact's
    host: str  # "" is every interface
    port: int  # 0 is any free one
    grpc_port: int | None  # None is no gRPC
    metrics_port: int
    drain_seconds: float
    limits: Limits
    arm: str = ""  # of a rollout, a label of the counters
    routes: Path = Path(environment.ROUTES_FOLDER)  # where the routes file is, or will be


@dataclass(frozen=True, slots=True)
class Capture:
    """What is kept of predictions."""

    share: float
    columns: tuple[str, ...] | None  # features; None: all
    socket: Path  # of what writes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Service):
    folder: Path
    workers: int = 1  # processes
    capture: Capture | None = None  # None: nothing is kept of predictions


_Service = TypeVar("_Service", bound=Service)


class Sockets(NamedTuple):
    """What callers of one process connect to."""

    http: socket.socket
    grpc: socket.socket | None

    def close(self) -> None:
        for sock in self:
            if sock is not None:
                sock.close()


def bind(service: _Service) -> tuple[_Service, Sockets, socket.socket]:
    """The callers' sockets and that of the metrics, and the service with the ports that these have got."""
    sockets = listen(service)
    metrics = _bind(service.host, service.metrics_port)
    known = replace(
        service,
        port=_port(sockets.http),
        grpc_port=None if sockets.grpc is None else _port(sockets.grpc),
        metrics_port=_port(metrics),
    )
    return known, sockets, metrics


def fail_to_listen(error: OSError) -> int:
    if error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0:  # below 0: of the resolver
        return termination.fail(
            "HostUnknown", f"cannot listen: --host is no address of this machine ({error.strerror})"
        )
    return termination.fail("PortUnavailable", f"cannot listen: {error}; choose other ports")


def listen(service: Service, *, shared: bool = False) -> Sockets:
    """Sockets that listen on the callers' ports; of those that are `shared`, each process can have its own."""
    grpc_port = service.grpc_port
    return Sockets(
        _bind(service.host, service.port, shared=shared),
        None if grpc_port is None else _bind(service.host, grpc_port, shared=shared),
    )


def announce(service: Service) -> None:
    grpc = {} if service.grpc_port is None else {"grpc_port": service.grpc_port}
    log.info("listening", port=service.port, metrics_port=service.metrics_port, **grpc)
    if isinstance(service, Settings) and service.digest is None:
        log.warning("no --digest was given: the files agree with their manifest, but anybody may have made it")


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not host:
        with contextlib.suppress(OSError, ValueError):  # a machine without IPv6
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG, reuse_port=shared
            )
    return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=shared)
