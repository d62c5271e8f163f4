"""Every datatype of the Open Inference Protocol, in and out, as JSON and as binary data: nothing is changed."""

import struct
from typing import Any

import numpy as np
import pytest
from serving import Server

from modelmill_server.signature import NUMPY_TYPES

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, False, True],
    "INT8": [-128, 127, 0, 1],
    "INT16": [-(2**15), 2**15 - 1, 0, 1],
    "INT32": [-(2**31), 2**31 - 1, 0, 1],
    "INT64": [-(2**63), 2**63 - 1, 0, 1],
    "UINT8": [255, 0, 1, 2],
    "UINT16": [2**16 - 1, 0, 1, 2],
    "UINT32": [2**32 - 1, 0, 1, 2],
    "UINT64": [2**64 - 1, 0, 1, 2],
    "FP16": [65504.0, -0.5, 0.0, 2.0**-24],
    "FP32": [float(np.float32(3.4e38)), -0.5, 0.0, 2.0**-149],
    "FP64": [1.7e308, -0.1, 0.0, 5e-324],
    "BYTES": ["", "Zürich", 'a "b" \\ \n', "日本"],
}


def raw(datatype: str) -> bytes:
    if datatype == "BYTES":
        encoded = [value.encode() for value in VALUES[datatype]]
        return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    return np.array(VALUES[datatype], NUMPY_TYPES[datatype]).tobytes()


def tensor(datatype: str, **more: Any) -> dict[str, Any]:
    return {"name": datatype.lower(), "shape": [2, 2], "datatype": datatype, **more}


def test_the_metadata_says_what_the_model_takes(every_datatype_server: Server) -> None:
    document = every_datatype_server.ask("GET", "/v2/models/model").json
    assert {entry["name"]: entry["datatype"] for entry in document["inputs"]} == {
        datatype.lower(): datatype for datatype in NUMPY_TYPES
    }
    assert all(entry["shape"] == [-1, 2] for entry in (*document["inputs"], *document["outputs"]))


def test_as_binary_data(every_datatype_server: Server) -> None:
    inputs = [tensor(datatype, parameters={"binary_data_size": len(raw(datatype))}) for datatype in NUMPY_TYPES]
    document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    answer = every_datatype_server.infer_binary(document, *[raw(datatype) for datatype in NUMPY_TYPES])
    assert answer.status == 200, answer.json
    assert answer.tensors == {f"{datatype.lower()}_out": raw(datatype) for datatype in NUMPY_TYPES}


def test_as_json(every_datatype_server: Server) -> None:
    inputs = [tensor(datatype, data=VALUES[datatype]) for datatype in NUMPY_TYPES if datatype != "FP16"]
    inputs.append({**tensor("FP16", data=VALUES["FP16"]), "datatype": "FP32"})  # FP16 has no JSON form
    outputs = [{"name": f"{datatype.lower()}_out"} for datatype in NUMPY_TYPES if datatype != "FP16"]
    answer = every_datatype_server.infer(*inputs, outputs=outputs)
    assert answer.status == 200, answer.json
    for output, datatype in zip(answer.json["outputs"], [key for key in NUMPY_TYPES if key != "FP16"], strict=True):
        assert (output["datatype"], output["shape"], output["data"]) == (datatype, [2, 2], VALUES[datatype])

    refused = every_datatype_server.infer(*inputs)
    assert refused.status == 400
    assert "'fp16_out' is FP16, which has no JSON form" in refused.json["error"]


def fits(datatype: str, value: float) -> bool:
    kind = np.dtype(NUMPY_TYPES[datatype])
    if kind.kind == "f":
        return True
    if kind.kind == "b":
        return value in (0, 1)
    limits = np.iinfo(kind)
    return float(value).is_integer() and int(limits.min) <= int(value) <= int(limits.max)


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("value", [0, 1, 2, -1, 127, 128, 255, 256, 2**31, 2**32, 2**63, -(2**63), 0.5])
@pytest.mark.parametrize("wanted", [name for name in NUMPY_TYPES if name != "BYTES"])
def test_a_number_of_another_datatype_is_taken_where_it_is_the_same_number(
    every_datatype_server: Server, wanted: str, value: float, as_json: bool
) -> None:
    others = [name for name in NUMPY_TYPES if name != wanted]
    inputs = [tensor(name, parameters={"binary_data_size": len(raw(name))}) for name in others]
    parts = [raw(name) for name in others]
    numbers = [float(value)] * 4
    if as_json:
        inputs.append({**tensor(wanted, data=numbers), "datatype": "FP64"})
    else:
        parts.append(np.array(numbers, np.float64).tobytes())
        inputs.append({**tensor(wanted, parameters={"binary_data_size": 32}), "datatype": "FP64"})
    name = f"{wanted.lower()}_out"
    document = {"inputs": inputs, "outputs": [{"name": name, "parameters": {"binary_data": True}}]}

    answer = every_datatype_server.infer_binary(document, *parts)

    with np.errstate(over="ignore"):
        expected = np.array(numbers).astype(NUMPY_TYPES[wanted]) if fits(wanted, value) else None
    if expected is None or np.isinf(expected.astype(np.float64)).any():
        assert answer.status == 400
        assert "inputs[12].data" in answer.json["error"]
    else:
        assert answer.status == 200, answer.json
        assert answer.tensors == {name: expected.tobytes()}


@pytest.mark.parametrize("shape", [[4], [2, 2, 1], [1, 4], [-2, -2], [0, 2], []])
def test_a_shape_that_is_not_the_models(every_datatype_server: Server, shape: list[int]) -> None:
    answer = every_datatype_server.infer(tensor("INT8", shape=shape, data=VALUES["INT8"]))
    assert answer.status == 400
    assert "inputs[0].shape: must be [-1, 2]" in answer.json["error"]


def test_tensors_that_are_unknown_twice_or_missing(every_datatype_server: Server) -> None:
    int8 = tensor("INT8", data=VALUES["INT8"])
    for inputs, text in (
        ([{**int8, "name": "Zq7secret"}], "inputs[0].name: unknown"),
        ([int8, int8], "inputs[1].name: sent twice"),
        ([int8], "inputs: 'bool' is missing"),
    ):
        answer = every_datatype_server.infer(*inputs)
        assert answer.status == 400
        assert text in answer.json["error"]
        assert "Zq7secret" not in answer.json["error"]
