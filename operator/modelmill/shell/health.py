"""Health: what the kubelet, Prometheus and a curious person are told, and it is the truth.

/healthz  200 while the process makes progress: objects that wait are taken, and none is held for minutes
/readyz   200 once this replica does its work, or could take it over; else 503 with what is wrong: without a right to
          the lease, for one, no replica ever will.  A kind of ours that
          cannot be read or written, or a kind that is missing or forbidden, is named, and no reason to be unready: who
          does not depend on it goes on
/metrics  Prometheus
"""

from collections.abc import Callable, Sequence
from time import monotonic

from aiohttp import web

from modelmill.core.resources import OWN, TYPES
from modelmill.shell.cache import ObjectKey
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue
from modelmill.shell.watch import WATCH_SECONDS, Watched

STUCK_SECONDS = 300.0


def _does_without(watched: Watched) -> bool:
    """Whether the other kinds can go on while this one cannot be read."""
    return watched.resource in OWN or watched.resource.optional or watched.absent


class Health:
    """Answers for one operator process."""

    def __init__(
        self,
        queue: WorkQueue[ObjectKey],
        watched: Sequence[Watched],
        metrics: Metrics,
        no_lease: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`no_lease` tells why nobody gets the lease until somebody mends it."""
        self._queue = queue
        self._no_lease = no_lease
        self._watched = watched
        self._metrics = metrics
        self._unwritable: dict[str, str] = {}
        self.leading = False

    def hindered(self, kind: str, why: str | None) -> None:
        """Why no status of a kind can be written, or None: one was."""
        if why is None:
            self._unwritable.pop(kind, None)
        else:
            self._unwritable[kind] = why

    def left_out(self) -> list[str]:
        """The kinds without which one can go on, and what is wrong with them."""
        unread = [f"{w.name}: {w.problem}" for w in self._watched if w.problem and _does_without(w)]
        return [*unread, *(f"{TYPES[kind].plural}: {why}" for kind, why in sorted(self._unwritable.items()))]

    def problems(self) -> list[str]:
        """What keeps this replica from doing its work."""
        no_lease = self._no_lease()
        found = [no_lease] if no_lease is not None else []
        for watched in self._watched:
            if watched.problem is not None and _does_without(watched):
                continue
            name = watched.name
            age = monotonic() - watched.last_contact
            if watched.problem is not None:
                found.append(f"{name}: {watched.problem}")
            elif watched.resource.optional and not watched.synced.is_set():
                continue  # nobody asks for it, or somebody does since a moment ago
            elif not watched.synced.is_set():
                found.append(f"{name}: not listed yet")
            elif age > 2 * WATCH_SECONDS:
                found.append(f"{name}: nothing heard of it for {age:.0f} s")
        return found

    async def serve(self, host: str, port: int) -> web.AppRunner:
        """Start answering; the caller cleans the runner up."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return runner

    async def _healthz(self, _: web.Request) -> web.Response:
        if self.leading and self._queue.stuck > STUCK_SECONDS:
            said = f"nothing was taken from the queue, or a worker holds an object, for {self._queue.stuck:.0f} s\n"
            return web.Response(status=503, text=said)
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        problems, left_out = self.problems(), self.left_out()
        role = "active" if self.leading else "standby"
        if problems:
            return web.Response(status=503, text="\n".join([role, *problems, *left_out]) + "\n")
        return web.Response(text="\n".join([f"ok, {role}", *left_out]) + "\n")

    async def _metrics_text(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})
