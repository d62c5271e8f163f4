"""Who answers a request while a candidate is rolled out: the own model, or the candidate with the own model behind it.

                                             +-- the stable's share --> own model (--> a copy to the candidate: shadow)
    request --> by chance, or by its key ----+
                                             +-- the candidate's -----> candidate -- fails, late, gone --> own model

A caller never sees the candidate fail.  What was assigned to the candidate is counted as its own, whoever answers in
the end.  Requests that name their arm, or a version, or that have too little time for both, are in neither arm.
"""

import asyncio
import functools
import hashlib
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping
from random import random
from typing import TYPE_CHECKING, Any

import msgspec

from modelmill_contracts.counters import ID_HEADER
from modelmill_contracts.routes import ARM_HEADER, CANDIDATE, COPY_HEADER, GRPC_PATH, STABLE, Routes
from modelmill_server import answers, comparing, framing, log
from modelmill_server.arms import is_failure
from modelmill_server.candidate import MOST, Candidate, Patience
from modelmill_server.errors import RefusedError
from modelmill_server.http1 import Header, value_of
from modelmill_server.inference import Outcome
from modelmill_server.judging import Form, Reply, count, judge
from modelmill_server.shadow import Shadow

if TYPE_CHECKING:
    from modelmill_server.app import App

Later = Outcome | Coroutine[Any, Any, Outcome]
Here = Callable[[], Later]  # answers with the own model

_ARM = ARM_HEADER.encode()
_ARMS = (STABLE.encode(), CANDIDATE.encode())
# The candidate's pods see the same routes; to a request that names its arm, they answer themselves.
_HEAD = b"POST %b HTTP/1.1\r\nhost: %b\r\n" + _ARM + b": " + STABLE.encode() + b"\r\n%bcontent-length: "
_OWN_HEADERS = (b"host", b"content-length", _ARM)
_COPY_LINE = COPY_HEADER.encode() + b": true\r\n"
_ID = ID_HEADER.encode()
_KEY_BYTES = 8
_SHARE_OF_A_KEY = 1 / (1 << 8 * _KEY_BYTES)
_LOOK_SECONDS = 5.0  # between two looks at how long the own model takes
_MOST_KEYS = 1 << 16  # of one window; what is beyond is not counted


class Asked(msgspec.Struct, gc=False):
    """A request as it came; `headers` are what it is assigned by, and go to the candidate where `hands_on` says so."""

    form: Form
    body: bytes
    json_size: int | None
    headers: Iterable[Header]
    deadline: float | None
    hands_on: bool = False


class Split:
    """One epoch of a rollout, in one worker."""

    def __init__(self, app: "App", routes: Routes) -> None:
        self._app = app
        self._arms = app.counters.arms
        self._arms.begin(routes.epoch)
        self._candidate = candidate = Candidate(routes.host, routes.port)
        self.patience = Patience()
        self.v2 = Form(f"/v2/models/{app.name}/infer", answers.rows_of_v2, comparing.read_v2)
        self._v1 = v1 = Form(f"/v1/models/{app.name}:predict", answers.rows_of_v1, comparing.read_v1)
        self.forms = {form.target: form for form in (self.v2, v1)}
        self.grpc = Form(GRPC_PATH, answers.outputs_of_grpc, comparing.read_grpc)
        self._plain = _head(self.v2, candidate.host, b"content-type: application/json\r\n")
        self._shadow = Shadow(candidate, self._arms, self._see_breaker)
        self._answered = self._arms.stable.answered
        self._in_order = True  # the breaker was closed when it was last looked at
        self._ended = False
        self._next_look = 0.0
        self.set(routes)
        self.look()

    def is_of(self, routes: Routes) -> bool:
        """Whether `routes` are of this epoch and candidate, with other shares at most."""
        known = self._routes
        return (known.epoch, known.host, known.port) == (routes.epoch, routes.host, routes.port)

    def set(self, routes: Routes) -> None:
        """Other shares in the same epoch."""
        self._routes = routes
        self._share = routes.weight / 100
        self._copied = routes.shadow / 100
        self._see_copies()
        if routes.shadow:
            self._arms.shadows()
        self._sticky = None if routes.sticky_header is None else routes.sticky_header.encode()
        self._keys = Keys(routes.window)

    def end(self) -> None:
        """Count nothing any more; what is on its way is answered."""
        self._ended = self._shadow.ended = True
        self._candidate.close()

    # Requests on the short cut: V2, whole, by no means special.

    def answer(self, body: bytes, json_size: int | None, headers: list[Header]) -> "bytes | Handover":
        """The whole response, or what gets one of the candidate."""
        app = self._app
        if self._sticky is None:
            chosen, counted = random() < self._share, True  # noqa: S311 - chance, no secret
        else:
            chosen, counted = self._assign(headers)
        if chosen:
            obstacle = self._obstacle()
            if obstacle is None:
                return Handover(self, body, json_size, counted=counted)
            outcome = app.predict_now(body, json_size)
            self._fell_back(obstacle, outcome, counted=counted)
            counted = False
        else:
            outcome = app.predict_now(body, json_size)
            if counted and outcome.status == 200:
                self._answered(outcome.seconds)
            elif counted:
                count(self._arms.stable, outcome)
        if self._copies:
            counted = counted and random() < self._copied  # noqa: S311
            if counted or self._candidate.breaker.is_open:
                self._copy(Asked(self.v2, body, json_size, (), None), outcome, counted=counted)
        return app.encoded(outcome)

    def hand_over(self, body: bytes, json_size: int | None, done: Callable[[Reply], None]) -> None:
        if json_size is None:
            request = b"%b%d\r\n\r\n%b" % (self._plain, len(body), body)
        else:
            request = self._request(Asked(self.v2, body, json_size, (), None))
        self._app.counters.in_flight += 1  # whoever gets the response counts it out
        self._candidate.in_flight += 1
        self._candidate.ask(request, self._candidate.now() + self.patience.seconds, done)

    def take(self, reply: Reply, *, counted: bool) -> Outcome | str:
        """The reply to what was handed over."""
        self._candidate.in_flight -= 1
        verdict = judge(self.v2, reply)
        self._count_candidate(verdict, counted=counted)
        return verdict

    def answer_here(self, body: bytes, json_size: int | None, reason: str, *, counted: bool) -> bytes:
        """The response to a request that was handed over in vain."""
        outcome = self._app.predict_now(body, json_size)
        self._fell_back(reason, outcome, counted=counted)
        return self._app.encoded(outcome)

    def encoded(self, outcome: Outcome) -> bytes:
        return self._app.encoded(outcome)

    def given_up(self, reason: str, *, counted: bool) -> None:
        """The caller of what was handed over in vain is gone."""
        self._fell_back(reason, None, counted=counted)

    # All other requests.

    def predict(self, asked: Asked, here: Here) -> Later:
        """Answer a request, with `here` where the own model answers."""
        until = self._until(asked)
        arm = value_of(asked.headers, _ARM)
        if arm in _ARMS:
            chosen, counted = arm == _ARMS[1], False
            self._arms.steered()
        elif until is None:
            chosen = counted = False
        else:
            chosen, counted = self._assign(asked.headers)
        if chosen and until is not None:
            return self._predict_there(asked, here, until, counted=counted)
        outcome = here()
        if not isinstance(outcome, Outcome):
            return self._predict_here(asked, outcome, counted=counted)
        self._answered_here(asked, outcome, counted=counted)
        return outcome

    def predict_message(
        self, message: bytes, headers: Mapping[bytes, bytes], deadline: float | None, here: Here
    ) -> Later:
        """Answer a gRPC call: its message goes to the candidate over HTTP."""
        return self.predict(Asked(self.grpc, message, None, headers.items(), deadline), here)

    async def _predict_here(self, asked: Asked, later: Coroutine[Any, Any, Outcome], *, counted: bool) -> Outcome:
        try:
            outcome = await later
        except RefusedError as refusal:
            if counted and not self._ended:
                count(self._arms.stable, Outcome(refusal.status, b""))
            raise
        self._answered_here(asked, outcome, counted=counted)
        return outcome

    def _answered_here(self, asked: Asked, outcome: Outcome, *, counted: bool) -> None:
        if counted and not self._ended:
            count(self._arms.stable, outcome)
        if self._copies:
            self._copy(asked, outcome, counted=counted and random() < self._copied)  # noqa: S311

    async def _predict_there(self, asked: Asked, here: Here, until: float, *, counted: bool) -> Outcome:
        reason = self._obstacle()
        if reason is None:
            verdict = await self._ask(asked, until, counted=counted)
            if isinstance(verdict, Outcome):
                return verdict
            reason = verdict
        outcome: Outcome | None = None
        try:
            found = here()
            outcome = found if isinstance(found, Outcome) else await found
        finally:
            self._fell_back(reason, outcome, counted=counted)
        if self._copies:
            self._copy(asked, outcome, counted=False)
        return outcome

    async def _ask(self, asked: Asked, until: float, *, counted: bool) -> Outcome | str:
        """What the candidate answers, or why it does not."""
        candidate = self._candidate
        future: asyncio.Future[Outcome | str] = asyncio.get_running_loop().create_future()

        def done(reply: Reply) -> None:
            candidate.in_flight -= 1
            verdict = judge(asked.form, reply)
            self._count_candidate(verdict, counted=counted)
            if not future.done():
                future.set_result(verdict)
            elif isinstance(verdict, str):
                self._fell_back(verdict, None, counted=counted)

        candidate.in_flight += 1
        candidate.ask(self._request(asked), until, done)
        return await future

    def _until(self, asked: Asked) -> float | None:
        """When the candidate must have answered, so that there is time left; None where there is too little."""
        now, seconds = self._candidate.now(), self._patience_for(asked)
        if asked.deadline is None:
            return now + seconds
        left = min(seconds, (asked.deadline - now) / 2)
        return now + left if left >= max(Patience.LEAST, seconds / 5) else None

    def _patience_for(self, asked: Asked) -> float:
        """Many rows take longer than most requests do, and of a few such ones no percentile knows."""
        patience = self.patience
        return patience.seconds if len(asked.body) <= self._app.short_cut.limit else patience.of_many_rows

    # What both have in common.

    def _assign(self, headers: Iterable[Header]) -> tuple[bool, bool]:
        """Whether a request is the candidate's, and whether it is counted."""
        if self._sticky is not None:
            value = value_of(headers, self._sticky)
            if value is not None:
                key = int.from_bytes(hashlib.blake2b(value, digest_size=_KEY_BYTES).digest())
                return key * _SHARE_OF_A_KEY < self._share, self._keys.is_first(key, self._candidate.now())
        return random() < self._share, True  # noqa: S311 - chance, no secret

    def look(self) -> None:
        """Twice a second: how long is the candidate waited for?"""
        now = self._candidate.now()
        if not self.patience.is_known or now > self._next_look:  # it takes milliseconds
            self._next_look = now + _LOOK_SECONDS
            servable = self._app.servable
            self.patience.look(self._app.counters.read().request, fast=servable is not None and servable.inline)

    def _obstacle(self) -> str | None:
        """Why the candidate is not asked now."""
        candidate = self._candidate
        if candidate.breaker.is_open:
            return "BreakerOpen"
        return "Overflow" if candidate.in_flight >= MOST else None

    def _request(self, asked: Asked, more: bytes = b"") -> bytes:
        size = asked.json_size
        if asked.hands_on:
            lines = b"".join(b"%b: %b\r\n" % header for header in asked.headers if header[0] not in _OWN_HEADERS)
        elif size is not None:
            lines = b"content-type: %b\r\n%b: %d\r\n" % (framing.BINARY, framing.JSON_SIZE_NAME, size)
        else:
            lines = b"content-type: application/json\r\n"
            if asked.form is self._v1 and (id_ := value_of(asked.headers, _ID)) is not None:
                more += b"%b: %b\r\n" % (_ID, id_)
        head = _head(asked.form, self._candidate.host, lines)
        return b"%b%d\r\n%b\r\n%b" % (head, len(asked.body), more, asked.body)

    def _copy(self, asked: Asked, outcome: Outcome, *, counted: bool) -> None:
        """Send a copy of what was answered here, if it is `counted` or the breaker's trial."""
        candidate, shadow = self._candidate, self._shadow
        if not shadow.has_room():
            if counted:
                self._arms.dropped()
            return
        now = candidate.now()
        trial = candidate.breaker.trial(now)
        if counted or trial:
            until = now + self._patience_for(asked)
            shadow.copy(asked.form, self._request(asked, _COPY_LINE), outcome, until, trial, counted=counted)

    def _count_candidate(self, verdict: Outcome | str, *, counted: bool) -> None:
        """Count an answer, and in any case what it says of the candidate."""
        if isinstance(verdict, Outcome):
            self._candidate.breaker.count(self._candidate.now(), failed=False)
            if counted and not self._ended:
                self._arms.candidate.answered(verdict.seconds)
        elif is_failure(verdict):
            self._candidate.breaker.count(self._candidate.now(), failed=True)
            self._see_breaker()

    def _fell_back(self, reason: str, outcome: Outcome | None, *, counted: bool) -> None:
        """Count a request of the candidate's that was answered here; `outcome` is None where it was not, either."""
        if reason == "Refused" and outcome is not None and outcome.status == 200:
            reason = "Rejected"
            self._candidate.breaker.count(self._candidate.now(), failed=True)
            self._see_breaker()
        if not counted or self._ended:
            return
        arms = self._arms
        if is_failure(reason):
            arms.candidate.failed()
        else:
            arms.candidate.refused()
        arms.fell_back(reason)

    def _see_copies(self) -> None:
        """Whether some request may have to be copied: a candidate that gets none at all is not tried, either."""
        self._copies = bool(self._copied) or (self._candidate.breaker.is_open and self._share > 0)

    def _see_breaker(self) -> None:
        breaker = self._candidate.breaker
        if breaker.is_open is not self._in_order:
            return
        self._in_order = not breaker.is_open
        self._see_copies()
        if not self._ended:
            self._arms.breaker(is_open=breaker.is_open)
        if breaker.is_open:
            log.warning("the candidate fails and is not asked for now", candidate=self._candidate.host)
        else:
            log.info("the candidate answers again", candidate=self._candidate.host)


class Handover:
    """A request of the short cut that the candidate has; `start` says who gets the response."""

    __slots__ = ("_body", "_counted", "_json_size", "_reply", "_split")

    def __init__(self, split: Split, body: bytes, json_size: int | None, *, counted: bool) -> None:
        self._split = split
        self._body = body
        self._json_size = json_size
        self._counted = counted
        self._reply: Callable[[bytes], None] | None = None

    def start(self, reply: Callable[[bytes], None]) -> None:
        self._reply = reply
        self._split.hand_over(self._body, self._json_size, self._done)

    def cancel(self) -> None:
        """Nobody waits for the response any more; what the candidate does is counted all the same."""
        self._reply = None

    def _done(self, found: Reply) -> None:
        split, reply = self._split, self._reply
        verdict = split.take(found, counted=self._counted)
        if isinstance(verdict, Outcome):
            if reply is not None:
                reply(split.encoded(verdict))
        elif reply is None:
            split.given_up(verdict, counted=self._counted)
        else:
            reply(split.answer_here(self._body, self._json_size, verdict, counted=self._counted))


class Keys:
    """The values of a sticky header that were seen in a window of so many seconds.

    The unit of the statistics is then the key, with its first outcome per window.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._seen: set[int] = set()
        self._ends = 0.0

    def is_first(self, key: int, now: float) -> bool:
        if now >= self._ends:
            self._seen.clear()
            self._ends = now + self._window
        if key in self._seen or len(self._seen) >= _MOST_KEYS:
            return False
        self._seen.add(key)
        return True


def is_of_candidate(routes: Routes, name: str) -> bool:
    """Whether this is one of the candidate's own pods; its name then begins with that of its Deployment."""
    return bool(routes.revision) and socket.gethostname().startswith(f"{name}-{routes.revision}-")


@functools.lru_cache(maxsize=64)
def _head(form: Form, host: str, lines: bytes) -> bytes:
    return _HEAD % (form.target.encode(), host.encode(), lines)
