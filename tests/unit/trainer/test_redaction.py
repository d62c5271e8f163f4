"""What libraries say of data is shown without the data: no text, and no number that nobody declared."""

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline

from modelmill_trainer import fitting
from modelmill_trainer.data import Data
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import redacted
from modelmill_trainer.own_onnx import own_onnx


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("y has 4111111111111111, -3.5 and 1e-7", "y has ..., ... and ..."),
        ("born 1960-02-03, at 10:30", "born ..., at ..."),
        ("of (40, 2) numbers, n_components=9", "of (40, 2) numbers, n_components=9"),
        ("n_components=9.0 of 9", "n_components=9.0 of 9"),
        ("x=9999 and .5 of -9", "x=... and ... of ..."),
        ("dtype float64, l2, HalfPoissonLoss2, np.int64(7)", "dtype float64, l2, HalfPoissonLoss2, np.int64(...)"),
        ("in 'Zoe' or [1, 2]", "in ... or ..."),
        ("1234.5678.9 9th 9: 9.", "... ... ... 9."),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_numbers_that_nobody_declared_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text, {40.0, 2.0, 9.0}) == shown


def test_a_message_of_scikit_learn_shows_what_was_declared_and_no_value() -> None:
    pipeline = Pipeline([("pca", PCA(n_components=9))])
    features = pd.DataFrame({"x": np.arange(40.0), "y": np.arange(40.0)})
    data = Data(features, np.arange(40.0), {"x": "Float", "y": "Float"}, "target")
    with pytest.raises(TaskError) as caught, fitting.explained(pipeline, data):
        raise ValueError("n_components=9 does not suit 4111.25 among 40 rows of 2, nor 17")
    assert str(caught.value) == (
        "scikit-learn could not fit PCA (ValueError): n_components=9 does not suit ... among 40 rows of 2, nor ..."
    )


def test_a_model_that_a_value_breaks_does_not_show_it(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["t", "place"], ["y"]),
        ],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("t", TensorProto.FLOAT, [3], [0.0, 1.0, 2.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "model.onnx"))
    rows = pd.DataFrame({"x": [1.0, 4111.0]})
    with pytest.raises(TaskError) as caught:
        own_onnx(tmp_path / "model.onnx", {"x": "Float"}, rows, missing=False)
    assert caught.value.reason == "RowsRefused"
    assert "out of data bounds" in str(caught.value)
    assert "4111" not in str(caught.value)
