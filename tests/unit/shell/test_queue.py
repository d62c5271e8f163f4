"""The work queue: controller-runtime's promises."""

import asyncio

import pytest

from modelmill.shell.queue import BASE_DELAY, WorkQueue


@pytest.fixture
async def queue() -> WorkQueue[str]:
    return WorkQueue()


async def test_adding_twice_is_processing_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_an_item_is_never_processed_by_two_workers_at_once(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")  # changed while it is processed
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)
    queue.done("a")
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_an_item_comes_back_when_it_is_due_and_the_earliest_time_counts(queue: WorkQueue[str]) -> None:
    timer = asyncio.create_task(queue.run())
    queue.add_after("a", 60)
    queue.add_after("a", 0.02)
    queue.add_after("a", 30)
    assert await asyncio.wait_for(queue.get(), 1) == "a"
    queue.done("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.1)  # the later times went with it
    timer.cancel()


async def test_what_comes_back_is_overtaken_by_what_is_declared_but_not_for_ever(queue: WorkQueue[str]) -> None:
    timer = asyncio.create_task(queue.run())
    queue.add_after("back", 0.0)
    while not len(queue):
        await asyncio.sleep(0)
    for number in range(30_000):
        queue.add(f"new {number}")
    order = [await queue.get() for _ in range(30_001)]
    assert order[0] == "new 0"
    assert 5_000 < order.index("back") < 20_000
    timer.cancel()


async def test_what_came_back_and_is_declared_anew_goes_first_and_once(queue: WorkQueue[str]) -> None:
    timer = asyncio.create_task(queue.run())
    queue.add_after("a", 0.0)
    while not len(queue):
        await asyncio.sleep(0)
    queue.add("b")
    queue.add("a")
    assert [await queue.get() for _ in range(2)] == ["b", "a"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)
    timer.cancel()


async def test_what_was_declared_while_it_was_processed_goes_first(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "a"
    queue.add_behind("a")
    queue.add("a")
    queue.add_behind("a")
    queue.done("a")
    queue.add_behind("c")
    queue.add("d")
    assert [await queue.get() for _ in range(4)] == ["b", "a", "d", "c"]


async def test_failures_come_back_ever_later_until_one_success(queue: WorkQueue[str]) -> None:
    timer = asyncio.create_task(queue.run())
    loop, waits = asyncio.get_running_loop(), []
    for _ in range(3):
        begun = loop.time()
        queue.add_rate_limited("a")
        await asyncio.wait_for(queue.get(), 2)
        waits.append(loop.time() - begun)
        queue.done("a")
    assert waits == sorted(waits)
    assert waits[2] >= 4 * BASE_DELAY * 0.9
    queue.forget("a")
    begun = loop.time()
    queue.add_rate_limited("a")
    await asyncio.wait_for(queue.get(), 2)
    assert loop.time() - begun < 2 * BASE_DELAY + 0.05
    timer.cancel()


async def test_the_oldest_tells_how_long_something_waits(queue: WorkQueue[str]) -> None:
    assert queue.oldest == 0
    queue.add("a")
    await asyncio.sleep(0.02)
    assert queue.oldest >= 0.02


async def test_who_stops_waits_for_what_is_processed_and_gives_out_nothing_more(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "a"
    waiting = asyncio.create_task(queue.get())
    stopped = asyncio.create_task(queue.stop(60))
    await asyncio.sleep(0)
    queue.add("c")
    assert await waiting == "b"  # it was given out already
    await asyncio.sleep(0.01)
    queue.done("a")
    await asyncio.sleep(0.01)
    assert not stopped.done()
    queue.done("b")
    await asyncio.wait_for(stopped, 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)


async def test_who_stops_does_not_wait_for_ever(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    await asyncio.wait_for(queue.stop(0.01), 1)


async def test_who_has_nothing_to_do_stops_at_once(queue: WorkQueue[str]) -> None:
    await asyncio.wait_for(queue.stop(60), 1)


async def test_who_has_handed_everything_out_is_busy_until_it_is_done(queue: WorkQueue[str]) -> None:
    assert not queue.busy
    queue.add("a")
    assert queue.busy
    await queue.get()
    assert len(queue) == 0
    assert queue.busy
    queue.done("a")
    assert not queue.busy
