"""gRPC calls to a server: raw ones with bytes as they are, and the protocol's messages as tritonclient has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from serving import Server
from tritonclient.grpc import service_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
INFER = f"{SERVICE}ModelInfer"

# The field of `contents` for a datatype, and numpy's type for it.
FIELDS = {
    "BOOL": ("bool_contents", np.bool_),
    "INT8": ("int_contents", np.int8),
    "INT16": ("int_contents", np.int16),
    "INT32": ("int_contents", np.int32),
    "INT64": ("int64_contents", np.int64),
    "UINT8": ("uint_contents", np.uint8),
    "UINT16": ("uint_contents", np.uint16),
    "UINT32": ("uint_contents", np.uint32),
    "UINT64": ("uint64_contents", np.uint64),
    "FP16": ("", np.float16),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    "BYTES": ("bytes_contents", np.object_),
}


def grpc_port(server: Server) -> int:
    return int(server.wait_for("listening")["grpc_port"])


@contextmanager
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port(server)}", [("grpc.use_local_subchannel_pool", 1)]) as made:
        yield made


def call(on: grpc.Channel, method: str, message: bytes, timeout: float = 30, **more: Any) -> Any:
    """One call of bytes; its answer and the finished call, or grpc.RpcError."""
    return on.unary_unary(method).with_call(message, timeout=timeout, **more)


def tensor(name: str, datatype: str, shape: list[int], values: Any = ()) -> Any:
    """An input with its values in `contents`."""
    made = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if len(values):
        found = [value.encode() if isinstance(value, str) else value for value in values]
        getattr(made.contents, FIELDS[datatype][0]).extend(found)
    return made


def raw(datatype: str, values: Any) -> bytes:
    """Values as in `raw_input_contents`."""
    if datatype != "BYTES":
        return np.array(values, FIELDS[datatype][1]).tobytes()
    encoded = [value.encode() for value in values]
    return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)


def request(*inputs: Any, **more: Any) -> Any:
    return pb.ModelInferRequest(model_name="model", inputs=inputs, **more)


def infer(server: Server, message: Any) -> Any:
    """The ModelInferResponse to a ModelInferRequest or to bytes that should be one; grpc.RpcError where refused."""
    with channel(server) as on:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return pb.ModelInferResponse.FromString(call(on, INFER, data)[0])


def values(answer: Any, index: int) -> list[Any]:
    """The values of an output, typed or raw."""
    output = answer.outputs[index]
    if not answer.raw_output_contents:
        found = list(getattr(output.contents, FIELDS[output.datatype][0]))
        return [value.decode() for value in found] if output.datatype == "BYTES" else found
    data = answer.raw_output_contents[index]
    if output.datatype != "BYTES":
        return np.frombuffer(data, FIELDS[output.datatype][1]).tolist()
    found = []
    while data:
        size = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return found
