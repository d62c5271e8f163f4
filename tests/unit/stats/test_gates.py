"""What the evidence of several gates says of a candidate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from modelmill.stats.gates import Finding, Verdict, findings
from modelmill.stats.record import Record
from modelmill.stats.window import Window


@dataclass(frozen=True)
class Known:
    """A gate whose evidence is given."""

    against: float = -1.0
    in_favour: float | None = None

    def update(self, window: Window) -> Self:  # noqa: ARG002
        return self

    def record(self) -> Record:
        return ()

    def restored(self, record: Sequence[object]) -> Self:  # noqa: ARG002
        return self


def test_each_of_several_gates_rejects_at_its_share_and_promotes_at_all_of_alpha() -> None:
    one, other = findings({"errorRate": Known(3.5, 3.1), "latency": Known(3.7)}, 0.05)
    assert one == Finding("errorRate", Verdict.PROMOTE, 3.5, math.log(40), 3.1, math.log(20))
    assert other == Finding("latency", Verdict.REJECT, 3.7, math.log(40), None, math.log(20))
    assert findings({"errorRate": Known(3.5, 2.9)}, 0.05)[0].verdict is Verdict.REJECT  # the only gate has all of it


def test_evidence_against_counts_more_than_evidence_in_favour() -> None:
    assert findings({"errorRate": Known(9, 9)}, 0.05)[0].verdict is Verdict.REJECT
