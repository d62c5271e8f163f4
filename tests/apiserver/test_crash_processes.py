"""Operator processes as they ship, in a whole life: one that is killed now and then, and two that both write."""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from audit import OPERATOR, Write, Writes, succeeded
from conftest import Operator
from incarnation import Mortal, connection
from life import Life, picture
from lives import Lived, Place

from live import Kubectl

Start = Callable[..., Operator]
QUIET = 1.5  # seconds without a write, after which a step is over
STEP = 60.0


async def lived(
    config: str, namespace: str, written: Writes, meanwhile: Callable[[list[Write]], None] = lambda _: None
) -> list[dict[str, Any]]:
    """A life with operators that run already; its picture after each step."""
    pictures = []
    async with Mortal(await connection(config)) as api:
        life = Life(api, namespace, lambda: datetime.now(UTC).replace(microsecond=0))
        await life.begin()
        for step in life.steps():
            await step.act()
            end, known, since = time.monotonic() + STEP, -1, 0.0
            while True:
                if step.pods_end and await life.play():
                    since = time.monotonic()
                view = await life.view()
                found = written()  # after the view: what led to it is no news
                meanwhile(found)
                if len(found) != known:
                    known, since = len(found), time.monotonic()
                if step.done(view) and time.monotonic() - since > QUIET:
                    break
                assert time.monotonic() < end, f"{step.story}: {picture(view, namespace)}"
                await asyncio.sleep(0.2)
            pictures.append(picture(view, namespace))
    return pictures


def check(reference: Lived, pictures: list[dict[str, Any]], found: list[Write]) -> None:
    """The life came to what one comes to in which nothing happens to the operator."""
    created, deleted = succeeded(found, "create"), succeeded(found, "delete")
    differs = Lived([], pictures, created, deleted, [], []).differs(reference)
    assert not differs, "\n".join(differs)


def forget_generations(pictured: dict[str, Any]) -> None:
    for name, manifest in pictured.items():
        if name.startswith("Deployment/"):
            del manifest["metadata"]["generation"], manifest["status"]["observedGeneration"]


async def test_an_operator_that_is_killed_three_times_comes_to_the_same_end(
    config: str, kubectl: Kubectl, operator: Start, place: Place, tell: Callable[[str], None]
) -> None:
    written = Writes(config, OPERATOR, kubectl.namespace)
    process = operator(None, pod=f"pod-{os.getpid()}").active()
    kills = [15, 45, 75]
    recovered = []

    def kill(found: list[Write]) -> None:
        if kills and len(found) >= kills[0]:
            kills.pop(0)
            recovered.append(round(process.reborn(), 1))

    pictures = await lived(config, kubectl.namespace, written, kill)
    assert not kills
    tell(f"active again after kill -9: {recovered} s")
    assert max(recovered) < 10
    check(await place.live(), pictures, written())


async def test_two_operators_that_both_write_make_nothing_twice_and_come_to_rest(
    config: str, kubectl: Kubectl, operator: Start, place: Place, tell: Callable[[str], None]
) -> None:
    written = Writes(config, OPERATOR, kubectl.namespace)
    # Two leases: each has leave to write, as it should never be.
    for process in (operator("one"), operator("another")):
        process.active()
    pictures = await lived(config, kubectl.namespace, written)
    found = written()
    # One that has not seen an edit yet may scale back what the other one has scaled: that ends when both have seen it.
    scaled = sum(w.verb == "patch" and w.resource == "deployments" and w.code == 200 for w in found)
    reference = await place.live()
    for pictured in (*pictures, *reference.pictures):
        forget_generations(pictured)
    check(reference, pictures, found)
    alone = len(reference.writes)
    refused = sum(write.code == 409 for write in found)
    tell(f"{len(found)} attempts to write, {refused} refused as another was faster; one operator writes {alone}")
    tell(f"Deployments were scaled {scaled} times")
    assert len(found) - refused < 2 * alone
    await asyncio.sleep(3)
    assert written() == found
