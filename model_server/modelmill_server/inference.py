"""One inference request, from its body to the answer's: decode, run the model, encode.

Nothing here knows HTTP or counts anything, so that it may run in a thread.
"""

import traceback
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from modelmill_server import log
from modelmill_server.errors import RefusedError

if TYPE_CHECKING:  # numpy and onnxruntime come after the ports are open
    from modelmill_server.model import Servable
    from modelmill_server.tensors import Array


class Outcome(msgspec.Struct, gc=False):
    """How an inference request ended.  `seconds` are the model's, `reason` is "" where it was answered."""

    status: int
    answer: bytes
    reason: str = ""
    seconds: float = 0.0
    rows: int = 0
    error: str = ""  # what is wrong, for a protocol that is not JSON


class Codec(Protocol):
    """What a protocol makes of a request's body and of a model's outputs."""

    def decode(self, body: bytes) -> Any: ...

    def encode(self, call: Any, arrays: "list[Array]") -> bytes: ...


def predict(servable: "Servable", codec: Codec, body: bytes) -> Outcome:
    """Answer one request.  It may run in a thread: it touches nothing that others see."""
    try:
        call = codec.decode(body)
        before = perf_counter()
        arrays = servable.runtime.predict(call.feeds)
        seconds = perf_counter() - before
        return Outcome(200, codec.encode(call, arrays), "", seconds, call.rows)
    except RefusedError as refusal:
        return refused(refusal)
    except Exception as error:
        # Neither the answer nor the log may hold what the caller sent, and an exception's text might.
        where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        log.error("a request failed", exception=type(error).__name__, where=where[-5:])
        return refused(RefusedError(500, "InternalError", "the server failed to answer; its log says where"))


def refused(refusal: RefusedError) -> Outcome:
    return Outcome(refusal.status, _json({"error": refusal.message}), refusal.reason, error=refusal.message)


_json = msgspec.json.Encoder().encode
