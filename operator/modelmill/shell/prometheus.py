"""Questions to Prometheus: what a rollout's analysis names, bound to its namespace by the core.

As with pods, no reconcile waits for it, and nothing that it does can hold anything up: an answer comes soon and is
small, or what is remembered is why there is none.  What it says in an error may be of other people's series, and goes
nowhere.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from time import monotonic

import aiohttp

from modelmill.core import queries
from modelmill.core.plan import Measurement
from modelmill.core.queries import Answer, Asked
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.logs import about
from modelmill.shell.metrics import Metrics
from modelmill.shell.watch import Wake

logger = logging.getLogger(__name__)

AT_ONCE = 8  # questions
ANSWER_SECONDS = 5.0  # from the connection to the last byte
_LOOK = 1.0  # seconds between looks at which rollouts there are
_PATH = "/api/v1/query"


class Inquirer:
    """Asks what `Cache.inquiries` names, and gives the cache what is answered."""

    def __init__(
        self,
        cache: Cache,
        wake: Wake,
        metrics: Metrics,
        now: Callable[[], datetime],
        url: str,
        patience: float = ANSWER_SECONDS,
    ) -> None:
        """`url` is Prometheus', without a path of the API; `patience` is for an answer, in seconds."""
        self._cache = cache
        self._wake = wake
        self._metrics = metrics
        self._now = now
        self._url = url.rstrip("/") + _PATH
        self._patience = patience
        self._due: dict[ObjectKey, tuple[Asked, float]] = {}  # when they are asked again, by the monotonic clock
        self._free = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Ask for ever, each rollout's queries when it is their turn."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small body stays small
            headers={"Accept-Encoding": "identity"},
            trust_env=False,
        )
        async with session, asyncio.TaskGroup() as group:
            while True:
                for key, asked in self._now_due():
                    group.create_task(self._ask_all(session, key, asked))
                await asyncio.sleep(_LOOK)

    def _now_due(self) -> list[tuple[ObjectKey, Asked]]:
        """Whose queries are to be asked now: new ones at once, and the same again an interval after the last time."""
        asked, now = self._cache.inquiries(), monotonic()
        self._due = {key: due for key, due in self._due.items() if key in asked}
        found = []
        for key, wanted in asked.items():
            known = self._due.get(key)
            if known is None or known[0] != wanted or known[1] <= now:
                self._due[key] = (wanted, now + max(wanted.every.total_seconds(), _LOOK))
                found.append((key, wanted))
        return found

    async def _ask_all(self, session: aiohttp.ClientSession, key: ObjectKey, asked: Asked) -> None:
        try:
            answers = await asyncio.gather(*(self._ask(session, query) for query in asked.queries))
            self._wake(self._cache.answered(key, dict(zip(asked.queries, answers, strict=True))))
        except Exception:
            logger.exception("asking Prometheus failed; this is a bug", extra=about(key))

    async def _ask(self, session: aiohttp.ClientSession, query: str) -> Measurement:
        async with self._free:
            begun = monotonic()
            try:
                async with asyncio.timeout(self._patience):
                    answer = await self._answer(session, query)
            except TimeoutError:
                answer = Answer(None, queries.SLOW)
            except (aiohttp.ClientError, OSError):
                answer = Answer(None, queries.UNREACHABLE)
            except ValueError:
                answer = Answer(None, queries.NONSENSE)
            self._metrics.asked("Prometheus", answer.problem or "answered")
            return Measurement(answer, self._now(), begun)

    async def _answer(self, session: aiohttp.ClientSession, query: str) -> Answer:
        """What it answers; ValueError where that is no answer to a query."""
        body, form = bytearray(), {"query": query, "timeout": f"{self._patience:g}"}
        async with session.post(self._url, data=form, allow_redirects=False) as found:
            if found.status in (400, 422):
                return Answer(None, queries.REFUSED)
            if found.status == 503:
                return Answer(None, queries.SLOW)  # it gave up, or starts
            if found.status != 200:
                raise ValueError(f"{found.status} is no answer")
            async for chunk in found.content.iter_any():
                body += chunk
                if len(body) > queries.LIMIT:
                    return Answer(None, queries.SEVERAL)
        return queries.decode(bytes(body))
