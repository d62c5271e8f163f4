"""Answers of another server: whether they are predictions at all, in each protocol, read no further than that takes."""

from typing import Any

import msgspec

from modelmill_server import protobuf
from modelmill_server.protobuf import tag

UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError, protobuf.WireError)

# Of a ModelInferResponse.
_OUTPUTS, _RAW = tag(5, protobuf.BYTES), tag(6, protobuf.BYTES)


class _Parameters(msgspec.Struct, gc=False):
    binary_data_size: int | None = None


class _Output(msgspec.Struct, gc=False):
    shape: list[int]
    parameters: _Parameters | None = None


class _Answer(msgspec.Struct, gc=False):
    outputs: list[_Output]


class _Predictions(msgspec.Struct, gc=False):
    predictions: msgspec.Raw


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_predictions = msgspec.json.Decoder(_Predictions).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def rows_of_v2(body: bytes, json_size: int | None) -> int:
    """The size of the first output's first axis; one of UNREADABLE where `body` is no answer of V2.

    Raw tensors follow its first `json_size` bytes, where that is given.
    """
    outputs = _decode_answer(body if json_size is None else body[:json_size]).outputs
    if json_size is not None:
        sizes = [output.parameters.binary_data_size or 0 for output in outputs if output.parameters is not None]
        if min(sizes, default=0) < 0 or json_size + sum(sizes) != len(body):
            raise ValueError("the raw tensors are not as long as they are said to be")
    return outputs[0].shape[0] if outputs and outputs[0].shape else 1


def rows_of_v1(body: bytes, json_size: int | None = None) -> int:
    """How many predictions there are; one of UNREADABLE where `body` is no answer of V1."""
    if json_size is not None:
        raise ValueError("V1 has no raw tensors")
    predictions = _decode_predictions(body).predictions
    return len(_decode_list(predictions)) if bytes(predictions).startswith(b"[") else 1


def outputs_of_grpc(body: bytes, json_size: int | None = None) -> int:
    """How many outputs there are; one of UNREADABLE where `body` is no ModelInferResponse with at least one."""
    outputs = raw = 0
    for mark, _ in _fields(body, json_size):
        outputs += mark == _OUTPUTS
        raw += mark == _RAW
    if not outputs or raw not in (0, outputs):
        raise ValueError("the message holds no outputs, or raw contents of some")
    return outputs


def _fields(body: bytes, json_size: int | None) -> Any:
    if json_size is not None:
        raise ValueError("a message has no JSON")
    return protobuf.fields(body)
