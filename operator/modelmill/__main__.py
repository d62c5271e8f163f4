"""The operator's entry point: `python -m modelmill`."""

import argparse
import asyncio
import gc
import os
import re
import sys

gc.disable()  # until all is imported: nothing of that is garbage, and to look for some is a tenth of the start

from modelmill.core.plan import Settings  # noqa: E402
from modelmill.shell import logs, process  # noqa: E402
from modelmill_contracts import __version__  # noqa: E402


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelmill-operator", description="The Modelmill operator.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--trainer-image", default=os.environ.get("MILL_TRAINER_IMAGE"), help="what Jobs run")
    parser.add_argument("--server-image", default=os.environ.get("MILL_SERVER_IMAGE"), help="what serves models")
    parser.add_argument(
        "--namespace",
        action="append",
        default=[],
        help="watch this namespace only (may be given several times); default: all namespaces",
    )
    parser.add_argument("--lease-namespace", default=os.environ.get("POD_NAMESPACE", "modelmill-system"))
    parser.add_argument("--lease-name", default="modelmill-operator")
    parser.add_argument("--host", default="0.0.0.0", help="address for health and metrics")  # noqa: S104 - the pod's own
    parser.add_argument("--port", type=int, default=8080, help="port for health and metrics")
    parser.add_argument("--workers", type=int, default=8, help="objects that are reconciled at the same time")
    parser.add_argument(
        "--prometheus-url",
        default=os.environ.get("MILL_PROMETHEUS_URL"),
        help="where queries of rollouts are asked, such as http://prometheus.monitoring:9090; default: nowhere",
    )
    parser.add_argument(
        "--prometheus-tenant-label",
        default=os.environ.get("MILL_PROMETHEUS_TENANT_LABEL", "namespace"),
        help="the label of every series that says its namespace; queries see their own alone (default: namespace)",
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


def main() -> None:
    gc.freeze()
    gc.enable()
    parser = _parser()
    arguments = parser.parse_args()
    for flag in ("trainer_image", "server_image"):
        if not getattr(arguments, flag):
            name = flag.replace("_", "-")
            parser.error(f"--{name} (or MILL_{flag.upper()}) is needed: the image that the operator starts")
    if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", arguments.prometheus_tenant_label):
        parser.error("--prometheus-tenant-label is no name of a label")
    if arguments.prometheus_url and not re.fullmatch("https?://[^ ?#]+", arguments.prometheus_url):
        parser.error("--prometheus-url is no http:// or https:// URL")
    logs.configure(arguments.log_level)
    options = process.Options(
        settings=Settings(
            arguments.trainer_image,
            arguments.server_image,
            os.environ.get("POD_NAMESPACE", Settings.namespace),
            arguments.prometheus_tenant_label if arguments.prometheus_url else None,
        ),
        namespaces=tuple(arguments.namespace) or (None,),
        lease_namespace=arguments.lease_namespace,
        lease_name=arguments.lease_name,
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        prometheus=arguments.prometheus_url or None,
    )
    sys.exit(asyncio.run(process.main(options)))


if __name__ == "__main__":
    main()
