"""The operator inside of a test: the shipped shell from its transport to its reconciler, and an abrupt end.

What is left out is what brings news and leave to write: kopf, the watches and the lease.  The news are lists, so that
each life goes the same way; processes as they ship are killed in other tests.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.core.resources import CHILDREN, OWN, TYPES
from modelmill.shell import login
from modelmill.shell.api import Api
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.events import Recorder
from modelmill.shell.executor import Executor, Stale
from modelmill.shell.lease import Fence, clock
from modelmill.shell.login import Credentials
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue
from modelmill.shell.reconciler import Reconciler
from modelmill.shell.watch import list_into

SETTINGS = Settings("trainer:test", "server:test")
_ALL = {resource.kind for resource in (*OWN, *CHILDREN)}  # no life depends on kinds that few clusters have
PAUSE = timedelta(seconds=10)  # longer than what the core waits for when all goes well


async def connection(kubeconfig: str) -> Credentials:
    """The credentials of a kubeconfig; the environment's is read when the official client is imported."""
    return await login.official(kubeconfig)


class Killed(BaseException):
    """The process is dead: no handler of its own sees that."""


class Clock:
    """A clock that only goes when it is told to."""

    def __init__(self) -> None:
        self._now = self._begun = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self._now

    @property
    def seconds(self) -> int:
        """Since it was made."""
        return int((self._now - self._begun).total_seconds())

    def wait(self, time: timedelta = PAUSE) -> None:
        self._now += time


class Mortal(Api):
    """The transport, which is dead after so many applied writes: the answer to the last one is never read."""

    def __init__(
        self, credentials: Credentials, lives_for: int | None = None, wrote: Callable[[str], None] = lambda _: None
    ) -> None:
        """`wrote` is told the kind of each write that was applied."""
        super().__init__(credentials, lambda *_: None)
        self._lives_for = lives_for
        self._wrote = wrote
        self._one_at_a_time = asyncio.Lock()  # else it would not be known how many of several had been applied
        self.applied: list[str] = []
        self.created: list[tuple[str, str]] = []
        self.deleted: list[tuple[str, str]] = []

    def die_after(self, writes: int | None) -> None:
        """After so many that come from now on; None: it lives."""
        self._lives_for = None if writes is None else len(self.applied) + writes

    @property
    def dead(self) -> bool:
        return self._lives_for is not None and len(self.applied) >= self._lives_for

    async def request(self, method: str, path: str, *, kind: str, **more: Any) -> aiohttp.ClientResponse:
        if method == "GET":
            return await super().request(method, path, kind=kind, **more)
        async with self._one_at_a_time:
            if self.dead:
                raise Killed
            answer = await super().request(method, path, kind=kind, **more)
            self.applied.append(f"{method} {kind} {path}")
            self._wrote(kind.partition("/")[0])  # without the subresource
            body = json.loads(await answer.read())
            if method == "POST" and kind != "Event":
                self.created.append((kind, body["metadata"]["name"]))
            elif method == "DELETE":
                self.deleted.append((kind, path.rpartition("/")[2]))
            if self.dead:
                raise Killed
            return answer


class Incarnation:
    """One process' state: all of it is gone with it."""

    def __init__(self, api: Api, namespace: str, clock: Clock, ask: Callable[[Cache], None]) -> None:
        """`ask` stands for the collector: it gives the cache what pods answer."""
        self._api = api
        self._ask = ask
        self._namespace = namespace
        self._clock = clock
        self._woken: set[ObjectKey] = set()
        self._synced = False
        self._cache = Cache(CONTROLLERS, SETTINGS)
        self._fence = Fence()
        self._events = Recorder(api, self._fence, "test")
        executor = Executor(api, self._cache, self._fence, self._woken.update, self._events)
        queue: WorkQueue[ObjectKey] = WorkQueue()  # where a pause is asked for; `settle` looks at everything instead
        self._reconciler = Reconciler(CONTROLLERS, api, self._cache, queue, executor, Metrics(), clock)

    async def settle(self, changed: set[str]) -> None:
        """Reconcile until everything was looked at after a pause, and nothing was written.

        `changed` are the kinds of which there is news: a new process sees everything anyway.
        """
        await self._see(changed if self._synced else _ALL)
        self._synced = True
        paused = False
        while True:
            self._ask(self._cache)
            for kind in CONTROLLERS:
                for manifest in self._cache.objects(kind):
                    self._woken.add((kind, self._namespace, manifest["metadata"]["name"]))
            if await self._drain():
                paused = False
            elif paused:
                return
            else:
                paused = True
                self._clock.wait()

    async def _see(self, kinds: Iterable[str]) -> None:
        for kind in sorted(kinds):
            await list_into(self._api, self._cache, TYPES[kind], (self._namespace,), self._woken.update)

    async def _drain(self) -> bool:
        """Reconcile who was woken; whether anything was written.  What is stale is seen again, once."""
        assert isinstance(self._api, Mortal)
        before, again = len(self._api.applied), set[ObjectKey]()
        while self._woken:
            key = min(self._woken)
            self._woken.discard(key)
            self._fence.renewed(clock())
            try:
                await self._reconciler.reconcile(key)
                await self._events.flush()
            except Stale:
                if key not in again:
                    again.add(key)
                    await self._see(_ALL)
                    self._woken.add(key)
        return len(self._api.applied) > before
