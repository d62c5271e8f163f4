"""The operator is killed after every write of a whole life, and what comes of it is what comes of a life without."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest
from life import Life, once
from lives import Lived, Place
from some_lives import LIVES, SomeLife


async def killed(place: Place, kind: type[Life], reference: Lived, first: int) -> list[list[str]]:
    """For each write from that one on: what is another after a life in which the operator is killed right before it."""
    count = len(reference.writes)

    async def killed_after(number: int) -> list[str]:
        lived = await place.live(number, of=kind)
        assert lived.deaths == 1
        return [f"killed after write {number} of {count}, {reference.writes[number - 1]}: {difference}"
                for difference in lived.differs(reference)]  # fmt: skip

    return await asyncio.gather(*(killed_after(number) for number in range(first, count)))


async def test_killed_after_any_write_the_operator_comes_to_the_same_end(
    place: Place, tell: Callable[[str], None]
) -> None:
    reference = await place.live()
    assert not (await place.live()).differs(reference)
    count = len(reference.writes)
    versions = [name for kind, name in reference.created if kind == "ModelVersion"]
    assert versions == ["triage-1", "triage-2", "triage-3"]

    found = await killed(place, Life, reference, 0)
    tell(f"{count} writes, {len(found)} crash points: {sum(not f for f in found)} came to the same end")
    assert not [difference for differences in found for difference in differences]


async def test_killed_after_each_write_the_operator_still_comes_to_the_end(place: Place) -> None:
    reference = await place.live()
    lived = await place.live(*[1] * (3 * len(reference.writes)))
    # Fewer writes are made: who is killed between a status and its Event leaves none, and who starts anew sees at once
    # what would have been said step by step.
    assert lived.deaths > len(reference.writes) / 2
    assert not lived.differs(reference)


@pytest.mark.parametrize("kind", LIVES, ids=lambda kind: kind.__name__)
async def test_killed_after_any_write_of_what_not_all_have_the_operator_comes_to_the_same_end(
    place: Place, kind: type[SomeLife], tell: Callable[[str], None]
) -> None:
    begun = time.monotonic()
    reference = await place.live(of=kind)
    assert not (await place.live(of=kind)).differs(reference)
    assert not Counter(kind.makes) - once(reference.created)
    found = await killed(place, kind, reference, reference.begun[kind.begins])
    same, seconds = sum(not f for f in found), time.monotonic() - begun
    tell(f"{kind.__name__}: {len(found)} crash points: {same} came to the same end; {seconds:.0f} s")
    assert not [difference for differences in found for difference in differences]
