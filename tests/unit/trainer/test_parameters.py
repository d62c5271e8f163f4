"""What a parameter means that a custom resource cannot write as it is."""

from typing import Any

import pytest
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler
from xgboost import XGBClassifier

from modelmill_trainer import parameters


@pytest.mark.parametrize(
    ("cls", "name", "declared", "meant"),
    [
        # To a forest 1 is one feature, and 1.0 is all of them.
        (RandomForestClassifier, "max_features", "1.0", 1.0),
        (RandomForestClassifier, "max_features", 1, 1),
        (RandomForestClassifier, "max_features", "sqrt", "sqrt"),
        (RandomForestClassifier, "max_samples", "1.0", 1.0),
        (PCA, "n_components", "1.0", 1),  # all shares are below 1
        (TruncatedSVD, "n_components", "2.0", 2),
        (LogisticRegression, "C", "1e+20", 1e20),
        (SimpleImputer, "fill_value", "1.0", "1.0"),  # it takes anything: a text is a text
        (MinMaxScaler, "feature_range", [0, 2], (0, 2)),
        (XGBClassifier, "subsample", "1.0", 1.0),  # it does not tell what it takes
    ],
)
def test_a_number_with_a_point_in_quotes_is_one_where_a_number_is_taken(
    cls: Any, name: str, declared: Any, meant: Any
) -> None:
    value = parameters.make(cls, {name: declared}, "estimator.steps[0]").get_params()[name]
    assert (type(value), value) == (type(meant), meant)
