"""Events: written when nothing else waits or is under way, as they are for people; the objects' states are what counts.

How many an object may have is bounded, too: one that flaps must not fill etcd with its story.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp

from modelmill.api.schema import API_VERSION
from modelmill.core.plan import Record
from modelmill.core.resources import Manifest
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import ObjectKey
from modelmill.shell.lease import Fence
from modelmill.shell.logs import about

logger = logging.getLogger(__name__)

# client-go's numbers: so many at once, and then one in five minutes.
BURST = 25
REFILL_SECONDS = 300.0
_MANY = 4096  # objects that are remembered, before those that have their full number again are forgotten
_NOTE = 1024  # bytes
_PATIENCE = 30.0  # seconds after which it is written whatever else there is to do
_GIVEN_UP = 120.0  # seconds after which it is not, where the API server does not answer
_MOST = 5000  # that wait
_LOOK, _PAUSE = 0.1, 1.0  # seconds


class _Waiting(NamedTuple):
    since: float
    key: ObjectKey
    event: dict[str, Any]


class Recorder:
    """Takes Events at once, and writes them one by one."""

    def __init__(self, api: Api, fence: Fence, identity: str, busy: Callable[[], bool] = lambda: False) -> None:
        """`busy` tells whether objects are reconciled, or wait to be."""
        self._api = api
        self._fence = fence
        self._identity = identity
        self._busy = busy
        self._budget = Budget()
        self._waiting: deque[_Waiting] = deque()
        self._some = asyncio.Event()

    def record(self, key: ObjectKey, owner: Manifest, record: Record) -> None:
        """An Event of an object: to be written soon, if it may have another one."""
        if len(self._waiting) >= _MOST or not self._budget.take(owner["metadata"]["uid"]):
            told = f"{record.reason}: {record.message}"
            logger.info("no Event was recorded, there were many: %s", told, extra=about(key))
            return
        self._waiting.append(_Waiting(monotonic(), key, _event(key, owner, record, self._identity)))
        self._some.set()

    async def run(self) -> None:
        """Write what is recorded; raises NotLeader when the lease is lost."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                if self._busy() and monotonic() - self._waiting[0].since < _PATIENCE:
                    await asyncio.sleep(_LOOK)
                elif not await self._write():
                    await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Write what waits, as far as it can be written."""
        while self._waiting and await self._write():
            pass

    async def _write(self) -> bool:
        """Write the oldest; False where it still waits, as nobody answers."""
        writing = self._fence.writing()
        waiting = self._waiting.popleft()
        try:
            async with writing:
                await self._post(waiting.event)
        except ApiError as error:
            # A namespace that goes away takes none.
            logger.info("no Event was recorded: %s", error, extra=about(waiting.key))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if monotonic() - waiting.since < _GIVEN_UP:
                self._waiting.appendleft(waiting)
                return False
            logger.info("no Event was recorded: %s: %s", type(error).__name__, error, extra=about(waiting.key))
        return True

    async def _post(self, event: dict[str, Any]) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{event['metadata']['namespace']}/events"
        answer = await self._api.request("POST", path, verb="create", kind="Event", body=event)
        answer.release()


def _event(key: ObjectKey, owner: Manifest, record: Record, identity: str) -> dict[str, Any]:
    kind, namespace, name = key
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{uuid4().hex[:16]}", "namespace": namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "modelmill.dev/operator",
        "reportingInstance": identity[:128],
        "action": "Reconcile",
        "type": record.type,
        "reason": record.reason,
        "note": record.message.encode()[:_NOTE].decode(errors="ignore"),
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "uid": owner["metadata"]["uid"],
            "resourceVersion": owner["metadata"]["resourceVersion"],
        },
    }


class Budget:
    """What is left for each object, by its UID."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}  # Events that were left, and when

    def take(self, uid: str) -> bool:
        """Whether the object may have one more now."""
        now = self._now()
        left = self._refilled(uid, now)
        if len(self._left) >= _MANY:
            self._left = {known: (self._refilled(known, now), now) for known in self._left}
            self._left = {known: entry for known, entry in self._left.items() if entry[0] < BURST}
        if left < 1:
            return False
        self._left[uid] = (left - 1, now)
        return True

    def _refilled(self, uid: str, now: float) -> float:
        left, at = self._left.get(uid, (BURST, now))
        return min(BURST, left + (now - at) / REFILL_SECONDS)
