"""Responses that are ready together are written together; one that is alone is not held back."""

import asyncio

from modelmill_server.outbox import Outbox


class Written(asyncio.Transport):
    """Keeps what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.data: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data.append(bytes(data))


async def test_one_caller_is_answered_at_once() -> None:
    outbox, transport = Outbox(asyncio.get_running_loop()), Written()
    for number in (1, 2, 3):
        outbox.send(transport, b"x")
        assert len(transport.data) == number
        await asyncio.sleep(0)


async def test_many_are_answered_at_the_end_of_the_round_in_order() -> None:
    outbox, transport = Outbox(asyncio.get_running_loop()), Written()
    outbox.send(transport, b"1")
    outbox.send(transport, b"2")
    assert transport.data == [b"1"]  # nobody knew that there would be two
    await asyncio.sleep(0)
    assert transport.data == [b"1", b"2"]
    outbox.send(transport, b"3")
    outbox.send(transport, b"4")
    assert transport.data == [b"1", b"2"]
    await asyncio.sleep(0)
    assert transport.data == [b"1", b"2", b"3", b"4"]
    # A round with one response: it waits, but the next one does not.
    outbox.send(transport, b"5")
    await asyncio.sleep(0)
    outbox.send(transport, b"6")
    assert transport.data[-2:] == [b"5", b"6"]


async def test_flushing_does_not_wait_for_the_end_of_the_round() -> None:
    outbox, transport = Outbox(asyncio.get_running_loop()), Written()
    outbox.send(transport, b"1")
    outbox.send(transport, b"2")
    outbox.flush()
    assert transport.data == [b"1", b"2"]
    await asyncio.sleep(0)
    assert transport.data == [b"1", b"2"]
