"""The gRPC service `inference.GRPCInferenceService`, and `grpc.health.v1.Health`, on `http2`.

The application behind it is that of REST: the same limits, refusals and counters, in which a call has the status that
REST would have answered.  Which of gRPC's codes that is, says `_CODES`.
"""

import asyncio
import functools
import struct
import zlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from modelmill_contracts.counters import COMPUTE_HEADER, VERSION_HEADER
from modelmill_server import hpack, protobuf
from modelmill_server.app import App
from modelmill_server.errors import RefusedError, invalid, model_unknown, version_unknown
from modelmill_server.inference import Outcome
from modelmill_server.protobuf import field, fields, tag, varint
from modelmill_server.streams import Answer, Replies, Stream

if TYPE_CHECKING:  # numpy and onnxruntime come after the ports are open
    from modelmill_server.model import Servable

_INFERENCE = b"/inference.GRPCInferenceService/"
_HEALTH = b"/grpc.health.v1.Health/"

_OK, _DEADLINE_EXCEEDED, _NOT_FOUND, _EXHAUSTED, _UNIMPLEMENTED, _INTERNAL = 0, 4, 5, 8, 12, 13
_CODES = {
    200: _OK,
    400: 3,  # INVALID_ARGUMENT
    404: _NOT_FOUND,
    408: _DEADLINE_EXCEEDED,
    413: _EXHAUSTED,
    429: _EXHAUSTED,
    501: _UNIMPLEMENTED,
    503: 14,  # UNAVAILABLE
    504: _DEADLINE_EXCEEDED,
}
_PREFIX = struct.Struct(">BI")  # of each message: whether it is compressed, its size
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# zlib's window bits for the compressions of gRPC that clients offer to use.
_COMPRESSIONS = {b"gzip": 31, b"deflate": 15}
_TYPE = (b"content-type", b"application/grpc")
_SUBTYPES = (b"application/grpc+", b"application/grpc;")  # application/grpc-web is another protocol
_ENCODINGS = (b"grpc-accept-encoding", b"identity,gzip,deflate")
_TRUE, _FALSE = b"\x08\x01", b""  # a message whose first field is a bool
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"
_SMALL = 4 << 10  # bytes of a message to any method but ModelInfer
_INDEXED = ("name", "version", "state", "reason")  # the fields of a model in the repository's index
_STRING_1, _STRING_2 = tag(1, protobuf.BYTES), tag(2, protobuf.BYTES)

_Method = Callable[[bytes], bytes]  # from message to message


class _Head:
    """What matters of a call's headers."""

    __slots__ = ("encoding", "headers", "method", "timeout")

    def __init__(
        self, method: "_Method | None", timeout: float | None, encoding: bytes, headers: dict[bytes, bytes]
    ) -> None:
        self.headers = headers
        self.method = method  # None is ModelInfer
        self.timeout = timeout  # seconds
        self.encoding = encoding


class Service:
    """Answers calls for the model of `app`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._counters = app.counters
        self.limit = app.limits.body + _PREFIX.size
        self._head = _head(app.version.encode())
        self._compute = b"\0" + hpack.literal(COMPUTE_HEADER.encode())
        self._tail = hpack.encode((b"grpc-status", b"0"))
        self._methods: dict[bytes, _Method | None] = {
            _INFERENCE + b"ModelInfer": None,
            _INFERENCE + b"ServerLive": lambda _: _TRUE,
            _INFERENCE + b"ServerReady": lambda _: _TRUE if self._app.is_ready() else _FALSE,
            _INFERENCE + b"ModelReady": self._model_ready,
            _INFERENCE + b"ServerMetadata": self._server_metadata,
            _INFERENCE + b"ModelMetadata": self._model_metadata,
            _INFERENCE + b"RepositoryIndex": self._repository_index,
            _HEALTH + b"Check": self._health,
        }
        self._services = (b"", _INFERENCE.strip(b"/"), _HEALTH.strip(b"/"))

    # What `http2` calls.

    def read(self, headers: dict[bytes, bytes]) -> _Head:
        method: _Method | None = _no_method
        kind = headers.get(b"content-type", b"")
        if headers.get(b":method") == b"POST" and (kind == _TYPE[1] or kind.startswith(_SUBTYPES)):
            method = self._methods.get(headers.get(b":path", b""), _no_method)
        timeout = headers.get(b"grpc-timeout")
        return _Head(
            method, None if timeout is None else _seconds(timeout), headers.get(b"grpc-encoding", b""), headers
        )

    def open(self, stream: Stream) -> Answer | None:
        head: _Head = stream.head
        if head.method is None:
            self._counters.in_flight += 1
            stream.deadline = self._app.deadline(head.timeout)
            try:
                self._app.admit()
            except RefusedError as refusal:
                return self._refuse_prediction(refusal)
        elif head.method is _no_method:
            return self._refuse(_unimplemented())  # at once: the body of a stream may never end
        else:
            stream.limit = _SMALL
        return None

    def size(self, stream: Stream) -> int:
        body = stream.body
        return _PREFIX.size + _PREFIX.unpack_from(body)[1] if len(body) >= _PREFIX.size else 0

    def call(self, connection: Replies, stream: Stream) -> Answer | None:
        head: _Head = stream.head
        method = head.method
        try:
            message = self._message(stream)
            if method is not None:
                return self._answer(method(message))
        except RefusedError as refusal:
            return self._refuse_prediction(refusal) if method is None else self._refuse(refusal)
        servable = self._app.servable
        if servable is None:
            raise AssertionError("a prediction was admitted before the model was loaded")
        outcome = self._predict(servable, stream, message)
        if isinstance(outcome, Outcome):
            return self._answer_prediction(outcome)
        stream.task = asyncio.get_running_loop().create_task(outcome)
        stream.task.add_done_callback(lambda task: self._reply(connection, stream, task))
        return None

    def _predict(self, servable: "Servable", stream: Stream, message: bytes) -> Outcome | Coroutine[Any, Any, Outcome]:
        split = self._app.split
        if split is None or _asks_for_version(message):
            return self._app.predict(servable.grpc_codec, message, deadline=stream.deadline)
        here = functools.partial(self._app.predict, servable.grpc_codec, message, deadline=stream.deadline)
        return split.predict_message(message, stream.head.headers, stream.deadline, here)

    def late(self, stream: Stream) -> Answer:
        return self._refuse_stream(stream, self._app.too_slow())

    def large(self, stream: Stream) -> Answer:
        return self._refuse_stream(stream, self._too_large(stream))

    def gone(self, stream: Stream) -> None:
        self._counters.refused("Disconnected")
        if stream.task is not None:
            stream.task.cancel()

    def close(self, stream: Stream) -> None:
        if stream.head.method is None:
            self._counters.in_flight -= 1

    def invalid(self) -> None:
        self._counters.refused("HttpInvalid")

    # Calls.

    def _reply(self, connection: Replies, stream: Stream, task: asyncio.Task[Outcome]) -> None:
        if not task.cancelled():
            connection.reply(stream, self._answer_prediction(task.result()))

    def _message(self, stream: Stream) -> bytes:
        """The one message of a call."""
        body, encoding = stream.body, stream.head.encoding
        if len(body) < _PREFIX.size:
            raise invalid("ProtobufInvalid", "the call holds no message; send one")
        compressed, size = _PREFIX.unpack_from(body)
        if size != len(body) - _PREFIX.size:
            raise invalid("ProtobufInvalid", "the call must hold one message, with its size before it")
        message = bytes(memoryview(body)[_PREFIX.size :])
        if not compressed:
            return message
        if encoding not in _COMPRESSIONS:
            raise RefusedError(501, "CompressionUnknown", "messages are compressed with gzip, deflate, or not at all")
        return self._inflated(stream, message, _COMPRESSIONS[encoding])

    def _inflated(self, stream: Stream, message: bytes, bits: int) -> bytes:
        inflater = zlib.decompressobj(bits)
        try:
            inflated = inflater.decompress(message, stream.limit)
        except zlib.error as error:
            raise invalid("ProtobufInvalid", "the message is not compressed as grpc-encoding says") from error
        if len(inflated) > stream.limit - _PREFIX.size:
            raise self._too_large(stream)
        if not inflater.eof:
            raise invalid("ProtobufInvalid", "the message is not compressed as grpc-encoding says")
        return inflated

    def _too_large(self, stream: Stream) -> RefusedError:
        if stream.head.method is None:
            return self._app.too_large()
        return RefusedError(413, "BodyTooLarge", f"the message is over {_SMALL} bytes; it takes a name and a version")

    def _model_ready(self, message: bytes) -> bytes:
        self._require_model(message)
        return _TRUE if self._app.is_ready() else _FALSE

    def _server_metadata(self, message: bytes) -> bytes:  # noqa: ARG002 - it is empty
        known = self._app.server_metadata()
        return b"".join(
            (field(1, known["name"]), field(2, known["version"]), *(field(3, name) for name in known["extensions"]))
        )

    def _model_metadata(self, message: bytes) -> bytes:
        self._require_model(message)
        known = self._app.metadata()
        return b"".join(
            (
                field(1, known["name"]),
                *(field(2, version) for version in known["versions"]),
                field(3, known["platform"]),
                *(field(4, _tensor_metadata(tensor)) for tensor in known["inputs"]),
                *(field(5, _tensor_metadata(tensor)) for tensor in known["outputs"]),
            )
        )

    def _repository_index(self, message: bytes) -> bytes:
        only_ready = (tag(2, protobuf.VARINT), 1) in _read(message)
        entries = self._app.index(only_ready=only_ready)
        return b"".join(
            field(1, b"".join(field(number, entry[name]) for number, name in enumerate(_INDEXED, 1)))
            for entry in entries
        )

    def _health(self, message: bytes) -> bytes:
        if _string(message, _STRING_1) not in self._services:
            raise RefusedError(404, "ServiceUnknown", "this server has one service, inference.GRPCInferenceService")
        return _SERVING if self._app.is_ready() else _NOT_SERVING

    def _require_model(self, message: bytes) -> None:
        """Refuse a message that names, in its fields 1 and 2, another model or version than the one that is served."""
        app = self._app
        if _string(message, _STRING_1) != app.name.encode():
            raise model_unknown(app.name)
        if _string(message, _STRING_2) not in (b"", app.version.encode()):
            raise version_unknown(app.name, app.version)

    # Answers.

    def _answer(self, message: bytes) -> Answer:
        return Answer(self._head, _PREFIX.pack(0, len(message)) + message, self._tail)

    def _answer_prediction(self, outcome: Outcome) -> Answer:
        if outcome.status != 200:
            return self._error(outcome.status, outcome.error)
        compute = b"%.1f" % (outcome.seconds * 1e6)
        head = self._head if not outcome.version else _head(outcome.version)
        head += self._compute + bytes((len(compute),)) + compute
        return Answer(head, _PREFIX.pack(0, len(outcome.answer)) + outcome.answer, self._tail)

    def _refuse_stream(self, stream: Stream, refusal: RefusedError) -> Answer:
        return self._refuse_prediction(refusal) if stream.head.method is None else self._refuse(refusal)

    def _refuse_prediction(self, refusal: RefusedError) -> Answer:
        return self._answer_prediction(self._app.refuse(refusal))

    def _refuse(self, refusal: RefusedError) -> Answer:
        self._counters.refused(refusal.reason)
        return self._error(refusal.status, refusal.message)

    def _error(self, status: int, message: str) -> Answer:
        code = _CODES.get(status, _INTERNAL)
        more = hpack.encode((b"grpc-status", b"%d" % code), (b"grpc-message", _percent(message)))
        return Answer(self._head + more)


@functools.lru_cache(maxsize=8)
def _head(version: bytes) -> bytes:
    """What each answer begins with."""
    return hpack.encode((b":status", b"200"), _TYPE, _ENCODINGS, (VERSION_HEADER.encode(), version))


def _asks_for_version(message: bytes) -> bool:
    """Whether a ModelInferRequest names a version, or is none."""
    try:
        return bool(_string(message, _STRING_2))
    except RefusedError:
        return True


def _no_method(message: bytes) -> bytes:  # noqa: ARG001
    raise _unimplemented()


def _unimplemented() -> RefusedError:
    return RefusedError(
        501, "PathUnknown", "no such method; predictions are at inference.GRPCInferenceService/ModelInfer"
    )


def _tensor_metadata(tensor: dict[str, Any]) -> bytes:
    shape = b"".join(map(varint, tensor["shape"]))
    return field(1, tensor["name"]) + field(2, tensor["datatype"]) + field(3, shape)


def _read(message: bytes) -> list[tuple[int, Any]]:
    try:
        return list(fields(message))
    except protobuf.WireError as error:
        raise invalid("ProtobufInvalid", f"the message cannot be read: {error}") from error


def _string(message: bytes, mark: int) -> bytes:
    """A field of a message, b"" where it has none; the last one counts."""
    found: bytes = next((value for known, value in reversed(_read(message)) if known == mark), b"")
    return found


def _seconds(timeout: bytes) -> float | None:
    """Of the header grpc-timeout: digits and a unit.  What is not one does not limit."""
    digits, unit = timeout[:-1], _UNITS.get(timeout[-1:])
    return int(digits) * unit if unit is not None and digits.isdigit() and len(digits) <= 8 else None


def _percent(message: str) -> bytes:
    """Text as a header's value: what is not printable ASCII, and %, as %XX."""
    return b"".join(
        b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in message.encode()
    )
