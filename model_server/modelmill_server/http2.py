"""HTTP/2 as gRPC's unary calls need it: one request, one answer on each stream, no priorities, no pushes.

A request that is answered in the event loop costs a few steps: its frames are taken apart where they were read, and the
answers to all requests of one read are written together.  A library cannot do that: h2 takes 200 us for a call.

What one connection can hold is bounded: streams, the bytes of their bodies, the size of headers, the time until a body
is complete and until an answer is taken.  A peer that does not read is not read either.

A stream may send `STREAM_WINDOW` bytes.  Where its first bytes say that its body is larger, it gets a grant of what it
needs, at once where the grants of all streams stay below `_GRANTS`, else when another one is complete.  Who has a grant
can end its body whatever the others do, which windows that streams share do not promise.
"""

import asyncio
import socket
import struct

from modelmill_server import hpack
from modelmill_server.outbox import Outbox
from modelmill_server.streams import STREAM_WINDOW, Answer, Service, Stream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_STREAMS = 100
MAX_HEAD = 16 << 10  # bytes of a block of headers, compressed or not
# As for HTTP/1.1: longer than any client or load balancer keeps a connection that nothing happens on.
IDLE_SECONDS = 620

_FRAME = struct.Struct(">HBBBI")  # length in two parts, type, flags, stream
_SETTING = struct.Struct(">HI")
_WORD = struct.Struct(">I")
_MAX_FRAME = 16384  # the protocol's default
_MAX_WINDOW = (1 << 31) - 1
_DEFAULT_WINDOW = 65535
_WINDOW = 1 << 30  # of a connection: its streams' windows bound what it holds
_GRANTS = 8 << 20  # bytes beyond it, of all streams
_LEAST_RATE = 64 << 10  # bytes of an answer that a peer takes in a second
# Frames that neither ask for something nor let an answer go on: so many are read in so many seconds.
_MOST_IDLE, _IDLE_FRAMES_SECONDS = 1000, 10.0
_MOST_UNFINISHED = 1000  # streams of which it is remembered that their callers may still send
_TOGETHER = 64  # answers that are written together at most

_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = range(10)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _CONCURRENT, _INITIAL_WINDOW, _FRAME_SIZE, _HEADER_LIST_SIZE = range(1, 7)
_NO_ERROR, _PROTOCOL_ERROR, _FLOW_CONTROL, _STREAM_CLOSED = 0, 1, 3, 5
_FRAME_SIZE_ERROR, _REFUSED_STREAM, _CANCEL, _COMPRESSION, _CALM = 6, 7, 8, 9, 11

_NOT_HTTP2 = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"this port speaks gRPC; predictions in JSON are at the HTTP port\n"
)


class _ConnectionError(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class Server:
    """The connections of one port."""

    def __init__(self, service: Service, seconds: float) -> None:
        self.service = service
        self.seconds = seconds  # until a body is complete, and until an answer is taken
        self.connections: set[Connection] = set()
        self.draining = False
        self._server: asyncio.Server | None = None

    async def open(self, sock: socket.socket, backlog: int) -> None:
        """Listen on `sock`, which is bound."""
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop)
        self._server = await loop.create_server(lambda: Connection(self, outbox, loop), sock=sock, backlog=backlog)

    def close(self) -> None:
        """Take no new connections, and ask the callers of all others for one elsewhere."""
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.go_away()

    def drain(self) -> None:
        """Ask each caller for a new connection, which will find another server; answer until then.

        Who comes meanwhile gets an answer before it is asked, as on a connection that REST closes.
        """
        self.draining = True
        for connection in self.connections:
            connection.go_away()

    def release(self) -> None:
        """Close idle connections now, and the others after their answers."""
        self.draining = True
        for connection in list(self.connections):
            connection.shutdown()

    def abort(self) -> None:
        """End all connections now, answered or not."""
        for connection in list(self.connections):
            connection.abort()


_NOT_YET = asyncio.Transport()  # of a connection that is being made


class Connection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self, server: Server, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._service = server.service
        self._outbox = outbox
        self._loop = loop
        self._decoder = hpack.Decoder(self._service.read, MAX_HEAD)
        self._transport: asyncio.Transport = _NOT_YET
        self._greeted = False
        self._rest = b""  # of a frame that is not complete
        self._expected: int | None = _SETTINGS  # what the next frame has to be
        self._block = (0, 0, b"")  # stream, flags and block of headers that go on
        self._streams: dict[int, Stream] = {}
        self._unfinished: dict[int, None] = {}  # ended here, and perhaps not yet where they come from
        self._last = 0  # stream
        self._wanting: dict[int, Stream] = {}  # that wait for a grant
        self._granted = 0  # bytes, to all streams
        self._idle_frames, self._idle_since = 0, loop.time()
        self._out: list[bytes] = []
        self._waiting: dict[int, Stream] = {}  # answers that wait for the peer's window
        self._window = _DEFAULT_WINDOW  # of the peer
        self._initial = _DEFAULT_WINDOW
        self._frame_size = _MAX_FRAME
        self._opened = False  # a window of the peer, since its answers were sent as far as they could be
        self._received = 0  # bytes that the peer has no new credit for yet
        self._away = False  # GOAWAY was sent
        self._final: int | None = None  # the last stream that is answered
        self._closed = False
        self._active = True  # something was read since the last look
        self._idle_timer: asyncio.TimerHandle | None = None
        self._stuck_timer: asyncio.TimerHandle | None = None  # while the peer does not read

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)
        self._idle_timer = self._loop.call_later(IDLE_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._closed = True
        self._server.connections.discard(self)
        for timer in (self._idle_timer, self._stuck_timer):
            if timer is not None:
                timer.cancel()
        for stream in list(self._streams.values()):
            self._drop(stream)

    def pause_writing(self) -> None:
        self._transport.pause_reading()
        self._abort_later()

    def resume_writing(self) -> None:
        if self._closed:
            return  # its timer goes on: the rest has to be taken, too
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
            self._stuck_timer = None
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self._active = True
        if self._rest:
            data = self._rest + data
        try:
            at = self._frames(data, 0 if self._greeted else self._greet(data))
        except _ConnectionError as error:
            self._fail(error)
            return
        except hpack.HpackError as error:
            self._fail(_ConnectionError(_COMPRESSION, str(error)))
            return
        self._rest = data[at:]
        if self._opened:
            self._opened = False
            for stream in list(self._waiting.values()):
                self._send_part(stream)
        if self._streams:
            self._start_timers()
        if self._out:
            self._flush()

    # What the server and the service call.

    def reply(self, stream: Stream, answer: Answer) -> None:
        """Send the answer to a request that `Service.call` had none for."""
        stream.task = None
        if not self._closed and stream.id in self._streams:
            self._send(stream, answer)
            self._flush()

    def go_away(self) -> None:
        """Ask for a new connection; what is on its way is answered.

        A client takes nothing before the settings, so one that is just coming is asked after its first answer.
        """
        if self._greeted and not self._away and not self._closed:
            self._away = True
            self._say_farewell(_MAX_WINDOW)
            self._flush()

    def shutdown(self) -> None:
        """Take no more requests, and close after the last answer."""
        if self._closed or self._final is not None:
            return
        self._away, self._final = True, self._last
        if self._greeted:
            self._say_farewell(self._last)
            self._flush()
        self._close_if_done()

    def _say_farewell(self, last: int) -> None:
        """Say that streams up to `last` are answered, and others are to be sent elsewhere."""
        self._frame(_GOAWAY, 0, 0, _WORD.pack(last) + _WORD.pack(_NO_ERROR))

    # Reading.

    def _greet(self, data: bytes) -> int:
        """How much of `data` is the preface that each connection starts with; 0 where it is not all there."""
        if data[: len(PREFACE)] == PREFACE:
            self._greeted = True
            settings = ((_CONCURRENT, MAX_STREAMS), (_INITIAL_WINDOW, STREAM_WINDOW), (_HEADER_LIST_SIZE, MAX_HEAD))
            self._frame(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in settings))
            self._frame(_WINDOW_UPDATE, 0, 0, _WORD.pack(_WINDOW - _DEFAULT_WINDOW))
            return len(PREFACE)
        if not PREFACE.startswith(data):
            self._service.invalid()
            self._outbox.send(self._transport, _NOT_HTTP2)
            self._close()
            raise _ConnectionError(_PROTOCOL_ERROR, "not HTTP/2")
        return 0

    def _frames(self, data: bytes, at: int) -> int:
        """Handle the frames in `data` from `at`; where the first one starts that is not complete."""
        if not self._greeted:
            return at
        end = len(data)
        while end - at >= 9 and not self._closed:
            high, low, kind, flags, id_ = _FRAME.unpack_from(data, at)
            start = at + 9
            at = start + (high << 8 | low)
            if at - start > _MAX_FRAME:
                raise _ConnectionError(_FRAME_SIZE_ERROR, "a frame is too large")
            if at > end:
                return start - 9
            id_ &= _MAX_WINDOW
            if self._expected is not None and kind != self._expected:
                raise _ConnectionError(_PROTOCOL_ERROR, "settings come first, and headers are sent without a break")
            if kind == _DATA:
                self._on_data(id_, flags, data, start, at)
            elif kind == _HEADERS:
                self._on_headers(id_, flags, data, start, at)
            else:
                self._on_control(kind, flags, id_, data[start:at])
            if len(self._out) >= _TOGETHER:
                self._flush()
        return at

    def _on_headers(self, id_: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if not id_ & 1:
            raise _ConnectionError(_PROTOCOL_ERROR, "a request's stream has an odd number")
        if flags & _PADDED:
            start, stop = _unpadded(data, start, stop)
        if flags & _WITH_PRIORITY:
            start += 5
            if start > stop:
                raise _ConnectionError(_FRAME_SIZE_ERROR, "a frame is too short")
        if flags & _END_HEADERS:
            self._request(id_, flags, data[start:stop])
        else:
            self._expected, self._block = _CONTINUATION, (id_, flags, data[start:stop])

    def _on_continuation(self, id_: int, flags: int, payload: bytes) -> None:
        of, first, block = self._block
        if self._expected is None or of != id_:
            raise _ConnectionError(_PROTOCOL_ERROR, "nothing is to be continued")
        if not payload and not flags & _END_HEADERS:
            raise _ConnectionError(_CALM, "an empty frame")
        block += payload
        if len(block) > MAX_HEAD:
            raise _ConnectionError(_CALM, "the headers are too large")
        if flags & _END_HEADERS:
            self._expected = None
            self._request(id_, first, block)
        else:
            self._block = (id_, first, block)

    def _request(self, id_: int, flags: int, block: bytes) -> None:
        head = self._decoder.decode(block)  # always: the table must follow
        if id_ <= self._last:
            self._on_trailers(id_, flags)
            return
        self._last = id_
        self._idle_frames = 0
        ended = flags & _END_STREAM
        if (self._final is not None and id_ > self._final) or len(self._streams) >= MAX_STREAMS:
            self._frame(_RESET, 0, id_, _WORD.pack(_REFUSED_STREAM))  # the caller may send it elsewhere
            if not ended:
                self._remember_unfinished(id_)
            return
        stream = self._streams[id_] = Stream(id_, head, self._service.limit)
        refusal = self._service.open(stream)
        if refusal is not None:
            self._send(stream, refusal, ended=bool(ended))
        elif ended:
            self._complete(stream)

    def _on_trailers(self, id_: int, flags: int) -> None:
        """Headers of a known stream, which say nothing here but its end."""
        stream = self._streams.get(id_)
        if stream is None or stream.complete:
            self._on_closed(id_, flags)
        elif flags & _END_STREAM:
            self._complete(stream)
        else:
            raise _ConnectionError(_PROTOCOL_ERROR, "headers in the middle of a request")

    def _on_closed(self, id_: int, flags: int) -> None:
        """Something came on a stream that takes nothing more."""
        if id_ > self._last or not id_:
            raise _ConnectionError(_PROTOCOL_ERROR, "data without a request")
        if id_ not in self._unfinished:
            raise _ConnectionError(_STREAM_CLOSED, "a stream goes on behind its end")
        if flags & _END_STREAM:
            del self._unfinished[id_]

    def _remember_unfinished(self, id_: int) -> None:
        if len(self._unfinished) == _MOST_UNFINISHED:
            del self._unfinished[next(iter(self._unfinished))]
        self._unfinished[id_] = None

    def _on_data(self, id_: int, flags: int, data: bytes, start: int, stop: int) -> None:
        taken = stop - start
        self._received += taken
        if self._received > _WINDOW // 2:
            self._frame(_WINDOW_UPDATE, 0, 0, _WORD.pack(self._received))
            self._received = 0
        stream = self._streams.get(id_)
        if stream is None or stream.complete:
            self._on_closed(id_, flags)
            return
        if flags & _PADDED:
            start, stop = _unpadded(data, start, stop)
        if not stream.body and flags & _END_STREAM:  # all of it in one frame, which is less than a window
            stream.body = data[start:stop]
            if stop - start > stream.limit:
                self._send(stream, self._service.large(stream))
            else:
                self._complete(stream)
            return
        stream.window -= taken
        _require(stream.window >= 0, _FLOW_CONTROL, "more data than the window allows")
        if not stream.body:
            stream.body = data[start:stop]
        else:
            if type(stream.body) is bytes:
                stream.body = bytearray(stream.body)
            stream.body += data[start:stop]
        self._on_part(stream, ended=bool(flags & _END_STREAM))
        if stop - start < taken and stream.id in self._streams:  # padding
            self._give(stream, taken - (stop - start))
        if start == stop:
            self._count_idle()

    def _on_part(self, stream: Stream, *, ended: bool) -> None:
        """There is more of a body than before."""
        have = len(stream.body)
        if not ended and not stream.size:
            stream.size = self._service.size(stream)
        if have > stream.limit or stream.size > stream.limit:
            self._send(stream, self._service.large(stream), ended=ended)
        elif ended or have > stream.size > 0:  # what is behind its end, the service explains
            self._complete(stream, ended=ended)
        elif not stream.wants and (wants := stream.size - have - stream.window) > 0:
            stream.wants = wants
            self._wanting[stream.id] = stream
            self._grant()

    def _grant(self) -> None:
        """Let streams whose bodies are large send them, as many at a time as may."""
        for stream in list(self._wanting.values()):
            if self._granted and self._granted + stream.wants > _GRANTS:
                return
            del self._wanting[stream.id]
            stream.granted = stream.wants
            self._granted += stream.granted
            self._give(stream, stream.granted)

    def _take_back(self, stream: Stream) -> None:
        """A body that had or wanted a grant is complete, or does not come."""
        self._wanting.pop(stream.id, None)
        self._granted -= stream.granted
        stream.granted = 0
        self._grant()

    def _give(self, stream: Stream, credit: int) -> None:
        stream.window += credit
        self._frame(_WINDOW_UPDATE, 0, stream.id, _WORD.pack(credit))

    def _complete(self, stream: Stream, *, ended: bool = True) -> None:
        stream.complete = True
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None
        if stream.wants:
            self._take_back(stream)
        answer = self._service.call(self, stream)
        if answer is not None:
            self._send(stream, answer, ended=ended)

    def _on_control(self, kind: int, flags: int, id_: int, payload: bytes) -> None:
        if kind == _CONTINUATION:
            self._on_continuation(id_, flags, payload)
            return
        self._count_idle()
        if kind == _WINDOW_UPDATE:
            self._on_window_update(id_, payload)
        elif kind == _PING:
            self._on_ping(id_, flags, payload)
        elif kind == _SETTINGS:
            self._on_settings(id_, flags, payload)
        elif kind == _RESET:
            self._on_reset(id_, payload)
        elif kind == _PUSH:
            raise _ConnectionError(_PROTOCOL_ERROR, "clients do not push")
        elif kind == _PRIORITY:  # which means nothing here
            _require(len(payload) == 5, _FRAME_SIZE_ERROR, "a priority has 5 bytes")
            _require(id_ > 0, _PROTOCOL_ERROR, "a priority of nothing")
        elif kind == _GOAWAY:  # the peer sends no more requests
            _require(not id_, _PROTOCOL_ERROR, "a farewell belongs to no stream")
        # Others are of a newer protocol.

    def _count_idle(self) -> None:
        """Count a frame that asks for nothing: a peer that sends little else costs more than it should."""
        self._idle_frames += 1
        if self._idle_frames > _MOST_IDLE:
            now = self._loop.time()
            _require(now - self._idle_since > _IDLE_FRAMES_SECONDS, _CALM, "too many frames without a request")
            self._idle_frames, self._idle_since = 0, now

    def _on_ping(self, id_: int, flags: int, payload: bytes) -> None:
        _require(len(payload) == 8, _FRAME_SIZE_ERROR, "a ping has 8 bytes")
        _require(not id_, _PROTOCOL_ERROR, "a ping belongs to no stream")
        if not flags & _ACK:
            self._frame(_PING, _ACK, 0, payload)

    def _on_reset(self, id_: int, payload: bytes) -> None:
        _require(len(payload) == 4, _FRAME_SIZE_ERROR, "a reset has 4 bytes")
        _require(0 < id_ <= self._last, _PROTOCOL_ERROR, "a reset of nothing")
        self._unfinished.pop(id_, None)
        if (stream := self._streams.get(id_)) is not None:
            self._drop(stream)
            self._close_if_done()

    def _on_settings(self, id_: int, flags: int, payload: bytes) -> None:
        _require(not id_, _PROTOCOL_ERROR, "settings belong to no stream")
        if flags & _ACK:
            _require(not payload, _FRAME_SIZE_ERROR, "an acknowledgement holds no settings")
            return
        _require(len(payload) % 6 == 0, _FRAME_SIZE_ERROR, "a setting has 6 bytes")
        for name, value in _SETTING.iter_unpack(payload):
            if name == _INITIAL_WINDOW:
                _require(value <= _MAX_WINDOW, _FLOW_CONTROL, "a window is too large")
                self._initial = value
                most = max((stream.credit for stream in self._waiting.values()), default=0)
                _require(value + most <= _MAX_WINDOW, _FLOW_CONTROL, "a window is too large")
            elif name == _FRAME_SIZE:
                _require(_MAX_FRAME <= value < 1 << 24, _PROTOCOL_ERROR, "a frame's size is out of range")
                self._frame_size = value
            elif name == _ENABLE_PUSH:
                _require(value <= 1, _PROTOCOL_ERROR, "a switch is 0 or 1")
        self._expected = None
        self._opened = True
        self._frame(_SETTINGS, _ACK, 0, b"")

    def _on_window_update(self, id_: int, payload: bytes) -> None:
        _require(len(payload) == 4, _FRAME_SIZE_ERROR, "a window's update has 4 bytes")
        credit = _WORD.unpack(payload)[0] & _MAX_WINDOW
        self._opened = True
        if not id_:
            _require(credit > 0, _PROTOCOL_ERROR, "a window's update is empty")
            self._window += credit
            _require(self._window <= _MAX_WINDOW, _FLOW_CONTROL, "a window is too large")
        elif (stream := self._streams.get(id_)) is not None:
            stream.credit += credit
            if not credit:
                self._reset(stream, _PROTOCOL_ERROR)
            elif self._initial + stream.credit > _MAX_WINDOW:
                self._reset(stream, _FLOW_CONTROL)
        else:
            _require(id_ <= self._last, _PROTOCOL_ERROR, "a window of nothing")

    # Writing.

    def _frame(self, kind: int, flags: int, id_: int, payload: bytes) -> None:
        size = len(payload)
        self._out.append(_FRAME.pack(size >> 8, size & 0xFF, kind, flags, id_) + payload)

    def _send(self, stream: Stream, answer: Answer, *, ended: bool = True) -> None:
        """Send what the windows allow, and the rest when they open.  `ended`: the whole request is here."""
        head, data, tail = answer
        id_, size = stream.id, len(data)
        if not tail:
            self._frame(_HEADERS, _END_HEADERS | _END_STREAM, id_, head)
            if not ended:
                self._frame(_RESET, 0, id_, _WORD.pack(_NO_ERROR))  # its caller need not send the rest
                self._remember_unfinished(id_)
            self._end(stream)
        elif size <= self._window and size <= self._initial + stream.credit and size <= _MAX_FRAME:
            self._window -= size
            pack = _FRAME.pack
            self._out.append(
                b"".join(
                    (
                        pack(len(head) >> 8, len(head) & 0xFF, _HEADERS, _END_HEADERS, id_),
                        head,
                        pack(size >> 8, size & 0xFF, _DATA, 0, id_),
                        data,
                        pack(len(tail) >> 8, len(tail) & 0xFF, _HEADERS, _END_HEADERS | _END_STREAM, id_),
                        tail,
                    )
                )
            )
            self._end(stream)
        else:
            self._frame(_HEADERS, _END_HEADERS, id_, head)
            stream.answer = answer
            self._service.close(stream)  # it only waits for its caller, and takes nobody's place in the queue
            self._waiting[id_] = stream
            self._send_part(stream)

    def _send_part(self, stream: Stream) -> None:
        if stream.answer is None:
            raise AssertionError("nothing waits on this stream")
        _, data, tail = stream.answer
        while stream.sent < len(data):
            size = min(self._window, self._initial + stream.credit, self._frame_size, len(data) - stream.sent)
            if size <= 0:
                if stream.timer is None:  # one for all of the answer: a byte now and then does not hold it for ever
                    patience = self._server.seconds + len(data) / _LEAST_RATE
                    stream.timer = self._loop.call_later(patience, self._not_taken, stream)
                return
            self._idle_frames = 0
            self._frame(_DATA, 0, stream.id, data[stream.sent : stream.sent + size])
            stream.sent += size
            stream.credit -= size
            self._window -= size
        self._frame(_HEADERS, _END_HEADERS | _END_STREAM, stream.id, tail)
        del self._waiting[stream.id]
        self._end(stream)

    def _end(self, stream: Stream) -> None:
        """The last of a stream was sent."""
        del self._streams[stream.id]
        if stream.timer is not None:
            stream.timer.cancel()
        if stream.wants:
            self._take_back(stream)
        if stream.answer is None:
            self._service.close(stream)
        if self._server.draining:
            self.go_away()
            self._close_if_done()

    def _flush(self) -> None:
        out = self._out
        if out and not self._closed:
            self._outbox.send(self._transport, out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    # Ends.

    def _start_timers(self) -> None:
        for stream in self._streams.values():
            if stream.timer is None and not stream.complete:
                stream.timer = self._loop.call_later(self._server.seconds, self._not_complete, stream)

    def _not_complete(self, stream: Stream) -> None:
        stream.timer = None
        self._send(stream, self._service.late(stream), ended=False)
        self._flush()

    def _not_taken(self, stream: Stream) -> None:
        """The peer does not open its window: it must not hold the answer for ever."""
        self._reset(stream, _CANCEL)
        self._flush()

    def _reset(self, stream: Stream, code: int) -> None:
        self._frame(_RESET, 0, stream.id, _WORD.pack(code))
        if not stream.complete:
            self._remember_unfinished(stream.id)
        self._drop(stream)
        self._close_if_done()

    def _drop(self, stream: Stream) -> None:
        """Nobody waits for this answer any more."""
        del self._streams[stream.id]
        self._waiting.pop(stream.id, None)
        if stream.timer is not None:
            stream.timer.cancel()
        if stream.wants:
            self._take_back(stream)
        self._service.gone(stream)
        if stream.answer is None:
            self._service.close(stream)

    def _fail(self, error: _ConnectionError) -> None:
        if self._closed:
            return
        self._service.invalid()
        self._frame(_GOAWAY, 0, 0, _WORD.pack(self._last) + _WORD.pack(error.code) + str(error).encode())
        self._flush()
        self._close()

    def _close_if_done(self) -> None:
        if self._final is not None and not self._streams:
            self._flush()
            self._close()

    def _close(self) -> None:
        self._outbox.flush()
        self._closed = True
        self._abort_later()  # it may not take what was sent
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _abort_later(self) -> None:
        if self._stuck_timer is None:
            self._stuck_timer = self._loop.call_later(self._server.seconds, self._transport.abort)

    def _look(self) -> None:
        """Close a connection on which nothing happened for a long time."""
        if not self._active and not self._streams:
            self.shutdown()
            return
        self._active = False
        self._idle_timer = self._loop.call_later(IDLE_SECONDS, self._look)


def _unpadded(data: bytes, start: int, stop: int) -> tuple[int, int]:
    if start == stop or data[start] >= stop - start:
        raise _ConnectionError(_PROTOCOL_ERROR, "a frame is all padding")
    return start + 1, stop - data[start]


def _require(condition: bool, code: int, why: str) -> None:
    if not condition:
        raise _ConnectionError(code, why)
