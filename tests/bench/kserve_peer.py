"""KServe's Python server with a scikit-learn model: `python kserve_peer.py model.joblib`, and the server's own flags.

Its sklearnserver is not on PyPI; this is that program's model, without the parts that fetch it.  Run in KServe's
environment.
"""

import sys
from typing import Any

_PICKLE = sys.argv.pop(1)  # before KServe reads the flags, on import

import joblib  # noqa: E402
from kserve import InferRequest, InferResponse, Model, ModelServer  # noqa: E402
from kserve.utils.utils import get_predict_input, get_predict_response  # noqa: E402


class SKLearnModel(Model):  # type: ignore[misc]
    def load(self) -> bool:
        self._estimator = joblib.load(_PICKLE)
        self.ready = True
        return True

    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:  # noqa: ARG002
        result: Any = self._estimator.predict(get_predict_input(payload))
        return get_predict_response(payload, result, self.name)


if __name__ == "__main__":
    model = SKLearnModel("model")
    model.load()
    ModelServer().start([model])
