"""Two rates compared, window by window, with what the windows before suggest as the alternative.

The alternative of a window may only depend on windows before it, or E[e] <= 1 is lost.
"""

import math
from dataclasses import dataclass

from modelmill.stats.block_gro import Counts, log_e_value
from modelmill.stats.e_values import log_sum_exp

_NOTHING = Counts(0, 0)
_SUDDEN = 1 / 64  # of each window's stake: what it costs while nothing happens is 0.016 of ln E a window


@dataclass(frozen=True)
class Arms:
    """The two arms' counts: of a window, or of all windows before it."""

    control: Counts = _NOTHING
    candidate: Counts = _NOTHING

    def plus(self, other: "Arms") -> "Arms":
        return Arms(self.control.plus(other.control), self.candidate.plus(other.candidate))

    @property
    def both(self) -> bool:
        """Whether both arms had requests: else the window says nothing about a difference."""
        return self.control.requests > 0 and self.candidate.requests > 0


@dataclass(frozen=True)
class Prior:
    """What the past's rate is where there is no past: `weight` requests with `weight * mean` failures."""

    mean: float = 0.01
    weight: float = 18.0

    def rate(self, past: Counts) -> float:
        return (past.failures + self.weight * self.mean) / (past.requests + self.weight)


def log_e_worse(now: Arms, past: Arms, delta: float, prior: Prior) -> float:
    """ln e of a window against "the candidate's rate is at most the control's + delta".

    The alternative is the past's rates, the candidate's at least 1.5 times the control's + delta.  Where that would lie
    above 1, it is half way to 1; where the control's rate + delta itself does, nothing can be worse, and ln e is 0.

    A long past would have to be unlearnt, window by window, where a candidate suddenly fails.  So a small part of the
    stake is on that the candidate's rate is half way to 1, whatever the past was: an average of e-values is one.
    """
    p_a = prior.rate(past.control)
    tolerated = p_a + delta
    if tolerated >= 1:
        return 0.0
    sudden = (1 + tolerated) / 2
    learnt = max(prior.rate(past.candidate), min(tolerated + p_a / 2, sudden))
    return log_sum_exp(
        math.log(stake) + log_e_value(now.control, now.candidate, p_a=p_a, p_b=p_b, delta=delta)
        for stake, p_b in ((1 - _SUDDEN, learnt), (_SUDDEN, sudden))
    )


def log_e_no_worse(now: Arms, past: Arms, delta: float, prior: Prior) -> float:
    """ln e of a window against "the candidate's rate is at least the control's + delta".

    The alternative is that both have the rate of all in the past.  With delta 0 there is no such evidence: ln e is 0.
    """
    p = prior.rate(past.control.plus(past.candidate))
    return log_e_value(now.control, now.candidate, p_a=p, p_b=p, delta=delta)
