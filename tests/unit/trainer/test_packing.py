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
from skl2onnx.common.data_types import FloatTensorType
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelmill_contracts import artifact, evaluation, folder
from modelmill_contracts.artifact import Tensor
from modelmill_contracts.evaluation import FrozenRows
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


def test_rows_that_were_kept_are_frozen_and_measured_like_test_rows(
    pickled: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.csv"
    FRAME.assign(label=LABELS, ward=["x", "y"] * 100).iloc[::2].to_csv(kept, index=False)
    words = [pickled, "--rows", rows, "--target", "label", TRUST]
    assert pack(*words, "--evaluation", kept, "--slice", "ward", "--out", tmp_path / "out") == 0
    assert f"on 100 rows of {kept}: accuracy 1" in capsys.readouterr().out
    manifest = folder.verify(tmp_path / "out", None)
    assert manifest.evaluation == FrozenRows(100, 100, "label", ("ward",))
    assert manifest.metrics["roc_auc"] == "1"
    assert (manifest.recipe["evaluation"]["target"], manifest.recipe["evaluation"]["slices"]) == ("label", ["ward"])
    frozen = pd.read_parquet(tmp_path / "out" / evaluation.ROWS)
    assert list(frozen.columns) == ["feature.age", "feature.income", "feature.city", "target", "slice.ward"]
    assert frozen["feature.city"].iloc[1] == ""
    results = evaluation.decode((tmp_path / "out" / evaluation.RESULTS).read_bytes())
    assert (results.rows, results.metrics) == (100, manifest.metrics)
    assert [(found.column, found.value, found.rows) for found in results.slices] == [("ward", "x", 100)]
    assert results.importance is not None
    assert results.importance.features[0].feature == "age"
    card = (tmp_path / "out" / artifact.CARD).read_text()
    assert "| accuracy | 1 |" in card
    assert "by the word of who packed it" in card
    again = [*words, "--evaluation", kept, "--slice", "ward", "--out", tmp_path / "again"]
    assert pack(*again) == 0
    files = [(tmp_path / name / artifact.MANIFEST).read_bytes() for name in ("out", "again")]
    assert files[0] == files[1]
    assert pack(*words, "--out", tmp_path / "without") == 0
    without = folder.verify(tmp_path / "without", None)
    assert (without.evaluation, "evaluation" in without.recipe) == (None, False)


def test_rows_that_it_was_compared_on_are_named_as_such(pickled: Path, rows: Path, tmp_path: Path) -> None:
    words = [pickled, "--rows", rows, "--target", "label", "--evaluation", rows, "--out", tmp_path / "out", TRUST]
    assert pack(*words) == 0
    manifest = folder.verify(tmp_path / "out", None)
    assert "evaluated on the rows that it was compared on" in manifest.notes


def test_an_onnx_file_is_evaluated_where_tests_could_ask_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = FRAME[["age", "income"]].to_numpy(np.float32)
    FRAME[["age", "income"]].assign(label=LABELS).to_csv(tmp_path / "rows.csv", index=False)
    words = ["--rows", tmp_path / "rows.csv", "--evaluation", tmp_path / "rows.csv", "--target", "label"]
    fitted = LogisticRegression().fit(numbers, LABELS)
    named = to_onnx(fitted, initial_types=[("input", FloatTensorType([None, 2]))])
    (tmp_path / "own.onnx").write_bytes(named.SerializeToString())
    assert pack(tmp_path / "own.onnx", *words, "--out", tmp_path / "out") == 1
    assert "tests compare one that is called 'predict'" in capsys.readouterr().err
    (tmp_path / "own.onnx").write_bytes(to_onnx(fitted, numbers[:1]).SerializeToString())
    assert pack(tmp_path / "own.onnx", *words, "--out", tmp_path / "out") == 1
    assert "the model's inputs are X; tests send one input 'input' of all 2 features" in capsys.readouterr().err
    for output, name in zip(named.graph.output, ("predict", "predict_proba"), strict=True):
        for node in named.graph.node:
            node.output[:] = [name if given == output.name else given for given in node.output]
        output.name = name
    (tmp_path / "own.onnx").write_bytes(named.SerializeToString())
    assert pack(tmp_path / "own.onnx", *words, "--out", tmp_path / "out") == 0
    assert float(folder.verify(tmp_path / "out", None).metrics["accuracy"]) > 0.9


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        ({}, ["--target", "label", "--slice", "income"], "--slice: 'income' is of type Float"),
        ({}, ["--target", "label", "--slice", "wart"], "--slice: the data has no column 'wart'; the nearest are ward"),
        ({}, [], "--evaluation goes with --target"),
        ({}, ["--target", "labels"], "--evaluation: the data has no column 'labels'; the nearest are label"),
        ({"label": "maybe"}, ["--target", "label"], "has labels in the evaluation rows that the model does not know"),
        ({"label": None}, ["--target", "label"], "--target: 100 rows have no value in 'label'"),
        ({"age": None}, ["--target", "label"], "--evaluation: 100 rows have no value in 'age'"),
        ({"age": "old"}, ["--target", "label"], "age"),
    ],
)
def test_rows_that_do_not_fit_the_model_are_refused(
    change: dict[str, object],
    words: list[str],
    said: str,
    pickled: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = tmp_path / "kept.parquet"
    FRAME.assign(**{"label": LABELS, "ward": ["x", "y"] * 100, **change}).iloc[:100].to_parquet(kept)
    assert pack(pickled, "--rows", rows, "--evaluation", kept, *words, "--out", tmp_path / "out", TRUST) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_slices_need_rows(pickled: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack(pickled, "--rows", rows, "--slice", "city", "--out", tmp_path / "out", TRUST) == 1
    assert "--slice goes with --evaluation" in capsys.readouterr().err
