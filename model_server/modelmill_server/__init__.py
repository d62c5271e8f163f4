"""The data plane: what a serving pod runs.

`fetch` brings an artifact into a folder, `serve` answers predictions from it.  The way of a request is
`protocol` (HTTP) -> `app` (routes, limits) -> `inference` -> `v2` and `tensors` (JSON to arrays) -> `model` and
`onnx` or `skops` (the runtime) -> `v2` (arrays to JSON) -> `outbox` (when it is written).  `counters` counts on
the way, and `exposition` shows the counts to Prometheus.  In front mode, `front` hands the body on to another server
with `upstream`, in place of `inference` and what comes behind it.
"""

import os

# Before it is imported: onnxruntime 1.32 otherwise reports to its maker over the Internet, and keeps a file for that.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
