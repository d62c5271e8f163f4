"""Windows: what cannot be is refused, and short ones grow instead of being wasted."""

import pytest

from modelmill.stats.window import ArmWindow, Window, added


def test_windows_are_summed() -> None:
    one = Window(ArmWindow(9, 1, (1, 2)), ArmWindow(1), compared=5, agreed=4)
    other = Window(ArmWindow(8, 0, (1, 1)), ArmWindow(2, 2, (0, 7)), compared=1, agreed=1)
    assert one + other == Window(ArmWindow(17, 1, (2, 3)), ArmWindow(3, 2, (0, 7)), compared=6, agreed=5)


@pytest.mark.parametrize(
    ("control", "candidate", "least", "filled"),
    [(9, 1, 1, True), (9, 0, 1, False), (0, 9, 1, False), (9, 4, 5, False), (9, 5, 5, True), (9, 0, 0, False)],
)
def test_it_is_filled_when_both_arms_say_something(control: int, candidate: int, least: int, filled: bool) -> None:
    assert Window(ArmWindow(control), ArmWindow(candidate)).filled(least) == filled


@pytest.mark.parametrize("counts", [(-1, 0), (5, -1), (5, 6), (5, 0, (1, -1))], ids=str)
def test_an_arm_that_cannot_be_is_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="an arm's window has"):
        ArmWindow(*counts)  # type: ignore[arg-type]


@pytest.mark.parametrize(("compared", "agreed"), [(4, 5), (-1, -1), (3, -1)])
def test_agreements_that_cannot_be_are_refused(compared: int, agreed: int) -> None:
    with pytest.raises(ValueError, match="agreements of"):
        Window(compared=compared, agreed=agreed)


def test_other_bins_are_not_added() -> None:
    with pytest.raises(ValueError, match="3 bins cannot be added to counts of 2 bins"):
        added((1, 2, 3), (1, 2))
