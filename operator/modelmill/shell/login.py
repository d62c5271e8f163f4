"""Login: credentials from the pod's service account, or from a kubeconfig for a developer.

kopf and our own transport use the same.  The official client reads those kubeconfigs only that say more than a
certificate or a token (a plugin, a token that is renewed): to import it is a quarter of the operator's start.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

import kopf

logger = logging.getLogger(__name__)

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_RENEWED = ("tokenFile", "auth-provider", "exec")  # a token that is said with one of them is not to be kept
_TOKEN_SECONDS = 60.0  # for which a token is not read anew: kubelet replaces it long before it expires


class Credentials:
    """How the API server is reached, and who we are to it."""

    def __init__(self, info: kopf.ConnectionInfo, present: Callable[[], Awaitable[kopf.ConnectionInfo]]) -> None:
        """`present` gives them as they are now: a token may have been replaced."""
        self.info = info
        self.present = present

    @classmethod
    def fixed(cls, info: kopf.ConnectionInfo) -> "Credentials":
        async def present() -> kopf.ConnectionInfo:
            return info

        return cls(info, present)


async def load() -> Credentials:
    """Those of KUBECONFIG where it is set, else of the service account, else of ~/.kube/config."""
    if (_ACCOUNT / "token").exists() and "KUBECONFIG" not in os.environ:
        return service_account(_ACCOUNT)
    return plain() or await official()


def service_account(folder: Path) -> Credentials:
    """A pod's own: the token in that folder is read once a minute."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{what}") for what in ("HOST", "PORT"))
    if not host or not port:
        raise kopf.LoginError(
            "KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set: a pod has both; elsewhere set KUBECONFIG"
        )
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def read() -> kopf.ConnectionInfo:
        token = (folder / "token").read_text().strip()
        return kopf.ConnectionInfo(server=server, ca_path=folder / "ca.crt", token=token)

    known, since = read(), monotonic()

    async def present() -> kopf.ConnectionInfo:
        nonlocal known, since
        if monotonic() - since > _TOKEN_SECONDS:
            known, since = read(), monotonic()
        return known

    return Credentials(known, present)


def plain() -> Credentials | None:
    """Those of a kubeconfig with certificates or a token inside and nothing more; None where it is another one."""
    try:
        info = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
        files = os.environ.get("KUBECONFIG") or "~/.kube/config"
        text = "".join(Path(file).expanduser().read_text() for file in files.split(os.pathsep) if file)
    except Exception as error:  # the official client may understand it, or says better what is wrong
        logger.debug("the kubeconfig is no plain one: %s: %s", type(error).__name__, error)
        return None
    if info is None or not info.ca_data or any(word in text for word in _RENEWED):
        return None
    if not info.token and not (info.certificate_data and info.private_key_data):
        return None
    return Credentials.fixed(info)


async def official(kubeconfig: str | None = None) -> Credentials:
    """Those of any kubeconfig; None: the environment's."""
    from kubernetes.aio import client, config  # noqa: PLC0415 - see above

    configuration = client.Configuration()
    await config.load_kube_config(kubeconfig, client_configuration=configuration, persist_config=False)

    async def present() -> kopf.ConnectionInfo:
        # It renews what has expired.
        scheme, _, token = (await configuration.get_api_key_with_prefix("BearerToken") or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme=scheme or None,
            token=token or None,
        )

    return Credentials(await present(), present)


async def for_kopf(**_: object) -> kopf.ConnectionInfo:
    """kopf's login handler."""
    return (await load()).info
