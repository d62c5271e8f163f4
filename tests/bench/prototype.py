"""What the least code does: no limits, checks, errors, headers or counters.  `python prototype.py model.onnx PORT`."""

import sys
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import uvicorn


class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(msgspec.Struct):
    inputs: list[Tensor]
    id: str | None = None


options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
datatypes = {"int64": "INT64", "float32": "FP32"}
decode, encode = msgspec.json.Decoder(Request).decode, msgspec.json.Encoder().encode


def predict(body: bytes) -> bytes:
    request = decode(body)
    (tensor,) = request.inputs
    arrays = session.run(names, {tensor.name: np.array(tensor.data, np.float32).reshape(tensor.shape)})
    outputs = [
        {"name": name, "datatype": datatypes[array.dtype.name], "shape": array.shape, "data": array.ravel().tolist()}
        for name, array in zip(names, arrays, strict=True)
    ]
    return encode({"model_name": "model", "model_version": "1", "id": request.id, "outputs": outputs})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    answer = predict(body) if scope["method"] == "POST" else b"{}"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    quiet: dict[str, Any] = {"lifespan": "off", "access_log": False, "log_level": "warning"}
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), http="httptools", loop="uvloop", **quiet)
