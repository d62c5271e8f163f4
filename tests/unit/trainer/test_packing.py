"""`modelmill pack`: somebody's own model becomes an artifact folder, or is refused with a reason."""

from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelmill_contracts import artifact, folder
from modelmill_contracts.artifact import Tensor
from modelmill_server import signature
from modelmill_trainer.command import main

FRAME = pd.DataFrame(
    {"age": np.arange(200.0) % 60, "income": np.arange(200.0) ** 1.1, "city": ["a", "b", "", "d"] * 50}
)
LABELS = np.where(FRAME["age"] > 30, "yes", "no")
TRUST = "--i-trust-this-pickle"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    FRAME.assign(label=LABELS).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    columns = make_column_transformer(
        (StandardScaler(), ["age", "income"]), (OneHotEncoder(handle_unknown="ignore"), ["city"])
    )
    frame = FRAME.assign(city=FRAME["city"].replace("", np.nan).astype(object))
    joblib.dump(make_pipeline(columns, LogisticRegression()).fit(frame, LABELS), tmp_path / "model.joblib")
    return tmp_path / "model.joblib"


def pack(*arguments: object) -> int:
    return main(["pack", *map(str, arguments)])


def test_a_pickle_is_opened_only_where_it_is_trusted(
    pickled: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "owned",)

    joblib.dump(Harm(), pickled)
    assert pack(pickled, "--rows", rows, "--out", tmp_path / "out") == 1
    assert TRUST in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out").exists()


def test_a_pipeline_that_selects_by_name_becomes_an_artifact(
    pickled: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pack(pickled, "--rows", rows, "--target", "label", "--out", tmp_path / "out", TRUST) == 0
    told = capsys.readouterr()
    assert "runs whatever code" in told.err
    manifest = folder.verify(tmp_path / "out", told.out.split()[6])  # "OUT holds a model for onnx: DIGEST"
    assert (manifest.runtime, manifest.classes) == ("onnx", ("no", "yes"))
    assert [feature.name for feature in manifest.features] == ["age", "income", "city"]
    session = onnxruntime.InferenceSession(tmp_path / "out" / artifact.ONNX)
    feeds = {name: FRAME[[name]].to_numpy(np.float32) for name in ("age", "income")}
    found = session.run(["predict"], {**feeds, "city": FRAME[["city"]].to_numpy(object)})[0]
    assert (found == LABELS).mean() > 0.9


def test_the_same_input_gives_the_same_artifact(pickled: Path, rows: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert pack(pickled, "--rows", rows, "--target", "label", "--out", tmp_path / name, TRUST) == 0
    one, two = ((tmp_path / name / artifact.MANIFEST).read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_clusterer(rows: Path, tmp_path: Path) -> None:
    numbers = FRAME[["age", "income"]].to_numpy()
    joblib.dump(KMeans(3, random_state=0, n_init=1).fit(numbers), tmp_path / "model.pkl")
    FRAME[["age", "income"]].to_csv(rows, index=False)
    assert pack(tmp_path / "model.pkl", "--rows", rows, "--out", tmp_path / "out", TRUST) == 0
    manifest = folder.verify(tmp_path / "out", None)
    assert manifest.outputs == (Tensor("predict", "INT64", (-1,)),)


def test_what_cannot_predict_new_rows(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joblib.dump(DBSCAN().fit(FRAME[["age", "income"]].to_numpy()), tmp_path / "model.pkl")
    assert pack(tmp_path / "model.pkl", "--rows", rows, "--out", tmp_path / "out", TRUST) == 1
    assert "labels only the rows that it was fitted on" in capsys.readouterr().err


def test_an_mlflow_folder(pickled: Path, rows: Path, tmp_path: Path) -> None:
    home = tmp_path / "mlflow"
    home.mkdir()
    pickled.rename(home / "model.pkl")
    flavours = {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}}
    (home / "MLmodel").write_text(yaml.safe_dump({"flavors": flavours}))
    assert pack(home, "--rows", rows, "--target", "label", "--out", tmp_path / "out", TRUST) == 0
    flavours["sklearn"]["pickled_model"] = "../rows.csv"
    (home / "MLmodel").write_text(yaml.safe_dump({"flavors": flavours}))
    assert pack(home, "--rows", rows, "--out", tmp_path / "other", TRUST) == 1


def test_an_onnx_file_needs_no_trust_and_loses_its_zipmap(tmp_path: Path) -> None:
    numbers = FRAME[["age", "income"]].to_numpy(np.float32)
    model = to_onnx(LogisticRegression().fit(numbers, LABELS), numbers[:1])
    (tmp_path / "own.onnx").write_bytes(model.SerializeToString())
    FRAME[["age", "income"]].to_csv(tmp_path / "rows.csv", index=False)
    assert pack(tmp_path / "own.onnx", "--rows", tmp_path / "rows.csv", "--out", tmp_path / "out") == 0
    manifest = folder.verify(tmp_path / "out", None)
    assert manifest.outputs[1].shape == (-1, 2)
    assert manifest.classes == ("no", "yes")
    assert [feature.name for feature in manifest.features] == ["age", "income"]
    assert not any(feature.missing for feature in manifest.features)


def test_a_folder_that_is_there_is_not_touched(pickled: Path, rows: Path, tmp_path: Path) -> None:
    assert pack(pickled, "--rows", rows, "--out", tmp_path, TRUST) == 1
    assert rows.exists()


def own_onnx(place: Path, shapes: dict[str, list[int | None]]) -> Path:
    """An ONNX file that gives back each of its inputs, FP32 and of these shapes."""
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    given = [helper.make_tensor_value_info(f"same_{name}", TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    nodes = [helper.make_node("Identity", [name], [f"same_{name}"]) for name in shapes]
    graph = helper.make_graph(nodes, "own", made, given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    place.write_bytes(model.SerializeToString())
    return place


def test_missing_values_of_columns_without_rows(tmp_path: Path) -> None:
    model = own_onnx(tmp_path / "own.onnx", {"age": [None, 1], "income": [None]})
    assert pack(model, "--allow-missing", "--out", tmp_path / "out") == 0
    columns = signature.of_manifest(folder.verify(tmp_path / "out", None)).columns
    assert [(column.name, column.missing) for column in columns.values()] == [("age", True), ("income", True)]


@pytest.mark.parametrize("shape", [[None, 4], [None, 3, 8, 8], [2, 5]])
def test_missing_values_of_what_has_no_columns(
    shape: list[int | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = own_onnx(tmp_path / "own.onnx", {"input": shape})
    assert pack(model, "--allow-missing", "--out", tmp_path / "out") == 1
    assert "--rows" in capsys.readouterr().err
    assert pack(model, "--out", tmp_path / "out") == 0
    signature.of_manifest(folder.verify(tmp_path / "out", None))  # it can be served
