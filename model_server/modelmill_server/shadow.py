"""Shadow: the candidate gets copies of requests that the stable has answered.  Nobody waits for what it says.

Copies are few at once; where that is too few, some are dropped, as they are when the candidate has enough to do with
requests that callers wait for.  A trial of the breaker's is such a copy, too.
"""

import struct
from collections.abc import Callable

from modelmill_server import answers, comparing
from modelmill_server.arms import Arms, is_failure
from modelmill_server.candidate import MOST, MOST_COPIES, Candidate
from modelmill_server.inference import Outcome
from modelmill_server.judging import Form, Reply, count, judge

_UNREADABLE = (*answers.UNREADABLE, struct.error)


class Shadow:
    """Sends copies to `candidate`, and counts in `arms` as long as their epoch lasts."""

    def __init__(self, candidate: Candidate, arms: Arms, see_breaker: Callable[[], None]) -> None:
        self._candidate = candidate
        self._arms = arms
        self._see_breaker = see_breaker
        self.ended = False

    def has_room(self) -> bool:
        candidate = self._candidate
        return candidate.copies < MOST_COPIES and candidate.in_flight <= MOST // 2

    def copy(self, form: Form, request: bytes, outcome: Outcome, until: float, trial: int, *, counted: bool) -> None:
        """Send a copy of a request that was answered with `outcome`.

        `trial` is the number of the breaker's, 0 where the copy is none; what is `counted` is compared, too.
        """
        candidate = self._candidate
        candidate.copies += 1

        def done(reply: Reply) -> None:
            candidate.copies -= 1
            verdict = judge(form, reply)
            if verdict == "Refused" and outcome.status == 200:
                verdict = "Rejected"
            if trial:
                failed = isinstance(verdict, str) and is_failure(verdict)
                candidate.breaker.tried(trial, candidate.now(), failed=failed)
                self._see_breaker()
            if counted and not self.ended:
                self._count(form, outcome, verdict)

        candidate.ask(request, until, done)

    def _count(self, form: Form, stable: Outcome, candidate: Outcome | str) -> None:
        arms = self._arms
        count(arms.shadow_stable, stable)
        if isinstance(candidate, str):
            if is_failure(candidate):
                arms.shadow_candidate.failed()
            else:
                arms.shadow_candidate.refused()
            return
        arms.shadow_candidate.answered(candidate.seconds)
        if stable.status != 200:
            return
        try:
            ours = form.read(stable.answer, stable.json_size)
            theirs = form.read(candidate.answer, candidate.json_size)
        except _UNREADABLE:
            arms.compared(agree=False, difference=None)
        else:
            agree, difference = comparing.compare(ours, theirs)
            arms.compared(agree=agree, difference=difference)
