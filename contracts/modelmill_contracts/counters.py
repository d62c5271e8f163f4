"""What a model server counts: the names in its Prometheus text, and the snapshot that the operator collects.

A rename is a breaking change: the operator reads the counters of servers one version older.
"""

import msgspec

REQUESTS = "modelmill_requests"  # counter; labels model, version, code
PREDICTIONS = "modelmill_predictions"  # counter of rows; labels model, version
REFUSALS = "modelmill_refusals"  # counter; labels model, version, reason
REQUEST_SECONDS = "modelmill_request_duration_seconds"  # histogram: from the body's end to the answer's start
COMPUTE_SECONDS = "modelmill_compute_duration_seconds"  # histogram: the model alone
IN_FLIGHT = "modelmill_requests_in_flight"  # gauge
MODEL_INFO = "modelmill_model_info"  # gauge 1; labels model, version, digest, runtime
READY = "modelmill_ready"  # gauge 0 or 1
WORKERS_READY = "modelmill_workers_ready"  # gauge: processes that answer predictions
WORKER_RESTARTS = "modelmill_worker_restarts"  # counter
# Counters of rows in the profile's bins, labels model, version and bin: the bin's index, `other` or `missing`.
FEATURE_ROWS = "modelmill_feature_rows"  # and label feature
PREDICTION_ROWS = "modelmill_prediction_rows"
SCORE_ROWS = "modelmill_score_rows"
# Of a rollout since its epoch began, see `Rollout`; label arm: stable or candidate.
ROLLOUT_REQUESTS = "modelmill_rollout_requests"
ROLLOUT_FAILURES = "modelmill_rollout_failures"
ROLLOUT_COMPUTE_SECONDS = "modelmill_rollout_compute_duration_seconds"
ROLLOUT_STEERED = "modelmill_rollout_steered_requests"
ROLLOUT_FALLBACKS = "modelmill_rollout_fallbacks"  # label reason
ROLLOUT_OPEN_BREAKERS = "modelmill_rollout_open_breakers"  # gauge
SHADOW_REQUESTS = "modelmill_shadow_requests"
SHADOW_FAILURES = "modelmill_shadow_failures"
SHADOW_COMPUTE_SECONDS = "modelmill_shadow_compute_duration_seconds"
SHADOW_COMPARED = "modelmill_shadow_compared"
SHADOW_AGREED = "modelmill_shadow_agreed"
SHADOW_DROPPED = "modelmill_shadow_dropped"
SHADOW_DIFFERENCES = "modelmill_shadow_score_differences"  # label bin: the index of an edge, or the number of edges

# Of capture, see `Capture`.
CAPTURED_ROWS = "modelmill_capture_rows"  # counter; label result: Kept, or why they were not
CAPTURE_LABELS = "modelmill_capture_labels"  # counter; label result
CAPTURE_SEGMENTS = "modelmill_capture_segments"  # counter; label kind: rows or labels
CAPTURE_FAILURES = "modelmill_capture_write_failures"  # counter; label kind
CAPTURE_OLDEST = "modelmill_capture_oldest_row_seconds"  # gauge
CAPTURE_CONNECTED = "modelmill_capture_connected"  # gauge 0 or 1

# Response headers.
VERSION_HEADER = "modelmill-model-version"
COMPUTE_HEADER = "modelmill-compute-us"
# The prediction's id, where the protocol's answer has no place for it; a request of such a protocol may bring one.
ID_HEADER = "modelmill-prediction-id"

# Upper edges in seconds: ratio 2^(1/8), from 16 us to 16.8 s.
# Shared, so that arms and replicas compare exactly.
LATENCY_EDGES: tuple[float, ...] = tuple(16e-6 * 2 ** (i / 8) for i in range(161))

# Upper edges of the largest difference of two answers' scores.
DIFFERENCE_EDGES: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)

SNAPSHOT_PATH = "/snapshot"  # on the metrics port; JSON
SNAPSHOT_VERSION = 1


class Latency(msgspec.Struct, frozen=True):
    """Counts of durations in (edge[i-1], edge[i]] of LATENCY_EDGES and, last, above all; `total` in seconds."""

    counts: tuple[int, ...]
    total: float


class Bins(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows by bin: `counts` are in the order of the profile's bins, of numbers or of categories."""

    name: str
    counts: tuple[int, ...]
    other: int = 0  # categories that the profile does not name
    missing: int = 0


class Trained(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the profile counted of one part, in its bins; `other` is None of numbers, which have no other categories."""

    name: str
    counts: tuple[int, ...]
    missing: int = 0
    other: int | None = None
    edges: tuple[float, ...] = ()  # of scores alone, and not from servers of releases before it


class Reference(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the profile counted in training, in the bins and in the order of a snapshot's own counts.

    Features are counted over the training rows, predictions and scores over rows that the model had not seen.
    """

    features: tuple[Trained, ...] = ()
    predictions: Trained | None = None
    scores: Trained | None = None


# Why the stable answered a request of the candidate's.  The candidate's failures are:
FAILURES = (
    *("Failed", "Busy", "Invalid", "TooLarge"),  # 5xx, 429, no answer of the protocol, one that is too large
    *("Unreachable", "Lost", "Late"),  # no connection, closed before the answer was whole, slower than the deadline
    "BreakerOpen",  # so many failures before that it was not asked
    "Rejected",  # 4xx where the stable answers 2xx
)
# What says nothing of it: 4xx where the stable has no other answer, an idle connection that was closed just then, too
# many requests on their way.
FALLBACKS = (*FAILURES, "Refused", "Stale", "Overflow")


class Arm(msgspec.Struct, frozen=True):
    """What became of the requests that were assigned to one arm of a rollout, whoever answered them in the end.

    `failures` are of that arm: 5xx, 429, time-outs, malformed answers, no connection, and of the candidate 4xx where
    the stable answers 2xx.  `compute` are the model's times of the answers that did not fail.
    """

    requests: int
    failures: int
    compute: Latency


class Shadow(msgspec.Struct, frozen=True):
    """Requests that the stable answered and the candidate got a copy of, as both arms took them.

    `compared` are those that both answered, `agreed` those of them with equal predictions: labels, or numbers within
    a thousandth.
    """

    stable: Arm
    candidate: Arm
    compared: int = 0
    agreed: int = 0
    dropped: int = 0  # copies that were not sent, as too many were on their way
    # Of those compared whose answers have scores, by the largest difference: up to each of DIFFERENCE_EDGES, and above.
    differences: tuple[int, ...] = ()


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """What one server counted of a rollout since its `epoch` began there (see `routes`)."""

    epoch: str
    stable: Arm
    candidate: Arm
    steered: int = 0  # requests with `routes.ARM_HEADER`, which are in neither arm
    fallbacks: dict[str, int] = {}  # requests of the candidate's that the stable answered, by one of FALLBACKS
    open_breakers: int = 0  # workers that send the candidate nothing for now
    shadow: Shadow | None = None


class Written(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the container that writes segments has done since it started; `kind`s are rows and labels."""

    segments: dict[str, int] = {}  # by kind
    failures: dict[str, int] = {}  # attempts that failed, by kind
    dropped: int = 0  # rows for which it had no room
    oldest: float = 0.0  # seconds since the oldest row came that is not written
    trouble: str = ""  # the reason why the last attempt failed; "": it did not


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows that were to be kept, and of labels."""

    rows: dict[str, int]  # Kept: handed over to be written; else why not
    labels: dict[str, int]  # Written, NotSampled (their predictions are not kept), Failed (their sender was told)
    connected: bool  # with what writes
    written: Written


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All counters of one server since `started`.  With another `started` they began at zero again.

    `edges` is the digest of the profile's bins (`profile.edges_digest`), "" where the model has no profile; counts
    with different digests are never compared.  `reference` is absent there, too, and from servers of releases before
    it: it came without another version, as whoever does not know it ignores it.
    """

    version: int = SNAPSHOT_VERSION
    model: str
    model_version: str
    arm: str  # of a rollout, e.g. stable or candidate; "" where none was given
    digest: str  # the artifact's, "" where it is not known
    edges: str
    started: float  # seconds since the Unix epoch
    ready: bool
    workers_ready: int
    worker_restarts: int
    in_flight: int
    requests: dict[str, int]  # inference requests by status code
    refusals: dict[str, int]  # by reason, of any path
    rows: int  # predicted
    request: Latency
    compute: Latency
    features: tuple[Bins, ...] = ()
    predictions: Bins | None = None
    scores: Bins | None = None
    reference: Reference | None = None
    rollout: Rollout | None = None  # of the pods that serve while another revision is rolled out
    capture: Capture | None = None  # where it is on
