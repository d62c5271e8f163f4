"""Watches: one lean list-watch for each kind of child, and the periodic list that finds what a watch missed."""

import asyncio
import logging
import math
import random
from collections.abc import Callable
from time import monotonic
from typing import Any

import aiohttp

from modelmill.core.resources import ResourceType
from modelmill.shell.api import INVALID_ANSWER, Api, ApiError
from modelmill.shell.cache import Cache, InvalidObjectError, ObjectKey, RestoredError

logger = logging.getLogger(__name__)

WATCH_SECONDS = 300
RESYNC_SECONDS = 300.0
# A connection that is dead without saying so shows when nothing comes of it for so long.  Bookmarks come about once a
# minute, but are no promise: of a kind without news the API server may send none.  So a watch asks for no longer.
SILENT_SECONDS = 110
LONG_ENOUGH = 10.0  # seconds: a watch that lived so long did not fail at once
_BACKOFF = (0.5, 1, 2, 5, 10, 30)

Wake = Callable[[set[ObjectKey]], None]


class Watched:
    """How one kind is doing, in one namespace or (None) wherever it is watched: truthful health is made of this."""

    def __init__(self, resource: ResourceType, namespace: str | None = None) -> None:
        self.resource = resource
        self.name = resource.plural + (f" in {namespace}" if namespace else "")
        self.synced = asyncio.Event()  # listed once
        self.answered = asyncio.Event()  # listed once, or refused
        self.last_contact = monotonic()
        self.problem: str | None = None
        self.absent = False  # the problem is that the kind, or the right to read it, is not there
        self.nonsense = False  # the problem is that what answers is not Kubernetes

    def healthy(self) -> None:
        self.last_contact = monotonic()
        if self.problem is not None:
            logger.info("%s can be read again", self.name, extra={"kind": self.resource.kind})
        self.problem, self.absent, self.nonsense = None, False, False

    def known(self) -> None:
        """It was listed; whether it may be watched shows later."""
        self.synced.set()
        self.answered.set()

    def listed(self) -> None:
        """It was listed, and may be watched."""
        self.healthy()
        self.known()

    @property
    def unknown(self) -> bool:
        """Whether it has to be listed: it cannot be read or, though news of it come, was never read whole."""
        return self.problem is not None or not self.synced.is_set()

    @property
    def usable(self) -> bool:
        """Whether what the cache has of it can be decided on."""
        return self.synced.is_set() and not self.absent

    def failed(self, error: Exception) -> None:
        self.answered.set()
        why = explain(error, self.resource)
        self.absent = isinstance(error, ApiError) and error.code in (403, 404)
        self.nonsense = isinstance(error, ValueError) or (
            isinstance(error, ApiError) and error.reason == INVALID_ANSWER
        )
        if why != self.problem:
            logger.warning("%s cannot be read: %s", self.name, why, extra={"kind": self.resource.kind})
        self.problem = why


async def list_into(
    api: Api, cache: Cache, resource: ResourceType, namespaces: tuple[str | None, ...], wake: Wake
) -> dict[str | None, str]:
    """List a kind into the cache and forget what is gone; the resource version of each namespace's list.

    RestoredError where the list is older than what was known when it was asked for: a list is never old.
    """
    versions: dict[str | None, str] = {}
    known = cache.newest(resource.kind)
    for namespace in namespaces:
        seen: set[tuple[str, str]] = set()
        version = "0"
        async for items, version in api.pages(resource, namespace):
            versions[namespace] = version
            if int(version) < known:
                raise RestoredError(f"{resource.plural} are at {version} and were at {known}: was etcd restored?")
            for item in items:
                wake(cache.store(resource.kind, item))
                seen.add((item["metadata"]["namespace"], item["metadata"]["name"]))
        wake(cache.keep_only(resource.kind, namespace, seen, version))
    return versions


async def follow(api: Api, cache: Cache, watched: Watched, namespace: str | None, wake: Wake) -> None:
    """Keep the cache up to date with one kind in one namespace (None: all); runs for ever."""
    resource, failures, begun = watched.resource, 0, monotonic()
    while True:
        try:
            version = (await list_into(api, cache, resource, (namespace,), wake))[namespace]
            watched.known()
            begun = monotonic()
            await _follow_from(api, cache, watched, namespace, version, wake)
            failures = 0  # it was time for a new list: a deletion that a broken watch lost shows there
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # 410 Gone is the API server's way to ask for a new list; everything else is said, and tried again.
            expired = isinstance(error, ApiError) and error.code == 410
            if not expired:
                watched.failed(error)
            failures = 1 if monotonic() - begun > LONG_ENOUGH else failures + 1
        pause = _BACKOFF[min(failures, len(_BACKOFF) - 1)] if failures else 0.05
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the load


async def _follow_from(
    api: Api, cache: Cache, watched: Watched, namespace: str | None, version: str, wake: Wake
) -> None:
    end = monotonic() + RESYNC_SECONDS
    while (left := end - monotonic()) > 0:
        opened = monotonic()
        seconds = min(math.ceil(left), SILENT_SECONDS)
        async for event in api.watch(watched.resource, namespace, version, seconds, watched.healthy):
            found = _object(watched.resource.kind, event)
            if event["type"] == "ERROR":
                raise ApiError(found.get("code", 500), found.get("reason", ""), found.get("message", ""))
            if event["type"] != "BOOKMARK":
                take(cache, watched.resource.kind, event, wake)
            version = _version(watched.resource.kind, found)
            watched.healthy()
        watched.healthy()  # the server ended it; go on from where it was, but not in a hurry
        if monotonic() - opened < 1:
            await asyncio.sleep(1)


def _object(kind: str, event: Any) -> dict[str, Any]:
    """The object of a watch event; InvalidObjectError where it has none."""
    found = event.get("object") if isinstance(event, dict) else None
    if not isinstance(found, dict) or "type" not in event:
        raise InvalidObjectError(f"this is no watch event of a {kind}: it has no type or no object")
    return found


def _version(kind: str, found: dict[str, Any]) -> str:
    try:
        return str(int(found["metadata"]["resourceVersion"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidObjectError(f"this is no {kind}: it has no resource version") from error


def take(cache: Cache, kind: str, event: dict[str, Any], wake: Wake) -> None:
    """One watch event into the cache; InvalidObjectError where it is about no object of that kind."""
    found = event["object"]
    if event["type"] == "DELETED":
        try:
            metadata = found["metadata"]
            namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
        except (KeyError, TypeError) as error:
            raise InvalidObjectError(f"this is no {kind}: {type(error).__name__}: {error}") from error
        wake(cache.remove(kind, namespace, name, uid))
    else:
        wake(cache.store(kind, found))


def explain(error: Exception, resource: ResourceType) -> str:
    if isinstance(error, ApiError) and error.code == 404:
        return f"the API server does not know {resource.plural}.{resource.group}: install or update the CRDs"
    if isinstance(error, ApiError) and error.code == 403:
        return f"the operator's role lacks list or watch on {resource.plural}: {error.message}"
    return f"{type(error).__name__}: {error}"
