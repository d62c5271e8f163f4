"""The operator process: starts everything in order, and ends in order.

health -> list own kinds and children -> follow them -> wait for the lease -> workers and collector
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
import kopf

from modelmill.api.schema import GROUP, VERSION
from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.core.resources import CHILDREN, OPTIONAL, OWN, TYPES, ResourceType
from modelmill.shell import intake, login, watch
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache, InvalidObjectError, ObjectKey
from modelmill.shell.collector import Collector
from modelmill.shell.events import Recorder
from modelmill.shell.executor import Executor
from modelmill.shell.health import Health
from modelmill.shell.lease import Elector, Fence, NotLeader
from modelmill.shell.metrics import Metrics
from modelmill.shell.prometheus import Inquirer
from modelmill.shell.queue import WorkQueue
from modelmill.shell.reconciler import Reconciler, run_workers, utc_now
from modelmill.shell.watch import Watched

logger = logging.getLogger(__name__)

_PAUSES = (1.0, 1.0, 2.0, 3.0, 5.0, 10.0)  # seconds, between looks at our own kinds
_KOPF_ENDS = 8.0  # seconds: it takes five where all is well
_PATIENCE = 5.0  # seconds with kinds that are there and cannot be read
_FINISH_EVENTS = 0.5  # seconds for the Events that were not written yet
_FINISH = 1.5  # seconds for what is being reconciled when the process is asked to end: a standby then waits for under 3
_BURST = 0.2  # seconds: news of the same child that come within this time are one


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
    prometheus: str | None = None  # where rollouts' queries are asked


class Process:
    """Everything that one operator process consists of."""

    def __init__(self, options: Options, api: Api, metrics: Metrics, fence: Fence, identity: str) -> None:
        self._options = options
        self._api = api
        self.identity = identity
        self.queue: WorkQueue[ObjectKey] = WorkQueue()
        self.cache = Cache(CONTROLLERS, options.settings)
        self.watched = {resource.kind: Watched(resource) for resource in OWN}
        self._children = {
            (resource.kind, namespace): Watched(resource, namespace)
            for resource in CHILDREN
            for namespace in options.namespaces
        }
        self._optional = {
            (resource.kind, namespace): Watched(resource, namespace)
            for resource in OPTIONAL
            for namespace in options.namespaces
        }
        everything = [*self.watched.values(), *self._children.values(), *self._optional.values()]
        self._fence = fence
        self._elector = Elector(api, self._fence, options.lease_namespace, options.lease_name, self.identity)
        self._metrics = metrics
        self._unserved: set[str] = set()  # kinds that were not there when kopf looked for them
        self._anew = asyncio.Event()  # kopf has to watch everything anew
        self.health = Health(self.queue, everything, metrics, lambda: self._elector.problem)
        self._events = Recorder(api, fence, identity, lambda: self.queue.busy)
        executor = Executor(api, self.cache, fence, self.wake_behind, self._events, self.health.hindered)
        self._reconciler = Reconciler(
            CONTROLLERS, api, self.cache, self.queue, executor, metrics, usable=self._usable, absent=self._absent
        )
        self._collector = Collector(self.cache, self.wake_soon, metrics, utc_now)
        self._inquirer = (
            Inquirer(self.cache, self.wake_soon, metrics, utc_now, options.prometheus) if options.prometheus else None
        )
        metrics.watch(self.cache, self.queue, CONTROLLERS)

    def wake(self, keys: set[ObjectKey]) -> None:
        if self.health.leading:  # who takes the lease over looks at everything
            for key in keys:
                self.queue.add(key)

    def wake_behind(self, keys: set[ObjectKey]) -> None:
        """What we have written ourselves is seldom news to who asked for it."""
        if self.health.leading:
            for key in keys:
                self.queue.add_behind(key)

    def wake_soon(self, keys: set[ObjectKey]) -> None:
        """News of children come in bursts (a pod, its node or why it has none, its owner's count): one look at all."""
        if self.health.leading:
            for key in keys:
                self.queue.add_after(key, _BURST)

    def _usable(self, kind: str) -> bool:
        if kind in self.watched:
            return self.watched[kind].usable
        children = self._optional if TYPES[kind].optional else self._children
        return all(children[kind, namespace].usable for namespace in self._options.namespaces)

    def _absent(self, kind: str) -> str | None:
        """Why an optional kind cannot be read, where its CRD or the right to it is not there."""
        watched = [self._optional[kind, namespace] for namespace in self._options.namespaces]
        return next((one.problem for one in watched if one.absent), None)

    async def run(self, stop: asyncio.Event) -> int:
        """Run until `stop` is set or the lease is lost; the exit code: 0 where the end was asked for."""
        code = 0
        kopf_stop = asyncio.Event()
        runner = await self.health.serve(self._options.host, self._options.port)
        tasks = [
            asyncio.create_task(self.queue.run(), name="timer"),
            asyncio.create_task(self._resync(), name="resync"),
            *(
                asyncio.create_task(
                    watch.follow(self._api, self.cache, watched, namespace, self.wake_soon),
                    name=f"watch-{watched.name}",
                )
                for (_, namespace), watched in self._children.items()
            ),
            *(
                asyncio.create_task(self._follow_once_wanted(watched, namespace), name=f"watch-{watched.name}")
                for (_, namespace), watched in self._optional.items()
            ),
            asyncio.create_task(self._lead(), name="leader"),
        ]
        framework = asyncio.create_task(self._intake(stop=kopf_stop, signals=stop), name="kopf")
        _take_signals(stop)
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
            if code == 0 and self._fence.open:
                # A write that is cut off may still be applied, after another one has taken over.
                await self.queue.stop(_FINISH)
                with contextlib.suppress(NotLeader, TimeoutError):
                    await asyncio.wait_for(self._events.flush(), _FINISH_EVENTS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # First the lease, so that a standby takes over while kopf takes its seconds to stop.
            with contextlib.suppress(ApiError, aiohttp.ClientError, TimeoutError, OSError, InvalidObjectError):
                await self._elector.release()
            kopf_stop.set()
            stopped.cancel()
            if code == 0:
                await asyncio.wait([framework], timeout=8)
            await runner.cleanup()
        return code

    async def _follow_once_wanted(self, watched: Watched, namespace: str | None) -> None:
        """Watch an optional kind from when the first object depends on it."""
        kind = watched.resource.kind
        await self.cache.wanted(kind)
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.follow(self._api, self.cache, watched, namespace, self.wake_soon))
            await watched.answered.wait()
            self.wake(self.cache.dependents(kind))

    async def _lead(self) -> None:
        """Wait until everything is known, then for the lease; then reconcile until it is lost."""
        # A kind that cannot be read is left out, and with it who depends on it.
        for watched in (*self.watched.values(), *self._children.values()):
            await watched.answered.wait()
        await self._elector.acquire()
        self.health.leading = True
        self._metrics.leader.set(1)
        self._enqueue_everything()
        workers = asyncio.create_task(run_workers(self._reconciler, self._options.workers), name="workers")
        collecting = asyncio.create_task(self._collector.run(), name="collector")
        inquiring = [asyncio.create_task(self._inquirer.run(), name="inquirer")] if self._inquirer is not None else []
        events = asyncio.create_task(self._events.run(), name="events")
        # A renewal that outlived us would take the lease back after it was released.
        renewal = asyncio.create_task(self._elector.renew(), name="renewal")
        try:
            done, _ = await asyncio.wait([workers, renewal, events], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except* NotLeader:
            logger.error("the lease ran out; this replica ends", extra={"identity": self.identity})
        finally:
            self.health.leading = False
            self._metrics.leader.set(0)
            tasks = (workers, renewal, events, collecting, *inquiring)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _intake(self, stop: asyncio.Event, signals: asyncio.Event) -> None:
        """Run kopf until `stop` is set, as soon as it can find the kinds of ours.

        It looks for them at its start, and never watches what it did not find then.  An API server that has just
        started serves them one after the other: so they have to be there first.
        """
        served, begun = set[str](), monotonic()
        while not stop.is_set():
            try:
                served = await self._api.served(GROUP, VERSION)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                logger.warning("the kinds of the API server cannot be read: %s: %s", type(error).__name__, error)
            else:
                # One that answers nonsense does not keep the others waiting.
                if await self._own_known(served) or monotonic() - begun > _PATIENCE:
                    break
                continue
            await asyncio.sleep(1.0)
        self._unserved = {resource.kind for resource in OWN if resource.plural not in served}
        pauses = iter(_PAUSES)
        while not stop.is_set():
            handlers, ready = intake.registry(self.cache, self.watched, self.wake), asyncio.Event()
            taking = asyncio.create_task(_own_signals(signals, after=ready))
            try:
                await self._watched_by_kopf(handlers, stop, ready)
            except Exception as error:
                # One answer that is none of Kubernetes' ends kopf, and with it the watches of all kinds.
                pause = min(next(pauses, _PAUSES[-1]), _PATIENCE)
                logger.warning("our kinds are watched anew in %s s: %s: %s", pause, type(error).__name__, error)
                await self._list_own(list(OWN))  # the news of the others meanwhile
                await asyncio.sleep(pause)
            finally:
                taking.cancel()

    async def _own_known(self, served: set[str]) -> bool:
        """Whether each of our kinds was listed, where it is served and may be, within a second."""
        own = [self.watched[resource.kind] for resource in OWN]
        for _ in range(20):
            if all(w.absent or (w.synced.is_set() and w.resource.plural in served) for w in own):
                return True
            await asyncio.sleep(0.05)
        return False

    async def _watched_by_kopf(
        self, handlers: kopf.OperatorRegistry, stop: asyncio.Event, ready: asyncio.Event
    ) -> None:
        """Run kopf until `stop` is set, it fails, or an answer that was none of Kubernetes' has been mended.

        Such an answer may leave it waiting for itself, with all its watches ended.
        """
        this_one = asyncio.Event()
        self._anew.clear()
        running = asyncio.create_task(
            intake.run(handlers, self._options.namespaces, self.identity, this_one, ready), name="kopf's operator"
        )
        ends = [asyncio.create_task(event.wait()) for event in (stop, self._anew)]
        try:
            await asyncio.wait([running, *ends], return_when=asyncio.FIRST_COMPLETED)
            this_one.set()
            await asyncio.wait([running], timeout=_KOPF_ENDS)
            if running.done():
                running.result()
        finally:
            for task in (running, *ends):
                task.cancel()

    async def _resync(self) -> None:
        """List our own kinds at the start and now and then, and look at everything again.

        A kind that cannot be read is asked for more often.  Where it appears after kopf has looked for it, the process
        ends, so that it is started anew and watches it; where a right was missing, kopf goes on by itself.
        """
        next_round, pauses = 0.0, iter(_PAUSES)
        while True:
            everything = monotonic() >= next_round
            if everything:
                next_round = monotonic() + watch.RESYNC_SECONDS
            # Who got nonsense for one kind may have ended the watches of all of them.
            everything_now = everything or any(watched.nonsense for watched in self.watched.values())
            asked = [r for r in OWN if everything_now or self.watched[r.kind].unknown]
            if await self._list_own(asked) & self._unserved:
                return
            if everything and self.health.leading:
                self._enqueue_everything()
            if not any(watched.unknown for watched in self.watched.values()):
                pauses = iter(_PAUSES)
            await asyncio.sleep(next(pauses, _PAUSES[-1]))

    async def _list_own(self, resources: list[ResourceType]) -> set[str]:
        """List these kinds into the cache; those that could be read."""
        found = set()

        async def one(resource: ResourceType) -> None:
            watched = self.watched[resource.kind]
            try:
                versions = await watch.list_into(self._api, self.cache, resource, self._options.namespaces, self.wake)
                for namespace, version in versions.items():
                    await self._api.may_watch(resource, namespace, version)  # kopf does not tell when it may not
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                watched.failed(error)
                return
            if resource.kind in self._unserved:
                logger.info("%s can be read now; starting anew to watch them", resource.plural)
            if watched.nonsense:
                self._anew.set()
            watched.listed()
            found.add(resource.kind)

        await asyncio.gather(*(one(resource) for resource in resources))
        return found

    def _enqueue_everything(self) -> None:
        for kind in CONTROLLERS:
            for manifest in self.cache.objects(kind):
                metadata = manifest["metadata"]
                self.queue.add((kind, metadata["namespace"], metadata["name"]))


def _take_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _own_signals(stop: asyncio.Event, after: asyncio.Event) -> None:
    """Take SIGTERM and SIGINT over from kopf, which would first take its 5 seconds, the lease still held."""
    await after.wait()
    _take_signals(stop)


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
    metrics, fence, identity = Metrics(), Fence(), _identity()
    watches = (len(CHILDREN) + len(OPTIONAL)) * len(options.namespaces)
    async with Api(await login.load(), metrics.requested, identity, fence.check, watches) as api:
        code = await Process(options, api, metrics, fence, identity).run(stop)
        if code:
            # The lease is another's by now: kopf is not given its seconds, and the next process starts at once.
            logging.shutdown()
            os._exit(code)
        return code
