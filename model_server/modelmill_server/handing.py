"""How a server hands rows and labels to the process that writes them: frames over a unix socket.

The server has no access to the store, and what has it reads no requests: of what comes over the socket, it looks at
sizes and counts only.

    to the writer     HEADER   what the rows that follow are rows of: a `captured.RowsHeader`
                      ROWS     `captured.lines` of so many rows; nobody answers
                      LABELS   `captured.lines` of so many labels, and a number for the answer
    to the server     WRITTEN  the labels with that number are in the store
                      REFUSED  they are not, as far as is known
                      STATE    `counters.Written`, once a second
"""

import asyncio
import struct
from typing import NamedTuple

HEADER, ROWS, LABELS, WRITTEN, REFUSED, STATE = range(1, 7)
LARGEST = 64 << 20  # bytes of a frame
PATIENCE = 20.0  # seconds that the sender of labels waits until they are written
STATE_SECONDS = 1.0
_HEAD = struct.Struct("!BIII")


class Frame(NamedTuple):
    kind: int
    number: int
    records: int
    content: bytes


def frame(kind: int, content: bytes = b"", number: int = 0, records: int = 0) -> bytes:
    return _HEAD.pack(kind, number, records, len(content)) + content


async def read(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None at the end, and where what comes is none."""
    try:
        kind, number, records, size = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        if size > LARGEST:
            return None
        return Frame(kind, number, records, await reader.readexactly(size))
    except (asyncio.IncompleteReadError, OSError):
        return None
