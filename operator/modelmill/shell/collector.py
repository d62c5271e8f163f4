"""The collector: asks pods how they are doing, and gives what they answer to the cache.

No reconcile waits for it, and nothing that a pod does can hold it up: an answer is small and comes soon, or it is none.
It asks plain HTTP of pods' own addresses, without credentials, and follows no redirect.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

import aiohttp

from modelmill.core import pods
from modelmill.core.measurement import Source
from modelmill.core.plan import Measurement
from modelmill.core.resources import OWNER_LABEL, Manifest
from modelmill.shell.cache import Cache
from modelmill.shell.metrics import Metrics
from modelmill.shell.watch import Wake
from modelmill_contracts import environment

logger = logging.getLogger(__name__)

AT_ONCE = 32  # pods
ANSWER_SECONDS = 2.0  # from the connection to the last byte
_LOOK = 1.0  # seconds between looks at which pods there are
# Seconds after an object's pods were silent; doubled so many times, but never longer than after an answer.
_RETRY = 2.0
_DOUBLED = 8

Owner = tuple[str, str]  # namespace, UID of our object


@dataclass
class _Turn:
    """When an object's pods are asked again."""

    due: float = 0.0  # by the monotonic clock
    silent: int = 0  # times in a row
    asking: bool = False


class Collector:
    """Asks the pods that `source_of` names, an object's pods together."""

    def __init__(
        self,
        cache: Cache,
        wake: Wake,
        metrics: Metrics,
        now: Callable[[], datetime],
        port: int = environment.METRICS_PORT,
    ) -> None:
        self._cache = cache
        self._wake = wake
        self._metrics = metrics
        self._now = now
        self._port = port
        self._turns: dict[Owner, _Turn] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Ask for ever, each object's pods when it is their turn."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small body stays small
            trust_env=False,
        )
        async with session, asyncio.TaskGroup() as group:
            while True:
                try:
                    due = self._due()
                except Exception:
                    logger.exception("the collector failed; this is a bug")
                    due = []
                for owner, source, asked in due:
                    group.create_task(self._ask_all(session, owner, source, asked))
                await asyncio.sleep(_LOOK)

    def _due(self) -> list[tuple[Owner, Source, list[Manifest]]]:
        """Whose pods are to be asked now; who has none any more is forgotten when it would be its turn."""
        askable: defaultdict[tuple[Owner, Source], list[Manifest]] = defaultdict(list)
        for source, pod in self._cache.askable():
            metadata = pod["metadata"]
            askable[(metadata["namespace"], metadata["labels"].get(OWNER_LABEL, "")), source].append(pod)
        now, known = monotonic(), {owner for owner, _ in askable}
        self._turns = {o: turn for o, turn in self._turns.items() if o in known or turn.asking or turn.due > now}
        due = []
        for (owner, source), asked in askable.items():
            turn = self._turns.setdefault(owner, _Turn())
            if not turn.asking and turn.due <= now:
                turn.asking = True
                due.append((owner, source, asked))
        return due

    async def _ask_all(
        self, session: aiohttp.ClientSession, owner: Owner, source: Source, asked: Sequence[Manifest]
    ) -> None:
        turn, every = self._turns[owner], source.every.total_seconds()
        try:
            answers = await asyncio.gather(*(self._ask(session, source, pod) for pod in asked))
            found = {
                pod["metadata"]["uid"]: answer for pod, answer in zip(asked, answers, strict=True) if answer is not None
            }
            turn.silent = 0 if found else turn.silent + 1
            self._wake(self._cache.measured(*owner, found))
        except Exception:
            logger.exception("the collector failed; this is a bug", extra={"kind": source.kind, "namespace": owner[0]})
        finally:
            pause = min(every, _RETRY * 2 ** min(turn.silent - 1, _DOUBLED)) if turn.silent else every
            turn.due, turn.asking = monotonic() + pause, False

    async def _ask(self, session: aiohttp.ClientSession, source: Source, pod: Manifest) -> Measurement | None:
        """What the pod answers; None where it does not, or not what is asked."""
        found, begun = None, monotonic()
        try:
            async with self._free, asyncio.timeout(ANSWER_SECONDS):
                body = await self._body(session, source, pod)
            found, outcome = Measurement(source.decode(body), self._now(), begun), "answered"
        except (aiohttp.ClientError, TimeoutError, OSError):
            outcome = "silent"
        except ValueError:
            outcome = "nonsense"
        self._metrics.asked(source.kind, outcome)
        return found

    async def _body(self, session: aiohttp.ClientSession, source: Source, pod: Manifest) -> bytes:
        """The body of the pod's answer; ValueError where it is no such answer."""
        address = pods.address(pod) or ""
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{self._port}{source.path}"
        body = bytearray()
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise ValueError(f"{answer.status} is no answer")
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > source.limit:
                    raise ValueError(f"it is longer than {source.limit} bytes")
        return bytes(body)
