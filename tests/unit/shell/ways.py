"""Ways to answer a question of HTTP that the operator asks, most of them bad."""

import asyncio
from collections.abc import Awaitable, Callable

Way = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def sends(*pieces: bytes, pause: float = 0.0) -> Way:
    """Waits for the question, and sends these."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return answer


def says(body: bytes, *headers: str, status: str = "200 OK") -> Way:
    head = "\r\n".join((f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""))
    return sends(head.encode() + body)


async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()
