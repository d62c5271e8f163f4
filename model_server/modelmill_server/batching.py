"""Requests that wait for a slow model go through it together.

A request that finds the model free goes at once, alone: nothing waits for company.  What came while the model was
busy goes together when it becomes free, up to as many rows as the model was found to answer with the same bits
together as alone (see `rows_together`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from modelmill_server.errors import RefusedError
from modelmill_server.runtime import Runtime
from modelmill_server.tensors import Array

Feeds = dict[str, Array]

MOST_ROWS = 64
_SIZES = (2, 3, 5, 8, 16, 32, MOST_ROWS)
_CHECK_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Waiting:
    feeds: Feeds
    rows: int
    future: asyncio.Future[tuple[list[Array], float]]
    timer: asyncio.TimerHandle | None = field(default=None)


class Batches:
    """What waits for one model, and the threads that run it."""

    def __init__(self, runtime: Runtime, together: int, threads: int) -> None:
        self._runtime = runtime
        self._together = together
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._free = threads
        self._waiting: deque[_Waiting] = deque()

    async def predict(self, feeds: Feeds, rows: int, deadline: float | None = None) -> tuple[list[Array], float]:
        """The outputs for `feeds`, and the model's seconds.

        Raises what the runtime raises, and RefusedError (504) where the model was not free before `deadline`, a time
        of the event loop's clock.
        """
        loop = asyncio.get_running_loop()
        if deadline is not None and deadline <= loop.time():
            raise _late()
        item = _Waiting(feeds, rows, loop.create_future())
        self._waiting.append(item)
        if self._free:
            self._go(loop)
        elif deadline is not None:
            item.timer = loop.call_at(deadline, self._give_up, item)
        try:
            return await item.future
        except asyncio.CancelledError:
            # Its caller has gone: what it sent must not stay here until the model is free.
            with suppress(ValueError):  # it is with the model
                self._waiting.remove(item)
            raise
        finally:
            if item.timer is not None:
                item.timer.cancel()

    def _go(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run what waits, as long as there is a free thread."""
        while self._free and (batch := self._take()):
            self._free -= 1
            try:
                work = loop.run_in_executor(self._pool, _run, self._runtime, batch)
            except RuntimeError as error:  # the machine has no thread left
                self._free += 1
                _settle(batch, [error] * len(batch))
                continue
            work.add_done_callback(lambda done, batch=batch: self._done(loop, batch, done))  # type: ignore[misc]

    def _take(self) -> list[_Waiting]:
        """The next request, with those after it that fit: in rows, and in all other sizes of their arrays."""
        batch: list[_Waiting] = []
        rows = 0
        while self._waiting:
            item = self._waiting[0]
            if not item.future.done():  # its caller may have gone
                rows += item.rows
                if batch and (rows > self._together or not _fit(batch[0], item)):
                    break
                batch.append(item)
                if item.timer is not None:
                    item.timer.cancel()
            self._waiting.popleft()
        return batch

    def _done(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], work: "asyncio.Future[_Results]") -> None:
        self._free += 1
        self._go(loop)
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        _settle(batch, work.result() if error is None else [error] * len(batch))

    def _give_up(self, item: _Waiting) -> None:
        if not item.future.done():
            self._waiting.remove(item)
            item.future.set_exception(_late())


_Results = Sequence["tuple[list[Array], float] | BaseException"]


def _settle(batch: list[_Waiting], results: _Results) -> None:
    """Tell each request what became of it; whatever the model did, none may wait for ever."""
    for item, result in zip(batch, results, strict=True):
        if item.future.done():  # its caller has gone
            continue
        if isinstance(result, Exception):
            item.future.set_exception(result)
        elif isinstance(result, BaseException):
            item.future.set_exception(RuntimeError(f"the model's thread ended: {type(result).__name__}"))
        else:
            item.future.set_result(result)


def _fit(one: _Waiting, other: _Waiting) -> bool:
    """Whether arrays can be joined along their rows, and what the model makes of them be told apart again.

    Inputs of one request may have different numbers of rows, where the model says nothing else.  Joined, those of one
    caller would stand beside another one's.
    """
    return all(
        len(array) == one.rows
        and len(other.feeds[name]) == other.rows
        and array.shape[1:] == other.feeds[name].shape[1:]
        and array.dtype == other.feeds[name].dtype
        for name, array in one.feeds.items()
    )


def _run(runtime: Runtime, batch: list[_Waiting]) -> _Results:
    """The result of each request, in a thread."""
    if len(batch) > 1:
        try:
            feeds = {name: np.concatenate([item.feeds[name] for item in batch]) for name in batch[0].feeds}
            before = time.perf_counter()
            outputs = runtime.predict(feeds)
        except Exception:  # noqa: S110 - one of them is bad: each alone, so that the others do not suffer
            pass
        else:
            seconds = time.perf_counter() - before
            ends = np.cumsum([item.rows for item in batch]).tolist()
            return [
                ([output[end - item.rows : end] for output in outputs], seconds)
                for item, end in zip(batch, ends, strict=True)
            ]
    return [_alone(runtime, item) for item in batch]


def _alone(runtime: Runtime, item: _Waiting) -> "tuple[list[Array], float] | Exception":
    before = time.perf_counter()
    try:
        return runtime.predict(item.feeds), time.perf_counter() - before
    except Exception as error:
        return error


def rows_together(runtime: Runtime, rows: list[Feeds]) -> int:
    """Up to how many rows the model answers with the same bits together as alone: 1 where it never does.

    Libraries choose another order of summation for more rows, and a caller's answer must not depend on who else asks.
    `rows` are feeds of one row each, as different as possible.  A slow model is asked for about a second.
    """
    deadline = time.perf_counter() + _CHECK_SECONDS
    alone: list[list[Array]] = []
    found = 1
    for size in _SIZES:
        while len(alone) < size:
            if size > len(rows) or time.perf_counter() > deadline:
                return found
            alone.append(runtime.predict(rows[len(alone)]))
        together = runtime.predict({name: np.concatenate([feeds[name] for feeds in rows[:size]]) for name in rows[0]})
        for position, output in enumerate(together):
            parts = [outputs[position] for outputs in alone[:size]]
            if any(len(part) != 1 for part in parts) or not _same(np.concatenate(parts), output):
                return found
        found = size
    return found


def _same(one: Array, other: Array) -> bool:
    if one.dtype == np.object_:
        return bool(one.tolist() == other.tolist())
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def _late() -> RefusedError:
    return RefusedError(504, "DeadlinePassed", "the model was busy until the request's deadline; try again later")
