"""The operator is killed after every write of a whole life, and what comes of it is what comes of a life without.

Before the first write of a step is after the last one of the step before.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest
from life import Life, once
from lives import Lived, Place
from some_lives import LIVES, ExperimentLife, SomeLife


async def killed(place: Place, kind: type[Life], reference: Lived) -> tuple[int, list[list[str]]]:
    """Crash points, and for each life in which the operator was killed, once in each step, what is another after it.

    The steps before its own are left alone.  What comes of each step is compared, so each death is looked at alone;
    tests/chaos has a life for each.
    """
    steps = [reference.writes_of(step) if step >= kind.begins else [] for step in range(len(reference.begun))]

    async def killed_after(number: int) -> list[str]:
        lived = await place.live(of=kind, in_step=[number if number < len(writes) else None for writes in steps])
        expected = [writes[number - 1] for writes in steps if number < len(writes)]
        assert len(lived.died) == len(expected)
        assert not number or [what(write) for write in lived.died] == [what(write) for write in expected]
        return [f"killed in each step after {number} writes: {difference}" for difference in lived.differs(reference)]

    lives = range(max(len(writes) for writes in steps))
    return sum(map(len, steps)), await asyncio.gather(*map(killed_after, lives))


def what(write: str) -> str:
    """Method and kind: names may be others in each life."""
    return write.rpartition(" ")[0]


async def test_killed_after_any_write_the_operator_comes_to_the_same_end(
    place: Place, tell: Callable[[str], None]
) -> None:
    reference = await place.live()
    assert not (await place.live()).differs(reference)
    count = len(reference.writes)
    versions = [name for kind, name in reference.created if kind == "ModelVersion"]
    assert versions == ["triage-1", "triage-2", "triage-3"]

    points, found = await killed(place, Life, reference)
    assert points == count
    tell(f"{points} crash points, in {len(found)} lives: {sum(not f for f in found)} came to the same end")
    assert not [difference for differences in found for difference in differences]


async def test_killed_after_each_write_the_operator_still_comes_to_the_end(place: Place) -> None:
    reference = await place.live()
    lived = await place.live(*[1] * (3 * len(reference.writes)))
    # Fewer writes are made: who is killed between a status and its Event leaves none, and who starts anew sees at once
    # what would have been said step by step.
    assert len(lived.died) > len(reference.writes) / 2
    assert not lived.differs(reference)


@pytest.mark.parametrize("kind", LIVES, ids=lambda kind: kind.__name__)
async def test_killed_after_any_write_of_what_not_all_have_the_operator_comes_to_the_same_end(
    place: Place, kind: type[SomeLife], tell: Callable[[str], None]
) -> None:
    begun = time.monotonic()
    reference = await place.live(of=kind)
    assert not (await place.live(of=kind)).differs(reference)
    assert not Counter(kind.makes) - once(reference.created)
    points, found = await killed(place, kind, reference)
    same, seconds = sum(not f for f in found), time.monotonic() - begun
    tell(f"{kind.__name__}: {points} crash points, in {len(found)} lives: {same} came to the same end; {seconds:.0f} s")
    assert not [difference for differences in found for difference in differences]


async def test_killed_ten_times_a_search_has_the_same_trials_and_the_same_best(place: Place) -> None:
    reference = await place.live(of=ExperimentLife)
    lived = await place.live(*[5] * 10, of=ExperimentLife)
    assert len(lived.died) == 10
    assert not lived.differs(reference)
