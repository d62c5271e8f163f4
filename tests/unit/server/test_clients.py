"""The field's clients as they are: tritonclient, curl, and a pandas user's ten lines."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from artifacts import Made
from serving import Server, matrix, serving
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from modelmill_server.signature import NUMPY_TYPES


def connected(server: Server) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(f"127.0.0.1:{server.port}")


@pytest.fixture
def client(cancer_server: Server) -> Iterator[triton.InferenceServerClient]:
    with connected(cancer_server) as client:
        yield client


def sent(name: str, rows: Any, *, binary: bool) -> triton.InferInput:
    tensor = triton.InferInput(name, list(rows.shape), np_to_triton_dtype(rows.dtype))
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def test_tritonclient_asks_what_is_there(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("model")
    assert client.is_model_ready("model", "7")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("model", "7")["inputs"][0]["shape"] == [-1, 30]
    (entry,) = client.get_model_repository_index()
    assert (entry["name"], entry["version"], entry["state"]) == ("model", "7", "READY")


# 5,000 rows are more than the server reads at once.
@pytest.mark.parametrize("count", [1, 3, 5000])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("asked", [True, False, None])
def test_tritonclient_predicts(
    client: triton.InferenceServerClient, cancer: Made, count: int, binary: bool, asked: bool | None
) -> None:
    if count == 5000 and not binary:
        count = 1000  # JSON takes more of the limit
    rows = np.resize(cancer.rows, (count, 30)).astype(np.float32)
    names = ("predict_proba", "predict")
    outputs = None if asked is None else [triton.InferRequestedOutput(name, binary_data=asked) for name in names]
    answer = client.infer("model", [sent("input", rows, binary=binary)], "7", outputs, request_id="n1")
    document = answer.get_response()
    assert (document["id"], document["model_name"], document["model_version"]) == ("n1", "model", "7")
    expected = cancer.estimator.predict_proba(rows)
    np.testing.assert_allclose(answer.as_numpy("predict_proba"), expected, atol=1e-5)
    np.testing.assert_array_equal(answer.as_numpy("predict"), cancer.estimator.predict(rows))


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int64])
def test_tritonclient_sends_other_numbers(client: triton.InferenceServerClient, cancer: Made, kind: Any) -> None:
    rows = cancer.rows[:2].astype(kind)
    answer = client.infer("model", [sent("input", rows, binary=True)])
    np.testing.assert_array_equal(answer.as_numpy("predict"), cancer.estimator.predict(rows.astype(np.float64)))


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_sends_text_and_a_frames_columns(mixed_server: Server, mixed: Made, binary: bool) -> None:
    rows = mixed.rows.iloc[[0, 1, 3, 5]]
    columns = {
        "age": rows["age"].to_numpy(np.float32).reshape(-1, 1),
        "income": rows["income"].to_numpy(np.float64),
        "city": rows["city"].to_numpy(np.object_),
    }
    with connected(mixed_server) as client:
        answer = client.infer("model", [sent(name, column, binary=binary) for name, column in columns.items()])
        labels = [label.decode() for label in answer.as_numpy("predict")]
        assert labels == mixed.estimator.predict(rows).tolist()
        outputs = [triton.InferRequestedOutput("predict", binary_data=False)]
        answer = client.infer(
            "model", [sent(name, column, binary=True) for name, column in columns.items()], "", outputs
        )
        assert answer.as_numpy("predict").tolist() == labels


def test_tritonclient_sends_and_gets_every_datatype(every_datatype_server: Server) -> None:
    arrays = {
        datatype.lower(): np.array([[0, 1], [1, 0]]).astype(kind)
        for datatype, kind in NUMPY_TYPES.items()
        if datatype != "BYTES"
    }
    arrays["bytes"] = np.array([["", "Zürich"], ["a", "b\nc"]], np.object_)
    with connected(every_datatype_server) as client:
        answer = client.infer("model", [sent(name, array, binary=True) for name, array in arrays.items()])
    for name, array in arrays.items():
        found = answer.as_numpy(f"{name}_out")
        if name == "bytes":
            found = np.array([value.decode() for value in found.ravel()], np.object_).reshape(found.shape)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_tritonclient_says_what_was_refused(client: triton.InferenceServerClient) -> None:
    rows = np.full((1, 30), 1.5, np.float32)
    good = sent("input", rows, binary=True)
    rows[0, 3] = np.nan
    shared = triton.InferInput("input", [1, 30], "FP32")
    shared.set_shared_memory("region", 120)
    cases: list[tuple[str, triton.InferInput, dict[str, Any]]] = [
        ("value 3 is NaN", sent("input", rows, binary=True), {}),
        ("a compressed body", good, {"request_compression_algorithm": "gzip"}),
        ("shared memory", shared, {}),
    ]
    for text, tensor, more in cases:
        with pytest.raises(InferenceServerException, match=text) as refusal:
            client.infer("model", [tensor], **more)
        assert refusal.value.status() in ("400", "415")


def test_tritonclient_asks_many_at_once(cancer: Made) -> None:
    expected = cancer.estimator.predict(cancer.rows)
    with (
        serving(cancer) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=8) as client,
    ):
        rows = cancer.rows.astype(np.float32)
        asked = [client.async_infer("model", [sent("input", rows[i : i + 1], binary=True)]) for i in range(100)]
        assert [int(one.get_result().as_numpy("predict")[0]) for one in asked] == expected[:100].tolist()


def curl(*arguments: str, data: bytes = b"") -> bytes:
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", *arguments]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True, timeout=30).stdout


def test_curl(cancer_server: Server, cancer: Made) -> None:
    url = f"http://127.0.0.1:{cancer_server.port}"
    rows = cancer.rows[:2]
    expected = cancer.estimator.predict(rows).tolist()
    body = msgspec.json.encode({"inputs": [matrix(rows)]})
    answer = json.loads(curl(f"{url}/v2/models/model/infer", "--data", "@-", data=body))
    assert answer["outputs"][0]["data"] == expected
    body = msgspec.json.encode({"instances": rows.tolist()})
    answer = json.loads(curl(f"{url}/v1/models/model:predict", "--json", "@-", data=body))
    assert answer == {"predictions": expected}
    # The JSON, and the numbers behind it.
    tensor = {"name": "input", "shape": [2, 30], "datatype": "FP32", "parameters": {"binary_data_size": 240}}
    head = msgspec.json.encode({"inputs": [tensor]})
    header = f"Inference-Header-Content-Length: {len(head)}"
    body = head + rows.astype(np.float32).tobytes()
    answer = json.loads(curl(f"{url}/v2/models/model/infer", "-H", header, "--data-binary", "@-", data=body))
    assert answer["outputs"][0]["data"] == expected


def test_ten_lines_of_pandas(mixed_server: Server, mixed: Made) -> None:
    url, rows = f"http://127.0.0.1:{mixed_server.port}/v2/models/model/infer", mixed.rows.head(6)

    import urllib.request

    import pandas as pd

    inputs = []
    for name, column in rows.items():
        datatype = "FP64" if pd.api.types.is_numeric_dtype(column) else "BYTES"
        data = json.loads(column.to_json(orient="values"))
        inputs.append({"name": name, "shape": [len(rows)], "datatype": datatype, "data": data})
    request = urllib.request.Request(url, json.dumps({"inputs": inputs}).encode())
    with urllib.request.urlopen(request) as response:
        outputs = {output["name"]: output["data"] for output in json.load(response)["outputs"]}

    assert outputs["predict"] == mixed.estimator.predict(rows).tolist()
