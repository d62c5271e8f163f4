"""Cluster: scikit-learn's own parallelism on the workers of several pods, by Dask; imported only where there are some.

    pod 0: scheduler, the training itself (`led`), and a worker beside it (`beside`)
    the others: a worker each (`work`), until pod 0 dismisses them; one that loses its scheduler waits for the next

A worker does one call at a time, on one thread, with the pins that this process has.  What is called there is what
joblib would call here, in the same way and with the same arguments, so that the result does not depend on who did it.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import dask

# Before distributed is imported, which sets up its log then.  Its warnings show the arguments of calls: values of data.
dask.config.set(
    {
        "distributed.logging": {"version": 1, "incremental": True, "loggers": {"distributed": {"level": "ERROR"}}},
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        # A call may hold the interpreter for minutes; who is gone is known by its connection.
        "distributed.scheduler.worker-ttl": None,
        # The kernel knows how much memory there is, and Kubernetes says when it was too little.
        **{f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause", "terminate")},
        "distributed.worker.profile.enabled": False,
    }
)

import joblib  # noqa: E402
from distributed import Client, KilledWorker, Scheduler, Security, SpecCluster, Worker  # noqa: E402
from distributed.comm.core import CommClosedError  # noqa: E402
from joblib._dask import DaskDistributedBackend  # noqa: E402
from joblib.parallel import SequentialBackend  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

from modelmill_contracts.report import Report  # noqa: E402
from modelmill_trainer.credentials import credentials  # noqa: E402
from modelmill_trainer.failure import TaskError  # noqa: E402
from modelmill_trainer.log import phase, say  # noqa: E402
from modelmill_trainer.workers import Place  # noqa: E402

PATIENCE = 60.0  # seconds for workers to come; then it begins without those that are missing, which may still come
_PAUSE = 1.0  # seconds between two tries to reach a scheduler
_LOOPBACK = "127.0.0.1:0"  # where Dask's own pages are, of which there are none

_dismissed = threading.Event()  # of this process's worker

Call = tuple[Any, Sequence[Any], dict[str, Any]]


class Cluster:
    """The workers as pod 0 has them."""

    def __init__(self, client: Client, count: int) -> None:
        self._client = client
        self._count = count
        self._gathered = False

    @contextmanager
    def parallel(self) -> Iterator[None]:
        """Within it, calls that scikit-learn makes in parallel are made by the workers.

        TaskError where they are lost.
        """
        self._gather()
        backend = _Backend(self._client, self._count)
        try:
            with joblib.parallel_config(backend=backend, n_jobs=-1):
                yield
        except (KilledWorker, CommClosedError) as error:
            message = "workers were lost again and again; see whether their pods are evicted or lack memory"
            raise TaskError("WorkersLost", message, retryable=True) from error
        if backend.warned:
            warnings.warn("a worker's solver stopped before it converged", ConvergenceWarning, stacklevel=2)

    def _gather(self) -> None:
        """Wait for the workers, once."""
        if self._gathered:
            return
        self._gathered = True
        with phase("gather", workers=self._count):
            try:
                self._client.wait_for_workers(self._count, timeout=PATIENCE)
            except TimeoutError:
                there = len(self._client.scheduler_info(n_workers=-1)["workers"])
                if not there:
                    raise TaskError("WorkersLost", "no worker has come", retryable=True) from None
                say("some workers have not come: it begins without them", workers=there, asked=self._count)

    def cpu_seconds(self) -> float:
        """CPU time of the workers that are there now."""
        return float(sum(self._client.run(_cpu_seconds, on_error="ignore").values()))

    def dismiss(self) -> None:
        """Tell the workers that nothing more will come."""
        self._client.run(_dismiss, on_error="ignore")


@contextmanager
def led(place: Place) -> Iterator[Cluster]:
    """A scheduler in this process, a worker beside it, and those that come; dismissed if nothing is raised."""
    port = int(place.scheduler.rpartition(":")[2])
    security = _security(place)
    options = {"port": port, "protocol": "tls://", "security": security, "dashboard": False}
    scheduler = {"cls": Scheduler, "options": {**options, "dashboard_address": _LOOPBACK}}
    with SpecCluster(workers={}, scheduler=scheduler, security=security, silence_logs=False) as started:
        beside = subprocess.Popen([sys.executable, "-m", "modelmill_trainer.beside"], stdin=subprocess.PIPE)
        try:
            with Client(started, set_as_default=False) as client:
                cluster = Cluster(client, place.count)
                yield cluster
                cluster.dismiss()
        finally:
            beside.terminate()
            beside.wait()


def work(place: Place) -> Report:
    """Do what schedulers give this worker to do, until it is dismissed."""
    while not _dismissed.is_set():
        work_once(place)
    return Report(True, "WorkDone", f"worker {place.index} did its share; worker 0 publishes the model")


def work_once(place: Place) -> None:
    """Do what one scheduler gives this worker to do, until that one is gone."""
    own = _reached(place.scheduler)
    say("working", worker=place.index, scheduler=place.scheduler)
    try:
        asyncio.run(_work(place, own))
    except (OSError, TimeoutError, RuntimeError, CommClosedError) as error:
        say("the scheduler did not take this worker, or is gone", error=type(error).__name__)
        time.sleep(_PAUSE)


async def _work(place: Place, own: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Worker(
            f"tls://{place.scheduler}",
            nthreads=1,
            memory_limit=0,
            local_directory=folder,
            security=_security(place),
            port=place.port,
            protocol="tls://",
            contact_address=f"tls://{own}:{place.port}",
            dashboard=False,
            dashboard_address=_LOOPBACK,
            death_timeout=30,
        ) as worker:
            await worker.finished()


def _reached(scheduler: str) -> str:
    """Wait until the scheduler can be reached; the address by which this pod reaches it, and is reached."""
    host, _, port = scheduler.rpartition(":")
    while True:
        # Its name is there some time after its pod, and its pod some time after this one.
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
            own = str(connection.getsockname()[0])
            return f"[{own}]" if ":" in own else own
        time.sleep(_PAUSE)


def _security(place: Place) -> Security:
    known = credentials(place.secret)
    roles = ("client", "scheduler", "worker")
    return Security(
        require_encryption=True,
        tls_ca_file=known.certificate,
        **{f"tls_{role}_key": known.key for role in roles},
        **{f"tls_{role}_cert": known.certificate for role in roles},
    )


def _dismiss() -> None:
    _dismissed.set()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


class _Watched:
    """Calls as a worker makes them, one after the other; with whether one of them did not converge."""

    def __init__(self, told: str) -> None:
        self._told = told

    def __repr__(self) -> str:
        return self._told

    def __call__(self, tasks: Sequence[Call]) -> tuple[list[Any], bool]:
        with warnings.catch_warnings(record=True) as caught, joblib.parallel_config(backend="sequential"):
            warnings.simplefilter("always")
            results = [function(*args, **named) for function, args, named in tasks]
        return results, any(issubclass(entry.category, ConvergenceWarning) for entry in caught)


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's own backend, but for what a result must not depend on: how many workers are there, and where they warn.

    What a call does in parallel within itself is done in sequence: a worker has one thread.
    """

    def __init__(self, client: Client, count: int) -> None:
        super().__init__(client=client)
        self._count = count
        self.warned = False

    def effective_n_jobs(self, n_jobs: int) -> int:
        """As many as are asked for, though some may come later."""
        del n_jobs
        return self._count

    def get_nested_backend(self) -> tuple[SequentialBackend, int]:
        """For what a call does in parallel within itself."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), 1

    async def _to_func_args(self, func: Any) -> tuple[_Watched, list[Call]]:
        batch, tasks = await super()._to_func_args(func)
        return _Watched(repr(batch)), tasks

    def retrieve_result_callback(self, out: Any) -> list[Any]:
        """The calls' results; that one of them did not converge is kept."""
        results, warned = super().retrieve_result_callback(out)
        self.warned = self.warned or warned
        return list(results)
