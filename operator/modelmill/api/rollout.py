"""How a ModelDeployment brings up a new revision: step by step, by evidence, and back where it is worse."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.requirement import MAX_LATENCIES, LatencyBound
from modelmill.api.schema import ATOMIC, INT64, Decimal, Duration, Fraction, Rule, Schema, Timestamp, listmap

MANUAL = "Manual"
# Actions that people ask for by the annotation; see `modelmill.core.actions`.
VERBS = ("pause", "resume", "promote", "abort", "retry", "undo")

Percent = Annotated[int, Field(ge=1, le=99)]
Hold = Annotated[str, Field(max_length=32, pattern=r"^(Manual|([0-9]{1,6}(ms|s|m|h)){1,4})$")]
# At least a second: as often are pods asked, and so often may a status be written.
Interval = Annotated[str, Field(max_length=7, pattern=r"^[1-9][0-9]{0,5}(s|m|h)$")]
Ratio = Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]{0,3}(\.[0-9]+)?$")]


class Step(Schema):
    """A step: copies of requests (shadow), or a share of them (weight)."""

    rules: ClassVar = (
        Rule("has(self.shadow) != has(self.weight)", "give either shadow or weight"),
        Rule("has(self.weight) || !has(self.hold)", "hold goes with weight", ".hold", "FieldValueForbidden"),
    )

    shadow: Duration | None = None
    """For how long the candidate gets copies of the requests; nobody is given its answers."""
    weight: Percent | None = None
    """The share of requests in percent that the candidate answers."""
    hold: Hold | None = None
    """How long the step takes at least: a duration, or Manual until somebody resumes it. Default: 5m."""


class ErrorRate(Schema):
    """How much more often requests may fail."""

    max_increase: Fraction = "0.01"
    """By how much the candidate's share of failed requests may exceed the stable's: 0.01 is one of 100."""


class Latency(Schema):
    """How much slower the model may be."""

    quantile: Fraction = "0.99"
    """The quantile of the model's compute time that is compared, besides the median and 0.9."""
    max_ratio: Ratio = "1.2"
    """How many times as slow the candidate may be in these quantiles."""


class Agreement(Schema):
    """How often predictions must be the same."""

    min: Fraction
    """The least share of copied requests to which both revisions give the same prediction."""


class PrometheusQuery(Schema):
    """A number that Prometheus knows, and the bound that it has to keep."""

    rules: ClassVar = (
        Rule("has(self.min) || has(self.max)", "give min, max or both"),
        Rule(
            "!(has(self.min) && has(self.max)) || double(self.min) <= double(self.max)",
            "min must not be above max",
            found=("min", "max"),
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-zA-Z][-a-zA-Z0-9]*$")]
    """What it is called in the status."""
    query: Annotated[str, Field(min_length=1, max_length=2048)]
    """PromQL that gives one number. It sees this namespace alone. As a matcher's value, $version, $revision,
    $stableVersion and $stableRevision stand for the two revisions."""
    min: Decimal | None = None
    """The least that it may be."""
    max: Decimal | None = None
    """The most that it may be."""
    failures: Annotated[int, Field(ge=1, le=100)] = 3
    """How many answers in a row, an interval apart, outside of the bound are against the candidate."""


class Analysis(Schema):
    """What evidence decides, and how much of it."""

    confidence: Annotated[str, Field(max_length=10, pattern=r"^0\.[5-9][0-9]{0,7}$")] = "0.95"
    """A candidate within all bounds is rolled back by chance with a probability of at most 1 - confidence, and one
    beyond a bound promoted by it; however often one looks."""
    interval: Interval = "15s"
    """How long evidence is gathered before it is weighed, again and again; longer where few requests come."""
    min_requests: Annotated[int, Field(ge=1, le=1000000000, json_schema_extra=INT64)] = 500
    """How many requests the candidate must have been given before its first step ends."""
    error_rate: ErrorRate = ErrorRate()
    """How much more often the candidate's requests may fail: 5xx, 429, time-outs, malformed answers."""
    latency: Latency | None = None
    """How much slower the candidate's model may be. Absent: it is not looked at."""
    latency_bounds: Annotated[tuple[LatencyBound, ...], Field(max_length=MAX_LATENCIES, json_schema_extra=ATOMIC)] = ()
    """How long the model may take in the end: the candidate's share of computations that take longer than max may
    exceed the stable's by at most 1 - quantile. What a UseCase requires is among them by itself."""
    agreement: Agreement | None = None
    """How often predictions on copied requests must be the same. Absent: it is not looked at."""
    prometheus: Annotated[tuple[PrometheusQuery, ...], Field(max_length=4, json_schema_extra=listmap("name"))] = ()
    """What else has to be so, asked of the Prometheus that the operator was given. No step in which the candidate
    answers requests, and no last one, ends unless each query is within its bound. It is no evidence: it promises
    nothing of chance."""
    deadline: Duration = "24h"
    """How long a rollout may go on without a verdict, holds that wait for somebody left out."""
    on_inconclusive: Literal["Pause", "Rollback"] = "Pause"
    """What becomes of a candidate without a verdict at the deadline. It is never promoted for that."""


class Sticky(Schema):
    """Who stays with one revision."""

    # As in routes.Routes.
    header: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9][-a-zA-Z0-9_]*$")]
    """Name of a request header: requests with the same value of it go to the same revision."""


class Rollout(Schema):
    """How a new revision takes over."""

    rules: ClassVar = (
        Rule(
            "self.strategy != 'RollingUpdate' || !(has(self.steps) || has(self.analysis) || has(self.stickyBy))",
            "steps, analysis and stickyBy do not go with RollingUpdate: name another strategy",
        ),
        Rule(
            "self.strategy in ['RollingUpdate', 'Canary'] || !has(self.steps) || self.steps.all(s, has(s.shadow))",
            "steps with a weight go with Canary alone",
            ".steps",
        ),
        Rule(
            "!has(self.steps) || self.steps.map(s, has(s.weight) ? s.weight : 0).isSorted()",
            "weights must rise, and copies come before weights",
            ".steps",
        ),
        Rule(
            "!has(self.steps) || self.steps.all(s, !has(s.weight)"
            " || self.steps.exists_one(t, has(t.weight) && t.weight == s.weight))",
            "no two steps may have the same weight",
            ".steps",
        ),
        Rule(
            "!has(self.analysis) || !has(self.analysis.agreement) || self.strategy in ['BlueGreen', 'Shadow']"
            " || (has(self.steps) && self.steps.exists(s, has(s.shadow)))",
            "agreement is found by copies: it takes a step with shadow",
            ".analysis",
        ),
        Rule(
            "self.strategy == 'Canary' || !has(self.stickyBy)",
            "stickyBy goes with Canary: with the others all requests go to one revision",
            ".stickyBy",
            "FieldValueForbidden",
        ),
    )

    strategy: Literal["RollingUpdate", "Canary", "BlueGreen", "Shadow"] = "RollingUpdate"
    """RollingUpdate: takes over once all pods are ready. Canary: gets more and more requests. BlueGreen: gets copies,
    then takes over at once. Shadow: gets copies until somebody promotes it."""
    steps: Annotated[tuple[Step, ...] | None, Field(min_length=1, max_length=16, json_schema_extra=ATOMIC)] = None
    """The steps, in order. Default: of a Canary the weights 5, 25 and 50 for 5m each; of the others copies for 10m."""
    analysis: Analysis | None = None
    """What evidence decides. Default: that of its fields."""
    on_failure: Literal["Rollback", "Pause"] = "Rollback"
    """What becomes of a candidate that the evidence is against. Pause: it gets no requests, and waits for somebody."""
    sticky_by: Sticky | None = None
    """Who stays with one revision. Default: each request is sent by chance."""


class Evidence(Schema):
    """What one gate of the analysis knows."""

    gate: Annotated[str, Field(max_length=32)]
    """The gate, such as errorRate."""
    log_e: Annotated[Decimal, Field(alias="logE")]
    """The natural logarithm of the evidence against the candidate; at the threshold it is rolled back."""
    threshold: Decimal
    """What logE must reach for a rollback."""
    log_e_promotion: Annotated[Decimal | None, Field(alias="logEPromotion")] = None
    """The natural logarithm of the evidence for the candidate. Absent: the gate can only speak against it."""
    threshold_promotion: Decimal | None = None
    """What logEPromotion must reach before the candidate takes over."""
    verdict: Literal["Promote", "Hold", "Reject"]
    """What the gate says: for the candidate, against it, or not yet."""


class OpenEvidence(Evidence):
    """What one gate of a rollout that goes on knows."""

    state: Annotated[str, Field(max_length=8192)] = ""
    """What the operator goes on from, so that its restart changes nothing; for programs."""


class QueryVerdict(Schema):
    """What a query of the analysis says, its number left out."""

    name: Annotated[str, Field(max_length=32)]
    """The query's name."""
    verdict: Literal["Promote", "Hold", "Reject"]
    """For the candidate, against it, or not yet."""
    reason: Annotated[str, Field(max_length=64)]
    """Why, in one CamelCase word."""


class QueryStatus(QueryVerdict):
    """What a query of a rollout that goes on says."""

    failures: Annotated[int | None, Field(ge=0, le=100)] = None
    """How many answers in a row were outside of the bound."""
    counted_at: Timestamp | None = None
    """When the last of them was given."""


class PassedStep(Schema):
    """A step that a rollout has behind it, and what had been counted when it ended."""

    step: Annotated[int, Field(ge=1, le=16)]
    """Which one, 1 being the first."""
    weight: Annotated[int, Field(ge=0, le=100)]
    """The share of requests in percent that the candidate answered."""
    shadow: Annotated[int, Field(ge=0, le=100)]
    """The share of requests in percent that it got copies of."""
    started_at: Timestamp
    """When it began."""
    ended_at: Timestamp
    """When it ended."""
    requests: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many requests the candidate had been given by then, since the first step began."""
    failures: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many of them had failed."""


Passed = Annotated[tuple[PassedStep, ...], Field(max_length=16, json_schema_extra=ATOMIC)]


class CandidateStatus(Schema):
    """The revision that is coming up, and how far it is."""

    revision: Annotated[str, Field(max_length=16)]
    """The revision: eight hex digits that stand for artifact, server and store."""
    version: Annotated[int | None, Field(json_schema_extra=INT64)] = None
    """Number of the model's version. Absent: it serves an artifact by uri."""
    ready: Annotated[int, Field(ge=0)] = 0
    """How many of its pods are ready."""
    step: Annotated[int | None, Field(ge=1, le=17)] = None
    """Which step it is at, 1 being the first; one more than there are: it is taking over."""
    steps: Annotated[int | None, Field(ge=1, le=16)] = None
    """How many steps there are."""
    weight: Annotated[int | None, Field(ge=0, le=100)] = None
    """The share of requests in percent that it is to answer."""
    shadow: Annotated[int | None, Field(ge=0, le=100)] = None
    """The share of requests in percent that it is to get copies of."""
    requests: Annotated[int | None, Field(ge=0, json_schema_extra=INT64)] = None
    """How many requests it was given, copies included, as far as they have been weighed."""
    failures: Annotated[int | None, Field(ge=0, json_schema_extra=INT64)] = None
    """How many of them failed; users were answered by the stable revision."""
    evidence: Annotated[tuple[OpenEvidence, ...], Field(max_length=12, json_schema_extra=listmap("gate"))] = ()
    """What each gate of the analysis knows."""
    prometheus: Annotated[tuple[QueryStatus, ...], Field(max_length=4, json_schema_extra=listmap("name"))] = ()
    """What each query of the analysis says."""
    message: Annotated[str | None, Field(max_length=1024)] = None
    """What it waits for."""
    state: Literal["Running", "Resumed", "Paused", "Rejected", "Inconclusive"] | None = None
    """Running, Resumed (the hold was ended by somebody), or why it stands still until somebody decides."""
    started_at: Timestamp | None = None
    """When its first step began."""
    step_at: Timestamp | None = None
    """When this step began."""
    windows: Annotated[int | None, Field(ge=0, json_schema_extra=INT64)] = None
    """How many times evidence has been weighed."""
    weighed_at: Timestamp | None = None
    """When that was last."""
    epoch: Annotated[str | None, Field(max_length=64)] = None
    """What pods count for it under: the revision, its settings and when it began."""
    passed: Passed = ()
    """The steps that it has behind it."""


class RolledBack(Schema):
    """A revision that is not tried again by itself."""

    revision: Annotated[str, Field(max_length=16)]
    """The revision: eight hex digits that stand for artifact, server and store."""
    version: Annotated[int | None, Field(json_schema_extra=INT64)] = None
    """Number of the model's version. Absent: it serves an artifact by uri."""
    reason: Annotated[str, Field(max_length=128)]
    """Why, in one CamelCase word."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """Why, in words for people."""
    spec: Annotated[str, Field(max_length=16)]
    """Digits that stand for the spec without replicas: with another one it is tried again."""
    at: Timestamp
    """When it was rolled back."""


class LastRollout(Schema):
    """The rollout that ended last, for people: kubectl mill rollout NAME --html FILE."""

    revision: Annotated[str, Field(max_length=16)]
    """The revision that came up: eight hex digits that stand for artifact, server and store."""
    version: Annotated[int | None, Field(json_schema_extra=INT64)] = None
    """Number of the model's version. Absent: it serves an artifact by uri, or nobody knows any more."""
    stable: Annotated[str | None, Field(max_length=16)] = None
    """The revision that served meanwhile."""
    strategy: Literal["RollingUpdate", "Canary", "BlueGreen", "Shadow"]
    """How it was to take over."""
    outcome: Literal["Promoted", "RolledBack", "Superseded"]
    """It took over, was rolled back, or something else was asked for before it came to its end."""
    reason: Annotated[str | None, Field(max_length=128)] = None
    """Why it was rolled back, in one CamelCase word."""
    message: Annotated[str | None, Field(max_length=1024)] = None
    """Why it was rolled back, in words for people."""
    started_at: Timestamp
    """When its first step began."""
    ended_at: Timestamp
    """When it ended."""
    windows: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many times evidence was weighed."""
    requests: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many requests the candidate was given, copies included."""
    failures: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many of them failed; users were answered by the stable revision."""
    evidence: Annotated[tuple[Evidence, ...], Field(max_length=12, json_schema_extra=listmap("gate"))] = ()
    """What each gate of the analysis knew."""
    prometheus: Annotated[tuple[QueryVerdict, ...], Field(max_length=4, json_schema_extra=listmap("name"))] = ()
    """What each query of the analysis said."""
    passed: Passed = ()
    """The steps that it had behind it."""
