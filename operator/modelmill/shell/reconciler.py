"""The reconciler: workers that take an object from the queue, ask the core, and carry out its plan."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import aiohttp
from pydantic import ValidationError

from modelmill.core.controller import Controller
from modelmill.core.plan import Observed
from modelmill.core.resources import TYPES
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache, InvalidObjectError, ObjectKey
from modelmill.shell.executor import Executor, Stale
from modelmill.shell.lease import NotLeader
from modelmill.shell.logs import about
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue

logger = logging.getLogger(__name__)

UNREADABLE_PAUSE = 60.0  # seconds until an object of another version's shape is tried again; an edit is at once
UNUSABLE_PAUSE = 5.0  # seconds until it is looked again whether a kind can be read; that costs no request


def utc_now() -> datetime:
    """Now, to the second: conditions know no finer time, and a snapshot must not differ for less."""
    return datetime.now(UTC).replace(microsecond=0)


class Reconciler:
    """Reconciles every object of our kinds."""

    def __init__(
        self,
        controllers: Mapping[str, Controller[Any, Any]],
        api: Api,
        cache: Cache,
        queue: WorkQueue[ObjectKey],
        executor: Executor,
        metrics: Metrics,
        now: Callable[[], datetime] = utc_now,
        usable: Callable[[str], bool] = lambda _: True,
        absent: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """`usable` tells whether all objects of a kind are known, `absent` why an optional one cannot be read."""
        self._controllers = controllers
        self._api = api
        self._cache = cache
        self._queue = queue
        self._executor = executor
        self._metrics = metrics
        self._usable = usable
        self._absent = absent
        self._now = now

    async def work(self) -> None:
        """One worker; runs until the lease is lost."""
        while True:
            key = await self._queue.get()
            started, outcome = monotonic(), "success"
            try:
                await self.reconcile(key)
                self._queue.forget(key)
            except NotLeader:
                raise
            except Stale as reason:
                outcome = "stale"
                logger.info("looking again: %s", reason, extra=about(key))
                self._queue.add_rate_limited(key)
            except ApiError as error:
                if error.namespace_goes:
                    outcome = "namespace goes"  # and the object with it: there is nothing left to bring about
                else:
                    outcome = "error"
                    self._again(key, error, error.retry_after or 0.0)
            except (aiohttp.ClientError, TimeoutError, OSError, InvalidObjectError) as error:
                outcome = "error"
                self._again(key, error)
            except ValidationError as error:
                outcome = "unreadable"
                logger.warning("%s", unreadable(error), extra=about(key))
                self._queue.add_rate_limited(key, at_least=UNREADABLE_PAUSE)
            except Exception:
                outcome = "panic"
                logger.exception("the core failed; this is a bug", extra=about(key))
                self._queue.add_rate_limited(key, at_least=1.0)
            finally:
                self._queue.done(key)
                self._metrics.reconciled(key[0], outcome, monotonic() - started)

    def _again(self, key: ObjectKey, error: Exception, at_least: float = 0.0) -> None:
        logger.warning("will be tried again: %s: %s", type(error).__name__, error, extra=about(key))
        self._queue.add_rate_limited(key, at_least)

    async def reconcile(self, key: ObjectKey) -> None:
        """Bring one object closer to what it declares."""
        await self._check_foreign(key)
        observed = self._cache.observe(key)
        if observed is None or observed.object["metadata"].get("deletionTimestamp"):
            return  # its children go with it: they have it as their owner
        controller = self._controllers[key[0]]
        absent = {k: why for k in optional_kinds(observed) if (why := self._absent(k)) is not None}
        needed = {dependency.kind for dependency in observed.related} - controller.spared - absent.keys()
        if not all(self._usable(kind) for kind in needed):
            self._queue.add_after(key, UNUSABLE_PAUSE)  # what is not seen must not be taken for what is not there
            return
        if absent:
            observed = replace(observed, absent=absent)
        plan = controller.reconcile(observed, self._now())
        await self._executor.carry_out(key, observed, plan)
        if plan.requeue_after is not None:
            self._queue.add_after(key, max(plan.requeue_after.total_seconds(), 0.05))

    async def _check_foreign(self, key: ObjectKey) -> None:
        """A name that was taken may be free by now; nobody tells, as what is not ours is not watched."""
        for kind, name in self._cache.foreign(key):
            try:
                free = await self._api.get(TYPES[kind], key[1], name) is None
            except ApiError as error:
                if error.code != 403:
                    raise
                free = False  # nobody can tell; what is said of it may still be said
            if free:
                self._cache.set_foreign(key, kind, name, taken=False)


def optional_kinds(observed: Observed) -> list[str]:
    """The kinds of a snapshot whose CRDs may not be there."""
    return [dependency.kind for dependency in observed.related if TYPES[dependency.kind].optional]


_MOST_FIELDS, _MOST_LETTERS = 3, 80


def unreadable(error: ValidationError) -> str:
    """What the shape of an object, or of one that it depends on, has that this operator does not know, and what helps.

    The API server holds objects to the CRDs: what passed them was written under those of another version.
    """
    fields = [
        f"{'.'.join(map(str, (error.title, *found['loc'])))}: {found['msg']}, found {_short(found['input'])}"
        for found in error.errors(include_url=False)[:_MOST_FIELDS]
    ]
    return (
        f"it cannot be read: {'; '.join(fields)}. A newer or an older version of the CRDs let it be written: bring"
        " operator and CRDs to one version, or write these fields as this version declares them (kubectl explain)"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


async def run_workers(reconciler: Reconciler, workers: int) -> None:
    """So many workers at the same time, until one of them ends."""
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(reconciler.work(), name=f"worker-{number}")
