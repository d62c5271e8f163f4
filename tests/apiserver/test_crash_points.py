"""The operator is killed after every write of a whole life, and what comes of it is what comes of a life without."""

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from control_plane import asleep
from incarnation import Clock, Incarnation, Killed, Mortal, connection
from life import Life, once, picture, revisions

from live import Kubectl

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
            found += [
                f"after step {step}, {name}: {mine.get(name)} instead of {theirs.get(name)}"
                for name in sorted(mine.keys() | theirs.keys())
                if mine.get(name) != theirs.get(name)
            ]
        return found


class Place:
    """Where lives take place: namespaces of one cluster, each for one life at a time."""

    def __init__(self, config: str) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(WORKERS)
        self._free: list[str] = []
        self.namespaces: list[str] = []

    async def live(self, *lives_for: int) -> Lived:
        """A life in which the operator's processes live for so many writes each, and then one without end."""
        async with self._slots:
            if not self._free:
                self._free.append(f"crash-{os.getpid()}-{next(_numbers)}")
                self.namespaces += self._free
            namespace = self._free.pop()
            lived = await _live(await connection(self._config), namespace, [*lives_for, None])
            self._free.append(namespace)
            return lived


@pytest.fixture
def place(config: str) -> Iterator[Place]:
    """Kubernetes' own controllers sleep there: the lives play them."""
    made = Place(config)
    with asleep(config, "kube-controller-manager"):
        yield made
    Kubectl(config).run("delete", "namespace", *made.namespaces, "--wait=false")


async def _live(configuration: Any, namespace: str, lives_for: list[int | None]) -> Lived:
    clock, lived = Clock(), Lived([], [], [], [], 0)
    async with contextlib.AsyncExitStack() as stack:
        # What the surroundings do is no write of the operator's.
        life = Life(await stack.enter_async_context(Mortal(configuration)), namespace, clock)
        await life.begin()

        async def born() -> tuple[Mortal, Incarnation]:
            api = await stack.enter_async_context(Mortal(configuration, lives_for.pop(0)))
            return api, Incarnation(api, namespace, clock)

        def buried(api: Mortal) -> None:
            lived.writes += api.applied
            lived.created += api.created
            lived.deleted += api.deleted

        api, operator = await born()
        for step in life.steps():
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


async def test_killed_after_any_write_the_operator_comes_to_the_same_end(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = await place.live()
    assert not (await place.live()).differs(reference)
    count = len(reference.writes)
    versions = [name for kind, name in reference.created if kind == "ModelVersion"]
    assert versions == ["triage-1", "triage-2", "triage-3"]

    async def killed_after(number: int) -> list[str]:
        lived = await place.live(number)
        assert lived.deaths == 1
        return [f"killed after write {number} of {count}, {reference.writes[number - 1]}: {difference}"
                for difference in lived.differs(reference)]  # fmt: skip

    found = await asyncio.gather(*(killed_after(number) for number in range(count)))
    with capsys.disabled():
        print(f"\n{count} writes, {len(found)} crash points: {sum(not f for f in found)} came to the same end")
    assert not [difference for differences in found for difference in differences]


async def test_killed_after_each_write_the_operator_still_comes_to_the_end(place: Place) -> None:
    reference = await place.live()
    lived = await place.live(*[1] * (3 * len(reference.writes)))
    # Fewer writes are made: who is killed between a status and its Event leaves none, and who starts anew sees at once
    # what would have been said step by step.
    assert lived.deaths > len(reference.writes) / 2
    assert not lived.differs(reference)
