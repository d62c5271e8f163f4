"""One crash point in each life: the operator is killed once, after one write, and the next process lives to the end."""

import asyncio
from collections.abc import Callable

import pytest
from life import Life
from lives import Place
from some_lives import LIVES


@pytest.mark.parametrize("kind", [Life, *LIVES], ids=lambda kind: kind.__name__)
async def test_killed_once_in_its_life_the_operator_comes_to_the_same_end(
    place: Place, kind: type[Life], tell: Callable[[str], None]
) -> None:
    reference = await place.live(of=kind)
    points = range(reference.begun[kind.begins], len(reference.writes))

    async def killed_after(number: int) -> list[str]:
        lived = await place.live(number, of=kind)
        assert len(lived.died) == 1
        after = f"killed after write {number} of {len(reference.writes)}, {[*reference.writes, ''][number - 1]}"
        return [f"{after}: {difference}" for difference in lived.differs(reference)]

    found = await asyncio.gather(*map(killed_after, points))
    tell(f"{kind.__name__}: {len(points)} crash points: {sum(not f for f in found)} came to the same end")
    assert not [difference for differences in found for difference in differences]
