"""Login: credentials from the pod's service account, or from a kubeconfig for a developer.

The official client reads both; kopf and our own transport use what it found.
"""

import os
import ssl
from typing import Any

import kopf
from kubernetes.aio import client, config

_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - its path


async def load() -> Any:
    """The client configuration: KUBECONFIG where it is set, else the service account, else ~/.kube/config."""
    configuration = client.Configuration()
    if os.path.exists(_TOKEN) and "KUBECONFIG" not in os.environ:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(client_configuration=configuration, persist_config=False)
    return configuration


def tls(configuration: Any) -> ssl.SSLContext:
    """The TLS context for a configuration's server."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    return context


async def bearer(configuration: Any) -> str | None:
    """The present token (the official client reads it anew every minute), without its scheme."""
    token = await configuration.get_api_key_with_prefix("BearerToken")
    if not token:
        return None
    scheme, _, value = token.partition(" ")
    return str(value.strip()) if scheme.lower() == "bearer" else str(token)


async def for_kopf(**_: Any) -> kopf.ConnectionInfo:
    """kopf's login handler."""
    configuration = await load()
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        token=await bearer(configuration),
    )
