"""The operator process: starts everything in order, and ends in order.

health -> list own kinds and children -> follow them -> wait for the lease -> workers
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from dataclasses import dataclass
from time import monotonic
from uuid import uuid4

import aiohttp

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.core.resources import CHILDREN, OWN
from modelmill.shell import intake, login, watch
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.executor import Executor
from modelmill.shell.health import Health
from modelmill.shell.lease import Elector, Fence
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue
from modelmill.shell.reconciler import Reconciler, run_workers
from modelmill.shell.watch import Watched

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How the process was started."""

    settings: Settings
    namespaces: tuple[str | None, ...]  # (None,): all
    lease_namespace: str
    lease_name: str
    host: str
    port: int
    workers: int


class Process:
    """Everything that one operator process consists of."""

    def __init__(self, options: Options, api: Api, metrics: Metrics, identity: str) -> None:
        self._options = options
        self._api = api
        self.identity = identity
        self.queue: WorkQueue[ObjectKey] = WorkQueue()
        self.cache = Cache(CONTROLLERS, options.settings)
        self.watched = {resource.kind: Watched(resource) for resource in (*OWN, *CHILDREN)}
        self._fence = Fence()
        self._elector = Elector(api, self._fence, options.lease_namespace, options.lease_name, self.identity)
        self._metrics = metrics
        self.health = Health(self.queue, list(self.watched.values()), metrics)
        executor = Executor(api, self.cache, self._fence, self.wake, self.identity)
        self._reconciler = Reconciler(CONTROLLERS, api, self.cache, self.queue, executor, metrics)
        metrics.watch(self.cache, self.queue, CONTROLLERS)

    def wake(self, keys: set[ObjectKey]) -> None:
        for key in keys:
            self.queue.add(key)

    async def run(self, stop: asyncio.Event) -> int:
        """Run until `stop` is set or the lease is lost; the exit code: 0 where the end was asked for."""
        code = 0
        kopf_stop, kopf_ready = asyncio.Event(), asyncio.Event()
        handlers = intake.registry(self.cache, self.watched, self.wake)
        runner = await self.health.serve(self._options.host, self._options.port)
        tasks = [
            asyncio.create_task(self.queue.run(), name="timer"),
            asyncio.create_task(self._resync(), name="resync"),
            *(
                asyncio.create_task(
                    watch.follow(self._api, self.cache, self.watched[resource.kind], namespace, self.wake),
                    name=f"watch-{resource.plural}",
                )
                for resource in CHILDREN
                for namespace in self._options.namespaces
            ),
            asyncio.create_task(self._lead(), name="leader"),
        ]
        framework = asyncio.create_task(
            intake.run(handlers, self._options.namespaces, self.identity, kopf_stop, kopf_ready), name="kopf"
        )
        tasks.append(asyncio.create_task(_own_signals(stop, after=kopf_ready), name="signals"))
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([stopped, framework, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None:
                    logger.error("%s failed", task.get_name(), exc_info=error)
                if error is not None or task.get_name() == "leader":
                    code = 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # First the lease, so that a standby takes over while kopf takes its seconds to stop.
            with contextlib.suppress(ApiError, aiohttp.ClientError, TimeoutError, OSError):
                await self._elector.release()
            kopf_stop.set()
            stopped.cancel()
            await asyncio.wait([framework], timeout=8)
            await runner.cleanup()
        return code

    async def _lead(self) -> None:
        """Wait until everything is known, then for the lease; then reconcile until it is lost."""
        # A kind of ours that cannot be read is left out; without the children nothing can be decided.
        for resource in CHILDREN:
            await self.watched[resource.kind].synced.wait()
        for resource in OWN:
            await self.watched[resource.kind].answered.wait()
        await self._elector.acquire()
        self.health.leading = True
        self._metrics.leader.set(1)
        self._enqueue_everything()
        workers = asyncio.create_task(run_workers(self._reconciler, self._options.workers), name="workers")
        # A renewal that outlived us would take the lease back after it was released.
        renewal = asyncio.create_task(self._elector.renew(), name="renewal")
        try:
            done, _ = await asyncio.wait([workers, renewal], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.health.leading = False
            self._metrics.leader.set(0)
            for task in (workers, renewal):
                task.cancel()
            await asyncio.gather(workers, renewal, return_exceptions=True)

    async def _resync(self) -> None:
        """List our own kinds at the start and now and then, and look at everything again.

        A kind that cannot be read is asked for more often.  kopf looks for its kinds once, at the start: when one
        of them appears later, the process ends, so that it is started anew and watches it.
        """
        unreadable: set[str] = set()
        next_round = 0.0
        while True:
            everything = monotonic() >= next_round
            if everything:
                next_round = monotonic() + watch.RESYNC_SECONDS
            for resource in OWN:
                watched = self.watched[resource.kind]
                if not (everything or resource.kind in unreadable):
                    continue
                try:
                    await watch.list_into(self._api, self.cache, resource, self._options.namespaces, self.wake)
                    watched.listed()
                    if resource.kind in unreadable:
                        logger.info("%s can be read now; starting anew to watch them", resource.plural)
                        return
                except (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                    watched.failed(watch.explain(error, resource))
                    if isinstance(error, ApiError) and error.code in (403, 404):
                        unreadable.add(resource.kind)
            if everything and self.health.leading:
                self._enqueue_everything()
            await asyncio.sleep(10.0)

    def _enqueue_everything(self) -> None:
        for kind in CONTROLLERS:
            for manifest in self.cache.objects(kind):
                metadata = manifest["metadata"]
                self.queue.add((kind, metadata["namespace"], metadata["name"]))


async def _own_signals(stop: asyncio.Event, after: asyncio.Event) -> None:
    """Take SIGTERM and SIGINT over from kopf, which would first take its 5 seconds, the lease still held."""
    await after.wait()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await asyncio.Event().wait()  # a task that ends would end the process


def _identity() -> str:
    """Who we are to the lease.

    A pod's containers follow one another: one that was killed and started again is the same holder, and goes on
    at once.  Outside of a pod every process is another.
    """
    pod = os.environ.get("POD_UID")
    return f"{socket.gethostname()}_{pod or uuid4().hex}"


async def main(options: Options) -> int:
    """The operator, until SIGTERM or SIGINT; the exit code."""
    stop = asyncio.Event()
    metrics, identity = Metrics(), _identity()
    async with Api(await login.load(), metrics.requested, identity) as api:
        return await Process(options, api, metrics, identity).run(stop)
