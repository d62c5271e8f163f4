"""Capture in a server: predictions get ids, a sample of them is kept, labels are taken.

Nothing here waits for the store.  What is kept goes, by a short queue and the socket of `handing`, to the process that
writes it; where that is away or slow, rows are dropped and counted, and labels are refused.
"""

import asyncio
import secrets
import zlib
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from modelmill_contracts import captured
from modelmill_contracts.captured import MAX_ID
from modelmill_server import handing, inference, labels, log
from modelmill_server.counters import Counters
from modelmill_server.errors import invalid
from modelmill_server.link import Link
from modelmill_server.ports import Capture as Settings
from modelmill_server.records import Kept, Recorder
from modelmill_server.tensors import Array
from modelmill_server.v2 import Call

if TYPE_CHECKING:
    from modelmill_server.model import Servable

_TAILS = [(f"{number:02x}", b"%02x" % number) for number in range(256)]  # of ids that are made at once
_MOST_ROWS, _MOST_BYTES = 50_000, 16 << 20  # that wait to be handed over
# What is made records of before others have their turn, a millisecond's work: rows, values of rows, and bytes.
_AT_ONCE, _VALUES, _FRAME = 250, 8192, 1 << 20


class Queue:
    """What is kept and not handed over yet."""

    def __init__(self, recorder: Recorder, counters: Counters) -> None:
        self._recorder = recorder
        self._at_once = max(1, min(_AT_ONCE, _VALUES // recorder.width))  # rows
        self._counters = counters
        self._kept: deque[Kept] = deque()
        self._rows = self._size = 0
        self._complained = False
        self.is_away = True  # who is to get it

    def add(self, call: Call, arrays: Sequence[Array]) -> None:
        """Keep a request that is answered, where there is room."""
        try:
            if self._rows + call.rows > _MOST_ROWS or self._size > _MOST_BYTES:
                self._counters.captured.add("Away" if self.is_away else "Full", call.rows)
                return
            kept = self._recorder.keep(call, arrays)
        except Exception as error:  # the prediction is there, and its caller gets it
            self._failed(call.rows, error)
            return
        self._kept.append(kept)
        self._rows += kept.rows
        self._size += kept.size

    def take(self) -> bytes:
        """A frame with the next rows; b"" where there are none."""
        parts, count, size = [], 0, 0
        while self._kept and count < self._at_once and size < _FRAME:
            kept = self._kept[0]
            try:
                rows, text = self._recorder.lines(kept, self._at_once - count)
            except Exception as error:
                rows, kept.done = kept.rows - kept.done, kept.rows
                self._rows -= rows
                self._failed(rows, error)
            else:
                count, size = count + rows, size + len(text)
                parts.append(text)
            if kept.done == kept.rows:
                self._kept.popleft()
                self._size -= kept.size
        self._rows -= count
        if not count:
            return b""
        self._counters.captured.add("Kept", count)
        return handing.frame(handing.ROWS, b"".join(parts), records=count)

    def _failed(self, rows: int, error: Exception) -> None:
        self._counters.captured.add("Failed", rows)
        if not self._complained:
            self._complained = True
            log.failure("a prediction cannot be captured; this is said once", error)


class Codec:
    """A codec whose predictions have ids, a sample of which is kept.

    It is in every request's way, so it is two closures, and ids are made and chosen many at a time.
    """

    __slots__ = ("decode", "encode")

    def __init__(self, codec: inference.Codec, share: float, ids: "Ids", queue: Queue) -> None:
        decode_, encode_, keep = codec.decode, codec.encode, queue.add
        ready, chosen, more, pop = ids.ready, ids.chosen, ids.more, ids.ready.pop
        crc32, salt, limit = zlib.crc32, captured.SALT, captured.limit(share)

        def decode(body: bytes, json_size: int | None = None) -> Call:
            call = decode_(body, json_size)
            id_ = call.id
            if not id_:
                if not ready:
                    more()
                call.id = id_ = pop()
                if id_ in chosen:
                    call.kept = True
            elif len(id_) > MAX_ID:
                raise invalid(
                    "IdInvalid", f"id: has over {MAX_ID} characters, too many for a label to name; shorten it"
                )
            elif crc32(id_.encode(), salt) < limit:
                call.kept = True
            return call

        def encode(call: Call, arrays: list[Array]) -> tuple[bytes, int | None]:
            answer = encode_(call, arrays)
            if call.kept:
                keep(call, arrays)
            return answer

        self.decode, self.encode = decode, encode


class Ids:
    """Ids that no other process has made; those that are `chosen` are kept."""

    def __init__(self, share: float) -> None:
        self.ready: list[str] = []
        self.chosen: set[str] = set()  # of those that are ready, or were in this block
        self._limit = captured.limit(share)
        self._prefix = secrets.token_urlsafe(8)
        self._blocks = 0

    def one(self) -> str:
        if not self.ready:
            self.more()
        return self.ready.pop()

    def more(self) -> None:
        head = f"{self._prefix}{self._blocks:x}"
        self._blocks += 1
        crc32, before, limit = zlib.crc32, zlib.crc32(head.encode(), captured.SALT), self._limit
        self.chosen.clear()
        self.chosen.update([head + tail for tail, encoded in _TAILS if crc32(encoded, before) < limit])
        self.ready.extend([head + tail for tail, _ in _TAILS])


class _InHeaders:
    """V1's codec, for one request: its bodies have no place for an id, so headers have it."""

    __slots__ = ("_codec", "_id")

    def __init__(self, codec: inference.Codec, id_: str) -> None:
        self._codec = codec
        self._id = id_

    def decode(self, body: bytes, json_size: int | None) -> Call:
        call = self._codec.decode(body, json_size)
        call.id, call.told = self._id, self._id.encode()
        return call

    def encode(self, call: Call, arrays: list[Array]) -> tuple[bytes, int | None]:
        return self._codec.encode(call, arrays)


class Capture:
    """Capture for one model version, in one process."""

    def __init__(self, settings: Settings, servable: "Servable", counters: Counters) -> None:
        recorder = Recorder(servable.manifest, servable.signature, settings.columns)
        self.plain = servable  # which keeps nothing
        self._share = settings.share
        self._counters = counters
        self._queue = Queue(recorder, counters)
        self._ids = Ids(settings.share)
        self._reader = labels.Reader(recorder.predicted, settings.share)
        header = msgspec.json.encode(recorder.header(servable.digest, servable.version))
        self.link = Link(settings.socket, handing.frame(handing.HEADER, header), self._queue)
        self.servable = msgspec.structs.replace(
            servable,
            codec=self._codec(servable.codec),
            grpc_codec=self._codec(servable.grpc_codec),
        )

    def _codec(self, codec: inference.Codec) -> Codec:
        return Codec(codec, self._share, self._ids, self._queue)

    def v1_codec(self, id_: bytes | None) -> inference.Codec:
        """For a request that brings this id, or none; RefusedError where it cannot be one."""
        if id_ is None:
            name = self._ids.one()
        elif not 0 < len(id_) <= MAX_ID or not id_.isascii() or not id_.decode().isprintable():
            raise invalid("IdInvalid", f"the prediction's id must be 1 to {MAX_ID} printable ASCII characters; mend it")
        else:
            name = id_.decode()
        return self._codec(_InHeaders(self.plain.v1_codec, name))

    async def take_labels(self, body: bytes, patience: float) -> labels.Answer:
        """Write the labels in `body`, those of predictions that are kept; RefusedError where that was not done."""
        count = kept = 0
        parts = []
        for given, found in self._reader.read(body):
            count, kept = count + given, kept + len(found)
            parts.append(captured.lines(found))
            await asyncio.sleep(0)  # others have their turn
        counts = self._counters.labels
        if kept:
            try:
                await self.link.write_labels(b"".join(parts), kept, patience)
            except BaseException:  # its sender may be gone, too
                counts.add("Failed", kept)
                raise
            counts.add("Written", kept)
        if count > kept:
            counts.add("NotSampled", count - kept)
        return labels.Answer(kept, count - kept)
