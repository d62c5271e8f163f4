"""Connections to servers that a manifest names, which lead to no address that is denied.

A name is resolved once, every address that it has is judged, and the connection goes to the very address that was
judged: no second look-up could differ.
"""

import http.client
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address

from modelmill_contracts.addresses import Address


class UnresolvableError(Exception):
    """The host's name has no address."""


class DeniedError(Exception):
    """The host is, or has, an address that is denied."""


def connect(
    host: str,
    port: int,
    denied: Callable[[Address], bool],
    *,
    timeout: float,
    tls: bool,
    context: ssl.SSLContext | None = None,
) -> http.client.HTTPConnection:
    """A connection, by TLS where asked; OSError where there is none.  `timeout` is in seconds, without a byte."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnresolvableError(host) from error
    addresses = [ip_address(str(info[4][0]).partition("%")[0]) for info in found]
    if any(denied(address) for address in addresses):
        raise DeniedError(host)
    raw = socket.create_connection((str(addresses[0]), port), timeout=timeout)
    if tls:
        raw = (context or ssl.create_default_context()).wrap_socket(raw, server_hostname=host)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    connection.sock = raw
    return connection
