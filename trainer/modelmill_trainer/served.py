"""A served model, asked over V2: rows as its manifest has them, labels and scores as scikit-learn gives them."""

import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from modelmill_contracts.artifact import Manifest
from modelmill_trainer.evaluation import Predicted
from modelmill_trainer.failure import TaskError
from modelmill_trainer.outputs import UnclearError, answered

_BATCH = 500  # rows of a request, fewer where they are wide
_LARGEST = 1 << 20  # bytes of a body: more the server refuses, unless it is told otherwise
_PATIENCE = 120.0  # seconds until the server has loaded its model
_TIMEOUT = 60.0  # seconds for one answer


class RefusedError(Exception):
    """The server refuses the rows.  Its words name a field, and repeat nothing of what was sent."""


class ServedModel:
    """One model of one server."""

    def __init__(self, url: str, name: str, manifest: Manifest) -> None:
        self._address = urlsplit(url).netloc
        self._name = name
        self.manifest = manifest
        self._connection: http.client.HTTPConnection | None = None
        first = manifest.inputs[0]
        self._matrix = len(manifest.inputs) == 1 and first.datatype != "BYTES" and len(first.shape) == 2

    def wait(self, patience: float = _PATIENCE, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait until it answers; TaskError where it does not."""
        end = time.monotonic() + patience
        while True:
            try:
                if self._send("GET", "/v2/health/ready", b"", {})[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > end:
                raise TaskError(
                    "ServerNotReady",
                    f"the server that is tested did not load the model within {patience:g} s; its log says why (kubectl"
                    " logs job/VERSION-test -c server), and spec.tests.resources of the Model gives it more memory",
                    retryable=True,
                )
            sleep(0.1)

    def predict(self, rows: pd.DataFrame, truth: Any) -> Predicted:
        """What it answers to the rows, of which `truth` is known; RefusedError, TaskError."""
        parts = [self._ask(rows.iloc[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        try:
            return answered(found, self.manifest.classes, truth)
        except UnclearError as error:
            raise RefusedError(f"what the model answers cannot be compared with the truth: {error}") from error

    def latencies(self, rows: pd.DataFrame, requests: int) -> Any:
        """Seconds that each of so many requests of one row took, one after the other."""
        bodies = [self._body(rows.iloc[number : number + 1]) for number in range(min(len(rows), requests))]
        taken = np.empty(requests)
        for number in range(requests):
            body, headers = bodies[number % len(bodies)]
            begun = time.perf_counter()
            self._infer(body, headers)
            taken[number] = time.perf_counter() - begun
        return taken

    def _ask(self, rows: pd.DataFrame) -> dict[str, Any]:
        body, headers = self._body(rows)
        if len(body) > _LARGEST and len(rows) > 1:
            parts = [self._ask(half) for half in (rows.iloc[: len(rows) // 2], rows.iloc[len(rows) // 2 :])]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        answer = self._infer(body, headers)
        found = {}
        for output in answer["outputs"]:
            datatype = output["datatype"]
            kind = str if datatype == "BYTES" else float if datatype.startswith("FP") else None
            found[output["name"]] = np.array(output["data"], dtype=kind).reshape(output["shape"])
        return found

    def _infer(self, body: bytes, headers: dict[str, str]) -> Any:
        try:
            status, answer = self._send("POST", f"/v2/models/{self._name}/infer", body, headers)
        except OSError as error:
            message = f"the server that is tested broke off ({type(error).__name__}); its log says why"
            raise TaskError(
                "ServerLost", f"{message} (kubectl logs job/VERSION-test -c server)", retryable=True
            ) from error
        document = json.loads(answer)
        if status != 200:
            raise RefusedError(f"the server refuses the rows with {status}: {document.get('error', '')}"[:400])
        return document

    def _body(self, rows: pd.DataFrame) -> tuple[bytes, dict[str, str]]:
        """The rows as binary tensors: NaN is a missing number, and "" a missing text."""
        tensors: list[tuple[str, str, list[int], bytes]] = []
        if self._matrix:
            names = [feature.name for feature in self.manifest.features]
            tensors.append(_numbers(self.manifest.inputs[0].name, rows[names].to_numpy(np.float32)))
        else:
            for tensor in self.manifest.inputs:
                column = rows[tensor.name]
                if tensor.datatype == "BYTES":
                    encoded = [text.encode() for text in column]
                    raw = b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
                    tensors.append((tensor.name, "BYTES", [len(rows), 1], raw))
                else:
                    tensors.append(_numbers(tensor.name, column.to_numpy(np.float32).reshape(-1, 1)))
        inputs = [
            {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
            for name, datatype, shape, raw in tensors
        ]
        head = json.dumps({"inputs": inputs}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        return head + b"".join(raw for *_, raw in tensors), headers

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """One request on the connection that is open; OSError where it breaks."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT)
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._connection = None
            raise error if isinstance(error, OSError) else OSError(str(error)) from error


def _numbers(name: str, values: Any) -> tuple[str, str, list[int], bytes]:
    """A tensor of 32 bits, as the frozen rows have them: the server makes of it what the model takes."""
    return name, "FP32", list(values.shape), values.astype("<f4").tobytes()
