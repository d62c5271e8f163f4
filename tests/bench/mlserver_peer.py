"""MLServer in an environment of its own in the user's cache, with the same model made there.

Run by itself, inside that environment, it trains the model: `python mlserver_peer.py FOLDER`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "1.7.1"
_PACKAGES = (f"mlserver=={VERSION}", f"mlserver-sklearn=={VERSION}")
_PYTHON = "3.12"  # the newest that it supports


def environment() -> Path:
    """The Python of MLServer's environment, which is made the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "modelmill" / "bench" / f"mlserver-{VERSION}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return python
    print(f"installing MLServer {VERSION} into {folder} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "-q", "--python", _PYTHON, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *_PACKAGES], check=True)
    elif sys.version_info < (3, 13):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *_PACKAGES], check=True)
    else:
        raise SystemExit(f"MLServer {VERSION} needs Python <= {_PYTHON}: install uv, which brings one")
    complete.touch()
    return python


def prepare(folder: Path, port: int) -> list[str]:
    """Write model and settings into `folder`; the command that serves them at `port`."""
    python = environment()
    folder.mkdir()
    # -P: this folder holds an operator.py, which must not be Python's own.
    subprocess.run([str(python), "-P", __file__, str(folder)], check=True)
    model = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(folder / "model.joblib"), "version": "1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
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


def _train(folder: Path) -> None:
    import joblib
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_breast_cancer()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    joblib.dump(pipeline.fit(data.data, data.target), folder / "model.joblib")


if __name__ == "__main__":
    _train(Path(sys.argv[1]))
