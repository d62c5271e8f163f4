"""The models that are served: trained here once, as a pickle for the peers and as an artifact for ours."""

from pathlib import Path
from typing import Any, NamedTuple

LOGISTIC, FOREST, LARGE = "logistic regression", "100-tree forest", "560-tree forest"


class Model(NamedTuple):
    """One trained model; `rows` are those that it was trained on, [569, 30] float64."""

    title: str
    pickle: Path
    artifact: Path
    digest: str
    size: int  # bytes of its ONNX file
    rows: Any


def train(title: str, folder: Path) -> Model:
    """Train, and make the artifact with `modelmill pack`, so that its profile has as many bins as a user's."""
    import joblib
    from sklearn.datasets import load_breast_cancer

    from modelmill_trainer import packing

    data = load_breast_cancer(as_frame=True)
    folder.mkdir(parents=True)
    pickle, table, artifact = folder / "model.joblib", folder / "rows.csv", folder / "artifact"
    rows, labels = data.data.to_numpy(), data.target.to_numpy()
    joblib.dump(_estimator(title).fit(rows, labels), pickle)
    data.data.to_csv(table, index=False)
    packed = packing.pack(packing.Asked(pickle, table, trusted=True), artifact)
    return Model(title, pickle, artifact, packed.digest, (artifact / "model.onnx").stat().st_size, rows)


def _estimator(title: str) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if title == LOGISTIC:
        return make_pipeline(StandardScaler(), LogisticRegression())
    return RandomForestClassifier({FOREST: 100, LARGE: 560}[title], random_state=7)
