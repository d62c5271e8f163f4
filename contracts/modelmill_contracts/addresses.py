"""Addresses that nothing is asked at: the machine itself, its link, and where clouds give out credentials.

A manifest may name one, or a name that resolves to one.
"""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from modelmill_contracts import metadata

Address = IPv4Address | IPv6Address

_METADATA = tuple(ip_network(text) for text in (*metadata.IPV4, *metadata.IPV6))
_NAT64 = ip_network("64:ff9b::/96")
# Programs read other texts in different ways: the host of http://a\@b is a to some and b to others.
_PLAIN = re.compile(r"https?://([-_.A-Za-z0-9]+|\[[.:0-9A-Fa-f]+\])(:[0-9]+)?(/[-_./A-Za-z0-9]*)?")


def is_denied(address: Address) -> bool:
    """Whether an address is the machine itself, its link, or a cloud's metadata service."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_denied(inner)
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or any(address in network for network in _METADATA)
    )


def is_denied_to_pods(address: Address) -> bool:
    """The same for a server that a pod of ours asks: loopback is no danger, as nothing listens there."""
    return is_denied(address) and not address.is_loopback


def resolved(host: str) -> list[Address]:
    """The addresses that a server's name has now; none where it does not resolve: the client says so."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        return []
    return [ip_address(str(info[4][0]).partition("%")[0]) for info in found]


def host_of(endpoint: str) -> str | None:
    """The host of a server's URL; None where programs might differ on which it is."""
    try:
        return urlsplit(endpoint).hostname if _PLAIN.fullmatch(endpoint) else None
    except ValueError:
        return None


def is_denied_as_written(endpoint: str | None) -> bool:
    """Whether a server's URL has such an address in it; a name is judged where it is resolved."""
    try:
        return endpoint is not None and is_denied_to_pods(ip_address(host_of(endpoint) or ""))
    except ValueError:
        return False


def refusal(endpoint: str, field: str) -> str:
    """What is said of a store's endpoint that is, or resolves to, such an address; `field` has it."""
    return (
        f"{field}: {host_of(endpoint)!r} is a link-local or metadata address, where no store may be; use the address"
        " of a real server"
    )
