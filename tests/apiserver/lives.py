"""Whole lives of namespaces with the operator inside of the test, which is killed when it has made so many writes."""

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from dataclasses import dataclass, field
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
    deaths: int
    begun: list[int] = field(default_factory=list)  # writes of the present process when each step began

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

    async def live(self, *lives_for: int, of: type[Life] = Life) -> Lived:
        """A life in which the operator's processes live for so many writes each, and then one without end."""
        async with self._slots:
            if not self._free:
                self._free.append(f"crash-{os.getpid()}-{next(_numbers)}")
                self.namespaces += self._free
            namespace = self._free.pop()
            lived = await _live(await connection(self._config), namespace, of, [*lives_for, None])
            self._free.append(namespace)
            return lived


async def _live(credentials: Credentials, namespace: str, of: type[Life], lives_for: list[int | None]) -> Lived:
    clock, lived = Clock(), Lived([], [], [], [], 0)
    async with contextlib.AsyncExitStack() as stack:
        # What the surroundings do is no write of the operator's.
        life = of(await stack.enter_async_context(Mortal(credentials)), namespace, clock)
        await life.begin()
        life.remembered = {}

        async def born() -> tuple[Mortal, Incarnation]:
            api = await stack.enter_async_context(Mortal(credentials, lives_for.pop(0), life.forget))
            return api, Incarnation(api, namespace, clock, life.answer)

        def buried(api: Mortal) -> None:
            lived.writes += api.applied
            lived.created += api.created
            lived.deleted += api.deleted

        api, operator = await born()
        for step in life.steps():
            lived.begun.append(len(api.applied))
            await step.act()
            for _ in range(ROUNDS):
                try:
                    await operator.settle(life.changed)
                except Killed:
                    buried(api)
                    lived.deaths += 1
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
