"""The transport: every request to the API server goes through `Api.request`.

It is thin on purpose.  The official client builds a model object for each answer; the operator only ever
needs the JSON.  Nothing is retried here: who calls knows whether a second try is safe.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic
from typing import Any, Self

import aiohttp
import msgspec

from modelmill.core.resources import Manifest, ResourceType, dig
from modelmill.shell.login import Credentials
from modelmill_contracts import __version__

FIELD_MANAGER = "modelmill"
INVALID_ANSWER = "InvalidAnswer"  # a reason of our own
CONNECTIONS = 64  # at a time, for what is not a watch
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_PAGE = 250
_MAX_LINE = 1 << 22  # bytes of one watch event: an object is at most 1.5 MiB

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    """A list whose items are not decoded yet: as Python objects they take ten times as much memory."""

    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_decode_list = msgspec.json.Decoder(_List).decode

Measure = Callable[[str, str, int, float], None]  # verb, kind, status code, seconds


class ApiError(Exception):
    """The API server refused.

    `code` is the HTTP status, `reason` Kubernetes' own (NotFound, Conflict, ...), `causes` its details.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        causes: frozenset[str] = frozenset(),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after = retry_after

    @property
    def namespace_goes(self) -> bool:
        """Whether it was refused because its namespace is being deleted."""
        return "NamespaceTerminating" in self.causes


class Api:
    """One connection pool to one API server."""

    def __init__(
        self,
        credentials: Credentials,
        measure: Measure,
        identity: str = "",
        may_write: Callable[[], None] = lambda: None,
        watches: int = 0,
    ) -> None:
        """So many `watches` keep a connection each for themselves.

        `may_write` is asked, and raises, when a write is about to be sent: it may have waited for a connection."""
        self._credentials = credentials
        self._measure = measure
        connector = aiohttp.TCPConnector(ssl=credentials.info.as_ssl_context(), limit=CONNECTIONS + watches)
        # Two replicas have one service account: the audit log tells by this which of them it was.
        agent = f"modelmill-operator/{__version__}" + (f" ({identity})" if identity else "")
        self._may_write = may_write
        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(_about_to_send)
        self._session = aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": agent}, trace_configs=[tracing]
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        kind: str,
        params: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        stream_timeout: float | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request; the open answer, or ApiError where the API server refused it."""
        login = await self._credentials.present()
        headers = {"Accept": "application/json", **login.as_http_headers()}
        if body is not None:
            headers["Content-Type"] = content_type
        timeout = _TIMEOUT
        if stream_timeout is not None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=stream_timeout)
        started, code = monotonic(), 0
        try:
            answer = await self._session.request(
                method,
                login.server + path,
                params=params,
                data=None if body is None else _encode(body),
                headers=headers,
                timeout=timeout,
                max_line_size=_MAX_LINE,
                # The lease says itself who may write it: by its resource version.
                trace_request_ctx=None if method == "GET" or kind == "Lease" else self._may_write,
            )
            code = answer.status
        finally:
            self._measure(verb, kind, code, monotonic() - started)
        if code >= 400:
            raise await _error(answer)
        return answer

    async def _read(self, method: str, path: str, **more: Any) -> bytes:
        answer = await self.request(method, path, **more)
        async with answer:
            return await answer.read()

    async def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            result = _decode(await self._read(method, path, **more))
        except ValueError as error:
            raise _nonsense(path, "it is not JSON") from error
        if not isinstance(result, dict):
            raise _nonsense(path, "it is not an object")
        return result

    async def get(self, resource: ResourceType, namespace: str, name: str) -> dict[str, Any] | None:
        """The object as it is now, or None."""
        try:
            return await self._json("GET", resource.path(namespace, name), verb="get", kind=resource.kind)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def pages(
        self, resource: ResourceType, namespace: str | None
    ) -> AsyncIterator[tuple[Iterator[dict[str, Any]], str]]:
        """All objects page by page, each page with the list's resource version.

        An object is decoded when it is its turn.
        """
        params = {"limit": str(_PAGE), **_selectors(resource)}
        while True:
            text = await self._read("GET", resource.path(namespace), verb="list", kind=resource.kind, params=params)
            try:
                page = _decode_list(text)
            except ValueError as error:
                raise _nonsense(resource.path(namespace), "it is not a list") from error
            yield (_decode(item) for item in page.items or ()), page.metadata.resource_version
            if not page.metadata.continue_:
                return
            params["continue"] = page.metadata.continue_

    async def every(self, resource: ResourceType, namespace: str) -> tuple[dict[str, Any], ...]:
        """All objects of a kind in a namespace as they are now, each as far as the core reads it."""
        return tuple([resource.project(item) async for items, _ in self.pages(resource, namespace) for item in items])

    async def any(self, resource: ResourceType, namespace: str, label_selector: str) -> bool:
        """Whether there is an object with these labels now."""
        params = {"limit": "1", "labelSelector": label_selector}
        found = await self._json("GET", resource.path(namespace), verb="list", kind=resource.kind, params=params)
        return bool(found.get("items"))

    async def served(self, group: str, version: str) -> set[str]:
        """The plurals of the kinds that the API server knows of this version; none where it does not know it."""
        try:
            answer = await self._json("GET", f"/apis/{group}/{version}", verb="get", kind="APIResourceList")
        except ApiError as error:
            if error.code == 404:
                return set()
            raise
        try:
            return {resource["name"] for resource in answer["resources"]}
        except (KeyError, TypeError) as error:
            raise _nonsense(f"/apis/{group}/{version}", "it is not an APIResourceList") from error

    async def may_watch(self, resource: ResourceType, namespace: str | None, since: str) -> None:
        """ApiError where a watch of this kind, from a resource version on, is refused."""
        params = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": since, **_selectors(resource)}
        path = resource.path(namespace)
        answer = await self.request("GET", path, verb="watch", kind=resource.kind, params=params, stream_timeout=5)
        answer.close()

    async def watch(
        self, resource: ResourceType, namespace: str | None, since: str, seconds: int, opened: Callable[[], None]
    ) -> AsyncIterator[dict[str, Any]]:
        """Watch events after a resource version, for about so many seconds; `opened` is called when it is granted."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(seconds),
            **_selectors(resource),
        }
        answer = await self.request(
            "GET", resource.path(namespace), verb="watch", kind=resource.kind, params=params,
            stream_timeout=seconds + 10,
        )  # fmt: skip
        async with answer:
            opened()
            buffered = bytearray()
            async for chunk in answer.content.iter_any():
                buffered += chunk
                while (end := buffered.find(b"\n")) >= 0:
                    event = _decode(memoryview(buffered)[:end])
                    del buffered[: end + 1]
                    yield event

    async def create(self, resource: ResourceType, manifest: Manifest) -> dict[str, Any]:
        """Create an object; ApiError 409 where its name is taken."""
        path = resource.path(manifest["metadata"]["namespace"])
        params = {"fieldManager": FIELD_MANAGER}
        return await self._json("POST", path, verb="create", kind=resource.kind, params=params, body=manifest)

    async def apply(self, resource: ResourceType, manifest: Manifest, subresource: str | None = None) -> dict[str, Any]:
        """Server-side apply; the UID in the manifest keeps it from making an object anew or touching another."""
        metadata = manifest["metadata"]
        return await self._json(
            "PATCH",
            resource.path(metadata["namespace"], metadata["name"], subresource),
            verb="apply",
            kind=resource.kind + (f"/{subresource}" if subresource else ""),
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=manifest,
            content_type=_APPLY,
        )

    async def label(self, resource: ResourceType, live: Manifest, labels: dict[str, str]) -> dict[str, Any]:
        """Set labels of an object, if nobody changed it since; no apply, which would give up what it leaves out."""
        metadata = live["metadata"]
        same = {field: metadata[field] for field in ("uid", "resourceVersion")}
        return await self._json(
            "PATCH",
            resource.path(metadata["namespace"], metadata["name"]),
            verb="patch",
            kind=resource.kind,
            params={"fieldManager": FIELD_MANAGER},
            body={"metadata": {**same, "labels": labels}},
            content_type=_MERGE,
        )

    async def replace(self, resource: ResourceType, manifest: Manifest) -> dict[str, Any]:
        """Replace an object, if its resource version is still the manifest's."""
        metadata = manifest["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"])
        return await self._json("PUT", path, verb="update", kind=resource.kind, body=manifest)

    async def delete(self, resource: ResourceType, namespace: str, name: str, uid: str) -> dict[str, Any] | None:
        """Delete the object of this UID and, in the background, what it owns; nothing if it is gone already.

        None where it is gone now, else what is left of it until its finalizers are done.
        """
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        path = resource.path(namespace, name)
        try:
            answer = await self._json("DELETE", path, verb="delete", kind=resource.kind, body=body)
        except ApiError as error:
            if error.code not in (404, 409):  # 409: the name is another object's by now
                raise
            return None
        # A Status says that it is gone; the object, with the time of its deletion, that it is not.
        return answer if dig(answer, "metadata", "deletionTimestamp") else None


async def _about_to_send(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceRequestHeadersSentParams) -> None:
    # In spite of its name aiohttp calls this before the first byte goes out, and after the connection was there.
    may_write: Callable[[], None] | None = context.trace_request_ctx
    if may_write is not None:
        may_write()


def _nonsense(path: str, what: str) -> ApiError:
    """What answers in the API server's place, for example a proxy's login page: no status code says so."""
    return ApiError(200, INVALID_ANSWER, f"{path} was not answered as Kubernetes does: {what}")


def _selectors(resource: ResourceType) -> dict[str, str]:
    params = {}
    if resource.label_selector:
        params["labelSelector"] = resource.label_selector
    if resource.field_selector:
        params["fieldSelector"] = resource.field_selector
    return params


async def _error(answer: aiohttp.ClientResponse) -> ApiError:
    async with answer:
        text = await answer.text(errors="replace")
    reason, message, causes = answer.reason or "", text[:500], frozenset[str]()
    try:
        status = _decode(text)
        reason, message = status.get("reason") or reason, status.get("message") or message
        causes = frozenset(c.get("reason", "") for c in (status.get("details") or {}).get("causes") or ())
    except (ValueError, AttributeError):
        pass  # not a Status: a proxy's page, say; its text is the message
    try:
        retry_after = float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        retry_after = None
    return ApiError(answer.status, reason, message, causes=causes, retry_after=retry_after)
