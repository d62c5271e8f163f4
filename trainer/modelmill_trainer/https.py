"""Downloads by https that cannot be led into the cluster's or the machine's own network.

A URI in a manifest, or a redirect of the server that it names, may point at a loopback, link-local or
metadata address, or at a name that resolves to one.  So each hop's connection is a judged one.
"""

import http.client
import ssl
import string
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from modelmill_contracts.addresses import Address, is_denied
from modelmill_trainer import judged
from modelmill_trainer.failure import TaskError, too_large

MAX_REDIRECTS = 5
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 429, 500, 502, 503, 504)


def download(
    uri: str,
    path: Path,
    *,
    schemes: Sequence[str],
    limit: int,
    denied: Callable[[Address], bool] = is_denied,
    context: ssl.SSLContext | None = None,
) -> datetime | None:
    """Write what `uri` answers, at most `limit` bytes, to the new file `path`; TaskError otherwise.

    The answer: when the server says that it was last modified, if it does.  `denied` judges addresses and `context`
    trusts certificates; both have safe defaults.
    """
    current = uri
    for _ in range(MAX_REDIRECTS + 1):
        parts, port = _split(current, uri)
        if parts.scheme not in schemes or parts.scheme not in ("https", "http") or not parts.hostname:
            raise TaskError(
                "SourceSchemeDenied",
                f"source.uri {_shown(uri)} leads to a URI of scheme {parts.scheme!r}; allowed: {', '.join(schemes)}",
            )
        connection = _connect(parts, port, uri, denied, context)
        try:
            answer = _ask(connection, parts, uri)
            if answer.status not in _REDIRECTS:
                _save(answer, path, uri, limit)
                return _modified_at(answer)
            current = urljoin(current, _location(answer))
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(uri, error) from error
        except ValueError as error:
            raise _no_uri(uri) from error
        finally:
            connection.close()
    raise TaskError("SourceRedirects", f"source.uri {_shown(uri)} redirects more than {MAX_REDIRECTS} times")


def _split(current: str, uri: str) -> tuple[SplitResult, int]:
    """The parts of a URI that `uri` leads to, and its port."""
    try:
        parts = urlsplit(current)
        return parts, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise _no_uri(uri) from error


def _location(answer: http.client.HTTPResponse) -> str:
    """Where a redirect leads: its header's bytes, which Python reads as Latin-1."""
    return quote(answer.getheader("Location", "").encode("latin-1"), safe=string.punctuation)


def _connect(
    parts: SplitResult, port: int, uri: str, denied: Callable[[Address], bool], context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    try:
        return judged.connect(host, port, denied, timeout=_TIMEOUT, tls=parts.scheme == "https", context=context)
    except judged.UnresolvableError as error:
        raise TaskError(
            "SourceUnresolvable",
            f"source.uri {_shown(uri)}: the name {host!r} does not resolve; check its spelling, and the cluster's DNS",
            retryable=True,
        ) from error
    except judged.DeniedError as error:
        raise TaskError(
            "SourceAddressDenied",
            f"source.uri {_shown(uri)}: {host!r} is a loopback, link-local or metadata address, which sources may"
            " not be read from; use the address of a real server",
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise TaskError(
            "SourceCertificateInvalid",
            f"source.uri {_shown(uri)}: the certificate of {host!r} is not trusted ({error.verify_message})",
        ) from error
    except OSError as error:
        raise _unreachable(uri, error) from error


def _ask(connection: http.client.HTTPConnection, parts: SplitResult, uri: str) -> http.client.HTTPResponse:
    # Only what no request may hold is quoted: the rest is as it was written, signatures of it among that.
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=string.punctuation)
    host = parts.netloc
    if "@" in host:
        raise TaskError(
            "SourceInvalid",
            f"source.uri {_shown(uri)} has, or leads to one that has, a user or a password, which would not be sent and"
            " which whoever may read the Dataset sees; take it out",
        )
    if not host.isascii():
        host = host.encode("idna").decode()
    connection.request("GET", target, headers={"Host": host, "User-Agent": "modelmill", "Accept-Encoding": "identity"})
    answer = connection.getresponse()
    if answer.status in (404, 410):
        raise TaskError("SourceNotFound", f"source.uri {_shown(uri)}: the server has no such file ({answer.status})")
    if answer.status in (401, 403):
        raise TaskError("SourceRefused", f"source.uri {_shown(uri)}: the server refuses to give it ({answer.status})")
    if answer.status != 200 and answer.status not in _REDIRECTS:
        raise TaskError(
            "SourceUnavailable",
            f"source.uri {_shown(uri)}: the server answered {answer.status}",
            retryable=answer.status in _BUSY,
        )
    return answer


def _save(answer: http.client.HTTPResponse, path: Path, uri: str, limit: int) -> None:
    size = 0
    with path.open("wb") as file:
        while chunk := answer.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise too_large(f"source.uri {_shown(uri)}", limit)
            file.write(chunk)
    if answer.length:  # bytes that Content-Length promised and that did not come
        raise TaskError("SourceUnreachable", f"source.uri {_shown(uri)}: the answer was cut short", retryable=True)


def _modified_at(answer: http.client.HTTPResponse) -> datetime | None:
    try:
        found = parsedate_to_datetime(answer.getheader("Last-Modified", ""))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _unreachable(uri: str, error: Exception) -> TaskError:
    return TaskError(
        "SourceUnreachable",
        f"source.uri {_shown(uri)}: no answer ({type(error).__name__}); check that the server runs and that a"
        " NetworkPolicy allows the way to it",
        retryable=True,
    )


def _no_uri(uri: str) -> TaskError:
    return TaskError(
        "SourceInvalid",
        f"source.uri {_shown(uri)} is no URI, or leads to what is none: mend its host and port",
    )


def _shown(uri: str) -> str:
    """The URI without user, password and query, which may be secrets."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "(not shown)"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
