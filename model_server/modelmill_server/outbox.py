"""When responses are written: together, where several are ready together.

A write wakes the process at the other end, and what the kernel does for that empties the caches: written one
by one, 32 callers' responses cost nearly twice the CPU.  So responses that become ready in one round of the
event loop are written at its end, one after the other.  A response that is alone, as the one of the round
before was, is not held back.
"""

import asyncio


class Outbox:
    """The responses of one event loop's round."""

    __slots__ = ("_before", "_loop", "_now", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self._now = 0  # responses of this round
        self._before = 1  # of the last round that had any

    def send(self, transport: asyncio.Transport, response: bytes) -> None:
        """Write `response` in this round."""
        self._now += 1
        if self._now == 1:
            self._loop.call_soon(self._end_of_round)
            if self._before == 1:
                transport.write(response)
                return
        self._waiting.append((transport, response))

    def flush(self) -> None:
        """Write everything that waits, for example before something else is written or closed."""
        waiting, self._waiting = self._waiting, []
        for transport, response in waiting:
            transport.write(response)

    def _end_of_round(self) -> None:
        self._before, self._now = self._now, 0
        if self._waiting:
            self.flush()
