"""The servers that are compared with, each in an environment of its own in the user's cache, with the same model."""

import json
from importlib.metadata import version
from pathlib import Path

from tests.bench.models import Model
from tests.environments import environment

HERE = Path(__file__).resolve().parent
_MLSERVER, _KSERVE = "1.7.1", "0.21.0"
MLSERVER, KSERVE = f"MLServer {_MLSERVER}", f"KServe {_KSERVE}"
_PYTHON = (3, 12)  # the newest that MLServer supports


def mlserver(model: Model, folder: Path, port: int) -> list[str]:
    """The command that serves `model` at `port`, gRPC at the next one; `folder` is for its settings."""
    python = _environment("mlserver", _MLSERVER, f"mlserver=={_MLSERVER}", f"mlserver-sklearn=={_MLSERVER}")
    folder.mkdir()
    served = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(model.pickle), "version": "1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(served))
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,  # the model in the server's process: its fastest way for a small model
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return [str(python.with_name("mlserver")), "start", str(folder)]


def kserve(model: Model, port: int) -> list[str]:
    """The same for KServe."""
    python = _environment("kserve", _KSERVE, f"kserve=={_KSERVE}", "joblib")
    # -P: this folder holds an operator.py, which must not be Python's own.
    return [
        str(python),
        "-P",
        str(HERE / "kserve_peer.py"),
        str(model.pickle),
        f"--http_port={port}",
        f"--grpc_port={port + 1}",
        "--enable_latency_logging=False",
        "--configure_logging=False",  # no line for each request
    ]


def _environment(name: str, release: str, *packages: str) -> Path:
    """The Python of a peer's environment, which is made the first time.

    It has the scikit-learn of this one, so that it can load what was trained here.
    """
    same = f"scikit-learn=={version('scikit-learn')}"
    return environment(f"bench/{name}-{release}", *packages, same, newest=_PYTHON)
