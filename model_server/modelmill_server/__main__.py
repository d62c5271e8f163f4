"""The command line: `modelmill-server fetch` and `modelmill-server serve`.

Imports are inside the commands, so that each starts with what it needs.
"""

import argparse
import re
import sys
from pathlib import Path

from modelmill_contracts import __version__, environment

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 refused (and said why), 2 wrong usage."""
    options = _parser().parse_args(arguments)
    if options.command == "fetch":
        from modelmill_server import fetch  # noqa: PLC0415

        return fetch.main(options.uri, options.digest, options.folder)
    from modelmill_server import serve  # noqa: PLC0415
    from modelmill_server.app import Limits  # noqa: PLC0415

    return serve.main(
        serve.Settings(
            folder=options.folder,
            name=options.name or options.folder.resolve().name,
            version=options.version,
            digest=options.digest,
            host=options.host,
            port=options.port,
            metrics_port=options.metrics_port,
            grpc_port=options.grpc_port,
            drain_seconds=options.drain_seconds,
            limits=Limits(body=options.max_body, in_flight=options.max_in_flight),
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

    serve = commands.add_parser("serve", help="answer predictions from an artifact folder")
    serve.add_argument("folder", type=Path)
    serve.add_argument("--name", type=_name, help="the model's name (the folder's)")
    serve.add_argument("--version", type=_name, default="1", help="the model's version (%(default)s)")
    serve.add_argument("--digest", help="what the artifact must be; without it, nothing is verified against")
    serve.add_argument("--host", default="127.0.0.1", help='the address to listen on, "" is all (%(default)s)')
    serve.add_argument("--port", type=int, default=environment.HTTP_PORT, help="(%(default)s)")
    serve.add_argument(
        "--grpc-port",
        type=_optional_port,
        default=environment.GRPC_PORT,
        help='0 is any free one, "" is no gRPC (%(default)s)',
    )
    serve.add_argument("--metrics-port", type=int, default=environment.METRICS_PORT, help="(%(default)s)")
    serve.add_argument(
        "--drain-seconds", type=float, default=10.0, help="how long to answer after SIGTERM (%(default)s)"
    )
    serve.add_argument("--max-body", type=int, default=1 << 20, help="bytes of a request (%(default)s)")
    serve.add_argument("--max-in-flight", type=int, default=256, help="requests at once (%(default)s)")
    return parser


def _optional_port(text: str) -> int | None:
    return int(text) if text else None


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("letters, digits, '.', '_' and '-' only, 253 at most")
    return text


if __name__ == "__main__":
    sys.exit(main())
