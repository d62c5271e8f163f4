"""The names of the counters that a model server exports and that dashboards and the operator read.

A rename is a breaking change: the operator reads the counters of servers one version older.
"""

REQUESTS = "modelmill_requests"  # counter; labels model, version, code
PREDICTIONS = "modelmill_predictions"  # counter of rows; labels model, version
REFUSALS = "modelmill_refusals"  # counter; labels model, version, reason
REQUEST_SECONDS = "modelmill_request_duration_seconds"  # histogram: from the body's end to the answer's start
COMPUTE_SECONDS = "modelmill_compute_duration_seconds"  # histogram: the model alone
IN_FLIGHT = "modelmill_requests_in_flight"  # gauge
MODEL_INFO = "modelmill_model_info"  # gauge 1; labels model, version, digest, runtime
READY = "modelmill_ready"  # gauge 0 or 1

# Response headers.
VERSION_HEADER = "modelmill-model-version"
COMPUTE_HEADER = "modelmill-compute-us"

# Upper edges in seconds: ratio 2^(1/8), from 16 us to 16.8 s.
# Shared, so that arms and replicas compare exactly.
LATENCY_EDGES: tuple[float, ...] = tuple(16e-6 * 2 ** (i / 8) for i in range(161))
