"""Intake: kopf watches our own kinds; each event goes into the cache, and who it wakes into the queue.

The handlers never raise and never write.  No finalizers, no annotations, no daemons, no timers: all state is
in the objects' status.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import kopf

from modelmill.core.resources import OWN, ResourceType
from modelmill.shell import login, watch
from modelmill.shell.cache import Cache, InvalidObjectError
from modelmill.shell.watch import Wake, Watched

logger = logging.getLogger(__name__)


def registry(cache: Cache, watched: dict[str, Watched], wake: Wake) -> kopf.OperatorRegistry:
    """The handlers of all own kinds."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers, backoff=1, retries=None)(login.for_kopf)
    for resource in OWN:
        handler = _handler(cache, resource, watched[resource.kind], wake)
        kopf.on.event(resource.group, resource.version, resource.plural, registry=handlers, id="intake")(handler)
    return handlers


def _handler(cache: Cache, resource: ResourceType, watched: Watched, wake: Wake) -> Callable[..., Any]:
    async def intake(event: Any, **_: Any) -> None:
        if event["type"] is not None:  # kopf has only listed it: the watch may still be refused
            watched.healthy()
        try:
            watch.take(cache, resource.kind, {"type": event["type"], "object": event["object"]}, wake)
        except InvalidObjectError as error:
            watched.failed(error)

    return intake


class _NoDiffs(kopf.DiffBaseStorage):
    """Nothing to compare with: `on.event` knows no differences, and a copy of each object would be made for them."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:  # noqa: ARG002 - kopf's signature
        return {}

    def fetch(self, *, body: Any) -> None:
        """No former state."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Never asked for: there are no handlers that change anything."""


def settings() -> kopf.OperatorSettings:
    """kopf without everything that would write, scan or compare."""
    result = kopf.OperatorSettings()
    result.posting.enabled = False
    result.scanning.disabled = True
    result.persistence.diffbase_storage = _NoDiffs()
    result.queueing.idle_timeout = 0.2  # seconds; a task for each object of which there is news
    result.watching.chunk_size = 250
    result.watching.server_timeout = watch.WATCH_SECONDS
    result.watching.client_timeout = watch.WATCH_SECONDS + 10
    result.watching.connect_timeout = 5
    result.networking.connect_timeout = 5
    result.networking.request_timeout = 30
    result.networking.error_backoffs = _Backoffs()
    return result


class _Backoffs:
    """kopf gives up, and ends the process, when its pauses are used up: these never are."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3, 5, 8, 13), itertools.repeat(30))


async def run(
    handlers: kopf.OperatorRegistry,
    namespaces: tuple[str | None, ...],
    identity: Any,  # a str: kopf keeps its own name of the type to itself
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Run kopf until `stop` is set."""
    clusterwide = namespaces == (None,)
    await kopf.operator(
        registry=handlers,
        settings=settings(),
        standalone=True,
        identity=identity,  # else kopf looks for the user's name, and a container's user has none
        clusterwide=clusterwide,
        namespaces=() if clusterwide else [n for n in namespaces if n is not None],
        stop_flag=stop,
        ready_flag=ready,
    )
