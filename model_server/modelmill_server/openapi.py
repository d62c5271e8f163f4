"""The OpenAPI document of one served model: its paths, and what its tensors really are."""

from typing import Any

from modelmill_contracts import __version__
from modelmill_contracts.artifact import Manifest, Tensor
from modelmill_contracts.captured import MAX_ID
from modelmill_contracts.counters import COMPUTE_HEADER, VERSION_HEADER
from modelmill_server.framing import BINARY, JSON_SIZE_HEADER
from modelmill_server.labels import MOST
from modelmill_server.signature import NUMPY_TYPES, Column, Signature
from modelmill_server.v2 import PREDICT

Schema = dict[str, Any]

_JSON = "application/json"
_NUMBERS = [name for name in NUMPY_TYPES if name != "BYTES"]
_TEXT: Schema = {"type": "string"}


def document(name: str, version: str, manifest: Manifest, signature: Signature, *, labels: bool = False) -> Schema:
    """The OpenAPI 3.1 document, as JSON can hold it; `labels`: it takes some."""
    model = f"/v2/models/{name}"
    paths: Schema = {
        "/v2": {"get": _get("What this server is", _ref("Server"))},
        "/v2/health/live": {"get": _get("Whether it runs", {"type": "object"})},
        "/v2/health/ready": {"get": _get("Whether it answers predictions", {"type": "object"}, 503)},
        "/v2/repository/index": {"post": _index()},
        "/v1/models": {"get": _get("The served model's name", {"type": "object"})},
        f"/v1/models/{name}": {"get": _get("Whether the model is ready (V1)", {"type": "object"}, 503)},
        f"/v1/models/{name}:predict": {"post": _predict()},
    }
    for path in (model, f"{model}/versions/{version}"):
        paths[path] = {"get": _get("What the model takes and gives", _ref("Model"), 503)}
        paths[f"{path}/ready"] = {"get": _get("Whether the model is ready", {"type": "object"}, 503)}
        paths[f"{path}/infer"] = {"post": _infer()}
        if labels:
            paths[f"{path}/labels"] = {"post": _label()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Model {name}, version {version}",
            "version": __version__,
            "description": "Predictions by the Open Inference Protocol (V2) and its predecessor, V1.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(name, version, manifest, signature) | (_label_schemas() if labels else {})},
    }


def _schemas(name: str, version: str, manifest: Manifest, signature: Signature) -> Schema:
    tensors = {"type": "array", "items": _ref("Tensor")}
    return {
        "Error": _object({"error": _TEXT}),
        "Server": _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
        "Tensor": _object(
            {
                "name": _TEXT,
                "datatype": {"enum": list(NUMPY_TYPES)},
                "shape": {"type": "array", "items": {"type": "integer"}, "description": "-1 is any size"},
            }
        ),
        "Model": _object(
            {
                "name": {"const": name},
                "versions": {"const": [version]},
                "platform": _TEXT,
                "inputs": tensors,
                "outputs": tensors,
                "parameters": {"type": "object"},
            }
        ),
        "InferenceRequest": _object(
            {
                "inputs": _inputs(signature),
                "id": _TEXT,
                "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
                "outputs": {
                    "type": "array",
                    "description": "Which outputs to give; without it, all.",
                    "items": _object(
                        {
                            "name": {"enum": [tensor.name for tensor in manifest.outputs]},
                            "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
                        },
                        optional=("parameters",),
                    ),
                },
            },
            optional=("id", "parameters", "outputs"),
        ),
        "InferenceAnswer": _object(
            {
                "model_name": {"const": name},
                "model_version": {"const": version},
                "id": _TEXT,
                "outputs": {"type": "array", "items": {"anyOf": [_output(tensor) for tensor in manifest.outputs]}},
            },
            optional=("id",),
        ),
        "PredictRequest": _object({"instances": {"type": "array", "minItems": 1, "items": _instance(signature)}}),
        "PredictAnswer": _object({"predictions": {"type": "array", "items": _prediction(manifest)}}),
    }


def _inputs(signature: Signature) -> Schema:
    if signature.tensors:
        return _all([_input(t.name, t.datatype, list(t.shape), missing=False) for t in signature.tensors])
    columns = [_column(column) for column in signature.columns.values()]
    if signature.matrix is None:
        return _all(columns)
    missing = any(column.missing for column in signature.columns.values())
    matrix = _all([_input(signature.matrix, signature.datatype, [-1, signature.width], missing=missing)])
    return {"anyOf": [matrix, _all(columns)]} if columns else matrix


def _all(tensors: list[Schema]) -> Schema:
    """Each of `tensors` once, in any order."""
    count = len(tensors)
    return {"type": "array", "minItems": count, "maxItems": count, "items": {"anyOf": tensors}}


def _column(column: Column) -> Schema:
    one = _input(column.name, column.datatype, [-1], missing=column.missing)
    rows: Schema = {"type": "integer", "minimum": 1}
    one["properties"]["shape"] = {
        "type": "array",
        "prefixItems": [rows, {"const": 1}],
        "minItems": 1,
        "maxItems": 2,
        "description": "[rows] or [rows, 1]",
    }
    return one


def _input(name: str, datatype: str, shape: list[int], *, missing: bool) -> Schema:
    parameters: Schema = {
        "binary_data_size": {"type": "integer", "minimum": 0, "description": "bytes behind the JSON, instead of data"},
        "content_type": {"enum": ["np", "pd", "str", "base64", "datetime"]},
    }
    sizes = [{"type": "integer", "minimum": 1} if size < 0 else {"const": size} for size in shape]
    return _object(
        {
            "name": {"const": name},
            "shape": {"type": "array", "prefixItems": sizes, "minItems": len(shape), "maxItems": len(shape)},
            "datatype": {"const": "BYTES"} if datatype == "BYTES" else {"enum": _NUMBERS},
            "data": {
                "type": "array",
                "description": f"Row by row, flat or nested; the model computes with {datatype}."
                + (" A missing value is null." if missing else ""),
            },
            "parameters": {"type": "object", "properties": parameters},
        },
        optional=("data", "parameters"),
    )


def _output(tensor: Tensor) -> Schema:
    return _object(
        {
            "name": {"const": tensor.name},
            "datatype": {"const": tensor.datatype},
            "shape": {"type": "array", "items": {"type": "integer"}, "description": f"{list(tensor.shape)}, -1: rows"},
            "data": {"type": "array", "items": _value(tensor.datatype)},
            "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer"}}},
        },
        optional=("data", "parameters"),
    )


def _instance(signature: Signature) -> Schema:
    if signature.tensors:
        return {"description": "A row of the tensor or, where there are several, an object by tensor name."}
    columns = list(signature.columns.values())
    kinds = [_cell(column.datatype, missing=column.missing) for column in columns]
    kinds = kinds or [_cell(signature.datatype, missing=False)] * signature.width
    row: Schema = {"type": "array", "minItems": len(kinds), "maxItems": len(kinds), "prefixItems": kinds}
    forms = [row]
    if columns:
        named = {column.name: kind for column, kind in zip(columns, kinds, strict=True)}
        optional = tuple(column.name for column in columns if column.missing)
        forms.append({**_object(named, optional=optional), "additionalProperties": False})
    return {"anyOf": [*forms, *kinds]} if len(kinds) == 1 else {"anyOf": forms}


def _cell(datatype: str, *, missing: bool) -> Schema:
    allowed = ["string"] if datatype == "BYTES" else ["boolean"] if datatype == "BOOL" else ["number", "boolean"]
    return {"type": [*allowed, "null"] if missing else allowed}


def _prediction(manifest: Manifest) -> Schema:
    outputs = {tensor.name: tensor for tensor in manifest.outputs}
    one = outputs.get(PREDICT) or (manifest.outputs[0] if len(outputs) == 1 else None)
    if one is None:
        return {"type": "object", "description": "the outputs of a row by name"}
    return _value(one.datatype) if one.shape in ((-1,), (-1, 1)) else {"type": "array"}


def _value(datatype: str) -> Schema:
    """A value in an answer.  A number that is not finite is null."""
    if datatype in ("BOOL", "BYTES"):
        return {"type": "boolean" if datatype == "BOOL" else "string"}
    return {"type": ["number", "null"]} if datatype.startswith("FP") else {"type": "integer"}


def _get(summary: str, schema: Schema, *errors: int) -> Schema:
    return {"summary": summary, "responses": {"200": _body("as asked", {_JSON: schema}), **_errors(*errors)}}


def _index() -> Schema:
    entry = _object({"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT})
    return {
        "summary": "The models of this server and their states",
        "requestBody": {"content": {_JSON: {"schema": _object({"ready": {"type": "boolean"}}, optional=("ready",))}}},
        "responses": {"200": _body("one model", {_JSON: {"type": "array", "items": entry}}), **_errors(400)},
    }


def _infer() -> Schema:
    size = {"schema": {"type": "integer"}, "description": "bytes of JSON before binary tensors"}
    answer = _body("the prediction", {_JSON: _ref("InferenceAnswer"), BINARY.decode(): {}})
    answer["headers"] = {**_headers(), JSON_SIZE_HEADER: size}
    return {
        "summary": "Predict (V2)",
        "parameters": [{"name": JSON_SIZE_HEADER, "in": "header", **size}],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": _ref("InferenceRequest")}, BINARY.decode(): {}},
        },
        "responses": {"200": answer, **_errors(400, 408, 413, 415, 429, 500, 503, 504)},
    }


def _predict() -> Schema:
    answer = _body("the predictions", {_JSON: _ref("PredictAnswer")})
    return {
        "summary": "Predict (V1)",
        "requestBody": {"required": True, "content": {_JSON: {"schema": _ref("PredictRequest")}}},
        "responses": {"200": {**answer, "headers": _headers()}, **_errors(400, 408, 413, 415, 429, 500, 503, 504)},
    }


def _label() -> Schema:
    answer = _body("all are in the store that are kept", {_JSON: _ref("LabelsAnswer")})
    return {
        "summary": "Say what turned out to be true of predictions; each (id, row) counts once, the first time",
        "requestBody": {"required": True, "content": {_JSON: {"schema": _ref("LabelsRequest")}}},
        "responses": {"200": answer, **_errors(400, 408, 413, 429, 503)},
    }


def _label_schemas() -> Schema:
    label = _object(
        {
            "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID, "description": "of the prediction"},
            "row": {"type": "integer", "minimum": 0, "description": "of its request; 0 without it"},
            "label": {"type": ["number", "string", "boolean"], "description": "of the prediction's type"},
        },
        optional=("row",),
    )
    several = {"type": "array", "maxItems": MOST, "items": {**label, "additionalProperties": False}}
    number = {"type": "integer", "minimum": 0}
    return {
        "LabelsRequest": _object({"labels": several}),
        "LabelsAnswer": _object({"written": number, "not_sampled": number}),
    }


def _headers() -> Schema:
    return {
        VERSION_HEADER: {"schema": _TEXT, "description": "the model version that computed it"},
        COMPUTE_HEADER: {"schema": {"type": "number"}, "description": "what the model took, in microseconds"},
    }


def _errors(*statuses: int) -> Schema:
    return {str(status): _body("what is wrong and what to do", {_JSON: _ref("Error")}) for status in statuses}


def _body(description: str, content: dict[str, Schema]) -> Schema:
    return {
        "description": description,
        "content": {kind: {"schema": schema} if schema else {} for kind, schema in content.items()},
    }


def _object(properties: Schema, *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
