"""Whole lives of namespaces with the operator inside of the test, which is killed when it has made so many writes."""

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from incarnation import Clock, Incarnation, Killed, Mortal, connection
from life import Life, differences, once, picture, revisions

from modelmill.shell.login import Credentials

WORKERS = 6  # lives at the same time, each in a namespace of its own
ROUNDS = 40
_numbers = itertools.count()


@dataclass
class Lived:
    """What a life came to."""

    writes: list[str]
    pictures: list[dict[str, Any]]  # after each step
    created: list[tuple[str, str]]
    deleted: list[tuple[str, str]]
    died: list[str]  # the last write of each process that was killed
    begun: list[int]  # writes of all processes when each step began

    def writes_of(self, step: int) -> list[str]:
        ends = [*self.begun[1:], len(self.writes)]
        return self.writes[self.begun[step] : ends[step]]

    def differs(self, other: "Lived") -> list[str]:
        """In what it is not the other one; [] where it is."""
        found = [f"created twice: {name}" for name, n in Counter(revisions(self.created)).items() if n > 1]
        for what, mine, theirs in (
            ("created", once(self.created), once(other.created)),
            ("deleted", once(self.deleted), once(other.deleted)),
        ):
            if mine != theirs:
                found.append(f"{what}: {mine - theirs} more, {theirs - mine} less")
        for step, (mine, theirs) in enumerate(zip(self.pictures, other.pictures, strict=True), 1):
            found += [f"after step {step}, {where}" for where in differences(mine, theirs)]
        return found


class Place:
    """Where lives take place: namespaces of one cluster, each for one life at a time."""

    def __init__(self, config: str) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(WORKERS)
        self._free: list[str] = []
        self.namespaces: list[str] = []

    async def live(self, *lives_for: int, of: type[Life] = Life, in_step: Sequence[int | None] = ()) -> Lived:
        """A life in which the operator's processes live for so many writes each, and then one without end.

        Where `in_step` has a number, it is killed once in that step, after so many writes of the step.
        """
        async with self._slots:
            if not self._free:
                self._free.append(f"crash-{os.getpid()}-{next(_numbers)}")
                self.namespaces += self._free
            namespace = self._free.pop()
            lived = await _live(await connection(self._config), namespace, of, lives_for, in_step)
            self._free.append(namespace)
            return lived


async def _live(
    credentials: Credentials, namespace: str, of: type[Life], lives_for: Sequence[int], in_step: Sequence[int | None]
) -> Lived:
    clock, lived, lifetimes = Clock(), Lived([], [], [], [], [], []), iter(lives_for)
    async with contextlib.AsyncExitStack() as stack:
        # What the surroundings do is no write of the operator's.
        life = of(await stack.enter_async_context(Mortal(credentials)), namespace, clock)
        await life.begin()
        life.remembered = {}

        async def born() -> tuple[Mortal, Incarnation]:
            api = await stack.enter_async_context(Mortal(credentials, next(lifetimes, None), life.forget))
            return api, Incarnation(api, namespace, clock, life.answer)

        def buried(api: Mortal) -> None:
            lived.writes += api.applied
            lived.created += api.created
            lived.deleted += api.deleted

        api, operator = await born()
        for step, writes in itertools.zip_longest(life.steps(), in_step):
            lived.begun.append(len(lived.writes) + len(api.applied))
            if in_step:
                api.die_after(writes)
            await step.act()
            for _ in range(ROUNDS):
                try:
                    await operator.settle(life.changed)
                except Killed:
                    buried(api)
                    lived.died.append(lived.writes[-1] if lived.writes else "")
                    api, operator = await born()
                    continue
                life.changed.clear()
                if not (step.pods_end and await life.play()):
                    break
            view = await life.view()
            lived.pictures.append(picture(view, namespace))
            assert step.done(view), f"{step.story}: {lived.pictures[-1]}"
        buried(api)
    return lived
