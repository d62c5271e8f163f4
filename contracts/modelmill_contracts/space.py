"""The search space of an Experiment: what each parameter can be, how it is drawn at random, and how values are written.

Values are JSON texts everywhere (`50`, `0.001`, `"gini"`, `true`): they can be compared and hashed, and 1 is not true.
The operator draws for random searches, a pod for what another algorithm leaves to chance: both draw the same.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec


class Dimension(msgspec.Struct, frozen=True, omit_defaults=True):
    """One parameter: numbers from `low` to `high`, or one of `choices`, JSON texts."""

    name: str
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()
    when: tuple[str, str] | None = None  # it has a meaning where that parameter has that value

    def text(self, value: Any) -> str:
        """A value as JSON, numbers within the range and with six significant digits."""
        if self.choices:
            return json.dumps(value)
        if self.whole:
            return str(round(min(max(value, self.low), self.high)))
        return json.dumps(min(max(float(f"{value:.6g}"), self.low), self.high))

    @property
    def count(self) -> int | None:
        """How many values it has; None: any number in a range."""
        if self.choices:
            return len(self.choices)
        step = 1.0 if self.whole and self.step is None else self.step
        return (
            None if step is None else int((Decimal(str(self.high)) - Decimal(str(self.low))) // Decimal(str(step))) + 1
        )

    def nth(self, index: int) -> str:
        """Its value of that index, of `count`."""
        if self.choices:
            return self.choices[index]
        return self.text(self.low + index * (1.0 if self.step is None else self.step))

    def at(self, share: float) -> str:
        """The value at this share, from 0 to below 1, of the range: equal parts of it are equally likely."""
        if self.log:
            # A whole number stands for what is rounded to it.
            room = 0.5 if self.whole else 0.0
            low, high = math.log(self.low - room), math.log(self.high + room)
            return self.text(math.exp(low + share * (high - low)))
        count = self.count
        return self.text(self.low + share * (self.high - self.low)) if count is None else self.nth(int(share * count))


Space = tuple[Dimension, ...]
Values = tuple[tuple[str, str], ...]  # name, JSON text; without those that have no meaning


def active(dimension: Dimension, chosen: Mapping[str, str]) -> bool:
    """Whether the parameter has a meaning beside these values of those before it."""
    return dimension.when is None or chosen.get(dimension.when[0]) == dimension.when[1]


def chance(seed: int, number: int, name: str) -> float:
    """A number from 0 to below 1: the same for the same seed, trial and parameter, on every machine."""
    drawn = hashlib.sha256(f"{seed}/{number}/{name}".encode()).digest()
    return (int.from_bytes(drawn[:8]) >> 11) / (1 << 53)


def at_random(space: Space, seed: int, number: int) -> Values:
    """The parameters of trial `number` of a random search."""
    chosen: dict[str, str] = {}
    for dimension in space:
        if active(dimension, chosen):
            chosen[dimension.name] = dimension.at(chance(seed, number, dimension.name))
    return tuple(chosen.items())


def grid(space: Space) -> Iterator[Values]:
    """Every combination, each once; the last parameter changes fastest."""
    yield from _combined(space, {})


def _combined(space: Space, chosen: dict[str, str]) -> Iterator[Values]:
    if not space:
        yield tuple(chosen.items())
    elif not active(space[0], chosen):
        yield from _combined(space[1:], chosen)
    else:
        for index in range(space[0].count or 0):
            yield from _combined(space[1:], {**chosen, space[0].name: space[0].nth(index)})
