"""The command line: `modelmill-server PATH_OR_URI`, which is `serve`; `modelmill-server fetch`, `front`, `capture`.

Imports are inside the commands, so that each starts with what it needs.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from modelmill_contracts import __version__, environment

_COMMANDS = ("serve", "fetch", "front", "capture")
_MOST_WORKERS = 128
_LAST_PORT = 65535
_MOST = 1 << 30  # bytes, or requests: what is far beyond is a slip
_MOST_THREADS = 8  # for one slow model: beyond, workers do better
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 refused (and said why), 2 wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] not in (*_COMMANDS, "-h", "--help", "--version"):
        arguments = ["serve", *arguments]
    options = _parser().parse_args(arguments)
    if options.command == "fetch":
        from modelmill_server import fetch  # noqa: PLC0415

        return fetch.main(options.uri, options.digest, options.folder)
    if options.command == "capture":
        from modelmill_server import capture  # noqa: PLC0415

        return capture.main(options.of, options.socket, options.age)
    if options.command == "front":
        return _front(options)
    with tempfile.TemporaryDirectory(prefix="modelmill-") as place:
        return _serve(options, Path(place) / "model")


def _serve(options: argparse.Namespace, place: Path) -> int:
    from modelmill_contracts.folder import ArtifactError  # noqa: PLC0415
    from modelmill_server import cpus, ports, serve, source, termination  # noqa: PLC0415
    from modelmill_server.errors import NotServableError  # noqa: PLC0415
    from modelmill_server.limits import Limits  # noqa: PLC0415

    cpus.pin_threads()
    try:
        folder, digest = source.prepare(options.source, options.digest, place)
    except (ArtifactError, NotServableError) as error:
        return termination.fail(error.reason, f"cannot serve {options.source}: {error}")
    except OSError as error:
        return termination.fail("ModelUnreadable", f"cannot serve {options.source}: {error.strerror}")
    available = cpus.limit()
    workers = cpus.whole(available) if options.workers == "auto" else options.workers
    return serve.main(
        ports.Settings(
            folder=folder,
            name=options.name or source.name_of(options.source),
            version=options.version,
            digest=digest,
            host=options.host,
            port=options.port,
            metrics_port=options.metrics_port,
            grpc_port=options.grpc_port,
            drain_seconds=options.drain_seconds,
            limits=Limits(
                body=options.max_body,
                in_flight=options.max_in_flight,
                threads=min(_MOST_THREADS, cpus.whole(available / workers)),
                deadline=options.deadline,
            ),
            workers=workers,
            arm=options.arm,
            routes=options.routes,
            capture=None
            if options.capture is None
            else ports.Capture(options.capture, options.capture_columns, options.capture_socket),
        )
    )


def _front(options: argparse.Namespace) -> int:
    from modelmill_server import front  # noqa: PLC0415
    from modelmill_server.limits import Limits  # noqa: PLC0415

    host, port = options.upstream
    return front.main(
        front.Settings(
            upstream_host=host,
            upstream_port=port,
            protocol=options.protocol,
            max_answer=options.max_answer,
            name=options.name,
            version=options.version,
            digest=options.digest,
            host=options.host,
            port=options.port,
            metrics_port=options.metrics_port,
            grpc_port=None,
            drain_seconds=options.drain_seconds,
            limits=Limits(body=options.max_body, in_flight=options.max_in_flight, deadline=options.deadline),
            arm=options.arm,
            routes=options.routes,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelmill-server", description="Serves a Modelmill artifact.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)

    fetch = commands.add_parser("fetch", help="bring an artifact from the store into a folder, verified")
    fetch.add_argument("uri", help="STORE_URI/artifacts/sha256-...")
    fetch.add_argument("digest", help="the artifact's digest, sha256:...")
    fetch.add_argument("folder", type=Path)

    serve = commands.add_parser("serve", help="answer predictions; may be left out: modelmill-server PATH_OR_URI")
    serve.add_argument(
        "source", help="an artifact folder, an ONNX file or a folder with one, or s3://... or file://..."
    )
    serve.add_argument("--name", type=_name, help="the model's name (that of the file or folder)")
    serve.add_argument("--digest", help="what the artifact must be; without it, nothing is verified against")
    serve.add_argument(
        "--grpc-port",
        type=_optional_port,
        default=environment.GRPC_PORT,
        help='0 is any free one, "" is no gRPC (%(default)s)',
    )
    serve.add_argument(
        "--workers", type=_workers, default=1, help='processes that answer, "auto" for one per CPU (%(default)s)'
    )
    serve.add_argument(
        "--deadline", type=_seconds, help="seconds that a request may wait for a slow model (as long as its caller)"
    )
    serve.add_argument(
        "--capture", type=_share, help="the share of predictions that is kept, by `modelmill-server capture` (none)"
    )
    serve.add_argument(
        "--capture-columns", type=_columns, help='features that are kept of them: JSON such as ["age", "city"] (all)'
    )
    serve.add_argument(
        "--capture-socket", type=Path, default=Path(environment.CAPTURE_SOCKET), help="where that listens (%(default)s)"
    )
    _add_service(serve)

    capture = commands.add_parser("capture", help="write what servers beside it capture to the store")
    capture.add_argument("of", type=_name, help="the UID of the ModelDeployment")
    capture.add_argument(
        "--socket", type=Path, default=Path(environment.CAPTURE_SOCKET), help="where to listen (%(default)s)"
    )
    capture.add_argument(
        "--age", type=_seconds, default=10.0, help=argparse.SUPPRESS
    )  # of rows, until they are written

    front = commands.add_parser("front", help="stand before another server that speaks V2 or V1 over HTTP")
    front.add_argument("--upstream", type=_address, required=True, help="where the other server is: http://HOST:PORT")
    front.add_argument("--protocol", choices=("V2", "V1"), default="V2", help="what it speaks (%(default)s)")
    front.add_argument("--name", type=_name, required=True, help="the model's name, here and there")
    front.add_argument("--digest", help="the artifact's digest, for the metrics")
    front.add_argument(
        "--deadline", type=_seconds, default=30.0, help="seconds until a request gives up; callers may (%(default)s)"
    )
    front.add_argument("--max-answer", type=_whole, default=8 << 20, help="bytes of an answer (%(default)s)")
    _add_service(front)
    return parser


def _add_service(command: argparse.ArgumentParser) -> None:
    """What both kinds of servers have."""
    command.add_argument("--version", type=_name, default="1", help="the model's version (%(default)s)")
    command.add_argument(
        "--host",
        default=os.environ.get(environment.SERVER_HOST, "127.0.0.1"),
        help='the address to listen on, "" is all (%(default)s)',
    )
    command.add_argument("--port", type=_port, default=environment.HTTP_PORT, help="0 is any free one (%(default)s)")
    command.add_argument("--metrics-port", type=_port, default=environment.METRICS_PORT, help="(%(default)s)")
    command.add_argument(
        "--drain-seconds", type=_seconds_or_none, default=10.0, help="how long to answer after SIGTERM (%(default)s)"
    )
    command.add_argument("--max-body", type=_whole, default=1 << 20, help="bytes of a request (%(default)s)")
    command.add_argument(
        "--max-in-flight", type=_whole, default=256, help="requests at once, of each worker (%(default)s)"
    )
    command.add_argument(
        "--routes",
        type=Path,
        default=Path(environment.ROUTES_FOLDER),
        help="the folder with the file that says which share of requests a candidate gets (%(default)s)",
    )
    command.add_argument("--arm", type=_arm, default="", help="the arm of a rollout, a label of all metrics")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"a number from 0 to {_LAST_PORT}, where 0 is any free one")
    return int(text)


def _optional_port(text: str) -> int | None:
    return _port(text) if text else None


def _whole(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"a number from 1 to {_MOST}")
    return int(text)


def _address(text: str) -> tuple[str, int]:
    """Host and port of http://HOST:PORT."""
    url = urlsplit(text)
    try:
        port = url.port
    except ValueError:
        port = None
    if url.scheme != "http" or not url.hostname or port is None or url.path not in ("", "/") or url.username:
        raise argparse.ArgumentTypeError("http://HOST:PORT, and nothing behind it")
    return url.hostname, port


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError("a share above 0, at most 1")
    return share


def _columns(text: str) -> tuple[str, ...]:
    import msgspec  # noqa: PLC0415

    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError("a JSON list of names") from error


def _workers(text: str) -> int | str:
    if text != "1" and not hasattr(signal, "sigtimedwait"):
        raise argparse.ArgumentTypeError("1: this system lacks a call that several workers need (sigtimedwait)")
    if text == "auto":
        return text
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {_MOST_WORKERS}, or auto")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("a number of seconds above 0")
    return seconds


def _seconds_or_none(text: str) -> float:
    return 0.0 if text in ("0", "0.0") else _seconds(text)


def _arm(text: str) -> str:
    return _name(text) if text else ""


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("letters, digits, '.', '_' and '-' only, 253 at most")
    return text


if __name__ == "__main__":
    sys.exit(main())
