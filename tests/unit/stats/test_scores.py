"""The gate scores: a shift either way in any bin is found, and what is within the margin is not."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.stats.e_values import log_mean_exp, threshold
from modelmill.stats.record import RecordError
from modelmill.stats.scores import Scores
from modelmill.stats.window import ArmWindow, Window

START = Scores(bins=4, max_shift=0.05)


def window(control: tuple[int, ...], candidate: tuple[int, ...]) -> Window:
    return Window(ArmWindow(scores=control), ArmWindow(scores=candidate))


def after(windows: int, seen: Window) -> Scores:
    gate = START
    for _ in range(windows):
        gate = gate.update(seen)
    return gate


CONTROL = (100, 200, 300, 400)


@pytest.mark.parametrize(
    ("candidate", "rejected"),
    [
        ((10, 20, 30, 40), False),
        ((14, 20, 30, 36), False),  # 4 points are within the margin
        ((30, 20, 30, 20), True),
        ((0, 10, 70, 20), True),
        ((100, 0, 0, 0), True),
    ],
)
def test_what_moves_by_more_than_the_margin_is_found(candidate: tuple[int, ...], rejected: bool) -> None:
    gate = after(30, window(CONTROL, candidate))
    assert (gate.against >= threshold(0.05, 4)) == rejected
    assert gate.against == pytest.approx(log_mean_exp(process.log_e for process in (*gate.more, *gate.fewer)))


def test_the_bin_and_the_direction_are_known() -> None:
    gate = after(30, window(CONTROL, (30, 20, 30, 20)))
    assert [process.log_e > 3 for process in gate.more] == [True, False, False, False]
    assert [process.log_e > 3 for process in gate.fewer] == [False, False, False, True]


@pytest.mark.parametrize("empty", [window((), (1, 2, 3, 4)), window(CONTROL, ()), window((0,) * 4, (1, 2, 3, 4))])
def test_a_window_without_one_of_the_arms_is_no_evidence(empty: Window) -> None:
    before = after(3, window(CONTROL, (30, 20, 30, 20)))
    assert before.update(empty).against == before.against


def test_it_gives_no_evidence_for_a_promotion() -> None:
    assert START.in_favour is None


rows = st.tuples(*[st.integers(0, 10**6)] * 4)


@given(st.lists(st.builds(window, rows, rows), max_size=5))
def test_a_restart_between_two_windows_is_no_restart(seen: list[Window]) -> None:
    gate = read = START
    for each in seen:
        gate, read = gate.update(each), START.restored(json.loads(json.dumps(read.record()))).update(each)
        assert math.isfinite(gate.against)
    assert read == gate


def test_a_record_of_other_bins_is_refused() -> None:
    with pytest.raises(RecordError, match="the evidence of scores"):
        START.restored(Scores(5, 0.05).record())
    with pytest.raises(RecordError, match="the evidence of scores"):
        START.restored(Scores(3, 0.05).record())


def test_scores_in_other_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bins, not the 4"):
        START.update(window(CONTROL, (1, 2, 3)))


@pytest.mark.parametrize(("bins", "shift"), [(1, 0.05), (4, -0.1), (4, 1.0), (4, math.nan)])
def test_bounds_that_are_none_are_refused(bins: int, shift: float) -> None:
    with pytest.raises(ValueError, match="scores"):
        Scores(bins, shift)
