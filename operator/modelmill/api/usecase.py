"""UseCase: what a model is for, what it is worth, and what was promised of it.  Models refer to it."""

from typing import Annotated, ClassVar

from pydantic import Field

from modelmill.api.requirement import (
    MAX_LATENCIES,
    MAX_REQUIREMENTS,
    DataRequirement,
    Requirement,
    RequirementName,
    Truth,
)
from modelmill.api.schema import (
    ATOMIC,
    INT64,
    SET,
    Decimal,
    ObjectName,
    Resource,
    Rule,
    Schema,
    Status,
    Timestamp,
    listmap,
)

MAX_MODELS = 16

Points = Annotated[int, Field(ge=0, le=100)]


class Priority(Schema):
    """What is done first: weighted shortest job first. Only the proportions between the use cases of a namespace
    count."""

    value: Points
    """What it is worth to users and the business, such as 1, 2, 3, 5, 8 or 13."""
    urgency: Points = 0
    """How much of that is lost by waiting."""
    risk_reduction: Points = 0
    """What it takes away of risks, or opens of opportunities."""
    effort: Annotated[int, Field(ge=1, le=100)]
    """What it takes until it is done."""


class UseCaseSpec(Schema):
    """What is to be achieved."""

    rules: ClassVar = (
        Rule(
            "!has(self.requirements) || self.requirements.filter(r, has(r.availability)).size() <= 1",
            "give one availability at most",
            ".requirements",
        ),
        Rule(
            f"!has(self.requirements) || self.requirements.filter(r, has(r.latency)).size() <= {MAX_LATENCIES}",
            f"give {MAX_LATENCIES} latencies at most",
            ".requirements",
        ),
    )

    owner: Annotated[str, Field(min_length=1, max_length=256)]
    """Who answers for it: a person or a team."""
    description: Annotated[str, Field(max_length=1024)] = ""
    """What it is for, in words for people."""
    priority: Priority | None = None
    """Absent: it has no rank, and its training runs come after those of use cases that have one."""
    data: Annotated[tuple[DataRequirement, ...], Field(max_length=16, json_schema_extra=ATOMIC)] = ()
    """Data that must be there, and large enough, before anything is trained."""
    requirements: Annotated[
        tuple[Requirement, ...], Field(max_length=MAX_REQUIREMENTS, json_schema_extra=listmap("name"))
    ] = ()
    """What is promised. Of Models that refer to it, metric and latency are tested of each version, latency and
    availability bound rollouts and are measured of what serves."""


class RequirementStatus(Schema):
    """What was found of one requirement."""

    name: RequirementName
    """The requirement's name."""
    met: Truth
    """Whether it is met. Unknown: nothing says so yet."""
    observed: Annotated[str | None, Field(max_length=64)] = None
    """What was found; of several the worst. Absent: nothing was."""
    threshold: Annotated[str, Field(max_length=128)]
    """What is asked."""
    evidence: Annotated[str | None, Field(max_length=128)] = None
    """Where it was found, such as modelversion/triage-7. Absent: nowhere yet."""
    at: Timestamp | None = None
    """When it was found."""
    message: Annotated[str | None, Field(max_length=512)] = None
    """Why it is not met or not known, and what to do."""


class Automation(Schema):
    """How much goes on by itself, and by what that was found."""

    evidence: Annotated[
        tuple[Annotated[str, Field(max_length=256)], ...], Field(max_length=16, json_schema_extra=ATOMIC)
    ] = ()
    """What is wired up."""
    next: Annotated[str | None, Field(max_length=512)] = None
    """What is missing to the next level. Absent: there is none."""


class UseCaseStatus(Status):
    """Where it stands. Conditions: Feasible, RequirementsMet, Ready, Reconciling, Stalled."""

    score: Decimal | None = None
    """What is gained by the effort: (value + urgency + riskReduction) / effort. Absent: no priority is declared."""
    rank: Annotated[int | None, Field(ge=1, json_schema_extra=INT64)] = None
    """Its place among the use cases of the namespace by score, 1 being the first; equal scores share a place. Absent:
    no priority is declared."""
    met: Annotated[str | None, Field(max_length=8)] = None
    """How many of the requirements are met, such as 4/5. Absent: there are none."""
    next: Annotated[str | None, Field(max_length=512)] = None
    """What to do next. Absent: nothing."""
    automation_level: Annotated[int | None, Field(ge=0, le=2)] = None
    """Level 0: by hand. 1: a Pipeline trains by itself. 2: and what it makes is tested, rolled out on evidence, and
    declared in Git."""
    automation: Automation | None = None
    models: Annotated[tuple[ObjectName, ...], Field(max_length=MAX_MODELS, json_schema_extra=SET)] = ()
    """The Models that refer to it."""
    requirements: Annotated[
        tuple[RequirementStatus, ...], Field(max_length=MAX_REQUIREMENTS, json_schema_extra=listmap("name"))
    ] = ()
    """What was found of each requirement."""


class UseCase(Resource):
    """What a model is for, what it is worth, and what was promised of it."""

    plural: ClassVar = "usecases"
    short: ClassVar = "usecase"
    columns: ClassVar = (
        ("Rank", "integer", ".status.rank"),
        ("Score", "string", ".status.score"),
        ("Met", "string", ".status.met"),
        ("Feasible", "string", '.status.conditions[?(@.type=="Feasible")].status'),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Automation", "integer", ".status.automationLevel"),
        ("Next", "string", ".status.next"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("Owner", "string", ".spec.owner"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Automate", "string", ".status.automation.next"),
    )

    spec: UseCaseSpec
    status: UseCaseStatus = UseCaseStatus.model_construct()
