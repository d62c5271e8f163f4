"""One inference request, from its body to the answer's: decode, run the model, encode.

Nothing here knows HTTP or counts anything.
"""

from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import msgspec

from modelmill_server import log
from modelmill_server.errors import RefusedError

if TYPE_CHECKING:  # numpy and onnxruntime come after the ports are open
    from modelmill_server.batching import Batches
    from modelmill_server.model import Servable
    from modelmill_server.runtime import Runtime
    from modelmill_server.tensors import Array
    from modelmill_server.v2 import Call


class Outcome(msgspec.Struct, gc=False):
    """How an inference request ended.  `seconds` are the model's, `reason` and `error` are "" where it was answered.

    `error` is what is wrong, as `answer` says it, too: for a protocol that is not JSON.

    `json_size` is the size of the answer's JSON where raw tensors follow it.  `feeds` and `arrays` are what the
    model saw and gave; the arrays may be overwritten by the next prediction.  `version` is the model's where that is
    another one's than this server's.  `id` is the prediction's, where a header has to say it.
    """

    status: int
    answer: bytes
    reason: str = ""
    seconds: float = 0.0
    rows: int = 0
    error: str = ""
    json_size: int | None = None
    feeds: "dict[str, Array] | None" = None
    arrays: "list[Array] | None" = None
    version: bytes = b""
    id: bytes = b""


class Codec(Protocol):
    """What a protocol makes of a request's body, and of the model's outputs: see `v2.Codec`."""

    def decode(self, body: bytes, json_size: int | None) -> "Call": ...

    def encode(self, call: "Call", arrays: "list[Array]") -> tuple[bytes, int | None]: ...


def predict(servable: "Servable", codec: Codec, body: bytes, json_size: int | None) -> Outcome:
    """Answer one request, of a protocol that `codec` speaks: `decode` and `compute` at once, as lean as Python allows.

    Raw tensors follow the first `json_size` bytes of `body`, where that is given.
    """
    try:
        call = codec.decode(body, json_size)
        before = perf_counter()
        arrays = servable.runtime.predict(call.feeds)
        seconds = perf_counter() - before
        answer, size = codec.encode(call, arrays)
        return Outcome(200, answer, "", seconds, call.rows, "", size, call.feeds, arrays)
    except RefusedError as refusal:
        return refused(refusal)
    except Exception as error:
        return _failed(error)


def decode(codec: Codec, body: bytes, json_size: int | None) -> "Call | Outcome":
    """The request in `body`; the outcome where it is none."""
    try:
        return codec.decode(body, json_size)
    except RefusedError as refusal:
        return refused(refusal)
    except Exception as error:
        return _failed(error)


def compute(runtime: "Runtime", codec: Codec, call: "Call") -> Outcome:
    """Answer a request that was decoded, here and now."""
    try:
        before = perf_counter()
        arrays = runtime.predict(call.feeds)
        return _answered(codec, call, arrays, perf_counter() - before)
    except RefusedError as refusal:
        return refused(refusal)
    except Exception as error:
        return _failed(error)


async def compute_in_turn(batches: "Batches", codec: Codec, call: "Call", deadline: float | None) -> Outcome:
    """The same for a slow model: it may wait, until `deadline` at most, and go together with others."""
    try:
        arrays, seconds = await batches.predict(call.feeds, call.rows, deadline)
        return _answered(codec, call, arrays, seconds)
    except RefusedError as refusal:
        return refused(refusal)
    except Exception as error:
        return _failed(error)


def _answered(codec: Codec, call: "Call", arrays: "list[Array]", seconds: float) -> Outcome:
    answer, size = codec.encode(call, arrays)
    return Outcome(200, answer, "", seconds, call.rows, "", size, call.feeds, arrays, b"", call.told)


def _failed(error: Exception) -> Outcome:
    log.failure("a request failed", error)
    return refused(RefusedError(500, "InternalError", "the server failed to answer; its log says where"))


def refused(refusal: RefusedError) -> Outcome:
    error = refusal.message
    return Outcome(refusal.status, _json({"error": error}), refusal.reason, error=error)


_json = msgspec.json.Encoder().encode
