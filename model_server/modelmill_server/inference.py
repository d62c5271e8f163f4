"""One inference request, from its body to the answer's: decode, run the model, encode.

Nothing here knows HTTP or counts anything, so that it may run in a thread.
"""

import traceback
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from modelmill_server import log
from modelmill_server.errors import RefusedError

if TYPE_CHECKING:  # numpy and onnxruntime come after the ports are open
    from modelmill_server import v1, v2
    from modelmill_server.batching import Batches
    from modelmill_server.model import Servable
    from modelmill_server.tensors import Array


class Outcome(msgspec.Struct, gc=False):
    """How an inference request ended.  `seconds` are the model's, `reason` is "" where it was answered.

    `json_size` is the size of the answer's JSON where raw tensors follow it.  `feeds` and `arrays` are what the
    model saw and gave; the arrays may be overwritten by the next prediction.
    """

    status: int
    answer: bytes
    reason: str = ""
    seconds: float = 0.0
    rows: int = 0
    json_size: int | None = None
    feeds: "dict[str, Array] | None" = None
    arrays: "list[Array] | None" = None


def predict(servable: "Servable", codec: "v1.Codec | v2.Codec", body: bytes, json_size: int | None = None) -> Outcome:
    """Answer one request.  It may run in a thread: it touches nothing that others see.

    Raw tensors follow the first `json_size` bytes of `body`, where that is given.
    """
    try:
        call = codec.decode(body, json_size)
        before = perf_counter()
        arrays = servable.runtime.predict(call.feeds)
        seconds = perf_counter() - before
        answer, size = codec.encode(call, arrays)
        return Outcome(200, answer, "", seconds, call.rows, size, call.feeds, arrays)
    except RefusedError as refusal:
        return refused(refusal)
    except Exception as error:
        return _failed(error)


async def predict_in_turn(
    batches: "Batches", codec: "v1.Codec | v2.Codec", body: bytes, json_size: int | None, deadline: float | None
) -> Outcome:
    """The same for a slow model: it may wait, until `deadline` at most, and go together with others."""
    try:
        call = codec.decode(body, json_size)
        arrays, seconds = await batches.predict(call.feeds, call.rows, deadline)
        answer, size = codec.encode(call, arrays)
        return Outcome(200, answer, "", seconds, call.rows, size, call.feeds, arrays)
    except RefusedError as refusal:
        return refused(refusal)
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> Outcome:
    # Neither the answer nor the log may hold what the caller sent, and an exception's text might.
    where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("a request failed", exception=type(error).__name__, where=where[-5:])
    return Outcome(500, _json({"error": "the server failed to answer; its log says where"}), "InternalError")


def refused(refusal: RefusedError) -> Outcome:
    return Outcome(refusal.status, _json({"error": refusal.message}), refusal.reason)


_json = msgspec.json.Encoder().encode
