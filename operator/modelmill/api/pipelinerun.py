"""PipelineRun: one run of a Pipeline.  Whoever may create one starts a run."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.pipeline import MAX_STAGES, MAX_STAGES_TEXT, PartName, RunName, Uid
from modelmill.api.schema import (
    IMMUTABLE,
    INT64,
    NAME_LENGTH,
    NAME_PATTERN,
    ObjectName,
    Resource,
    Rule,
    Schema,
    Status,
    Timestamp,
    immutable,
    listmap,
)

RUN_NAME_LENGTH = 63  # as long as a label's value


class PipelineReference(Schema):
    """A Pipeline in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH, pattern=NAME_PATTERN)]
    """The Pipeline's name."""


class RunReference(Schema):
    """A PipelineRun in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=RUN_NAME_LENGTH, pattern=NAME_PATTERN)]
    """The PipelineRun's name."""


class Cause(Schema):
    """Why the run was started."""

    trigger: PartName
    """Name of the Pipeline's trigger, or a word of your own, such as ci."""
    key: Annotated[str, Field(max_length=1024)] = ""
    """Which cause of that trigger: a time of the schedule, a version of the Dataset, conditions with the times at which
    they became True, or a digest of the stages."""
    message: Annotated[str, Field(max_length=512)] = ""
    """Why, in words for people."""


class PipelineRunSpec(Schema):
    """One run. It is immutable but for cancel: to run again, create another PipelineRun."""

    rules: ClassVar = (
        Rule(
            "has(self.cause) == has(oldSelf.cause) && (!has(self.cause) || self.cause == oldSelf.cause)",
            IMMUTABLE,
            ".cause",
            "FieldValueForbidden",
        ),
        Rule(
            "has(self.retryOf) == has(oldSelf.retryOf) && (!has(self.retryOf) || self.retryOf == oldSelf.retryOf)",
            IMMUTABLE,
            ".retryOf",
            "FieldValueForbidden",
        ),
        Rule(
            "self.cancel || !oldSelf.cancel",
            "what was cancelled stays cancelled: create another PipelineRun with retryOf",
            ".cancel",
            "FieldValueForbidden",
        ),
        immutable("pipelineRef"),
    )

    pipeline_ref: PipelineReference
    """The Pipeline. Its stages are copied to status.pipeline when the run starts: later edits do not change the run."""
    cause: Cause | None = None
    """Absent: somebody created the run by hand."""
    retry_of: RunReference | None = None
    """A run of the same Pipeline that failed: this one has its stages, takes over what those gave that succeeded, and
    starts at the one that failed. Absent: every stage is run."""
    cancel: bool = False
    """True: end the run now; what it has under way is deleted. It fails, and can be retried."""


class FrozenPipeline(Schema):
    """The Pipeline as it was when the run started, as far as the run depends on it."""

    uid: Uid
    """UID of the Pipeline."""
    generation: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """Its metadata.generation."""
    stages: Annotated[str, Field(max_length=MAX_STAGES_TEXT)]
    """Its spec.stages as JSON, which this run does whatever becomes of them. With retryOf, those of the run that is
    retried."""


class MadeObject(Schema):
    """An object that a stage made, or looks at."""

    kind: Annotated[str, Field(max_length=64)]
    """Its kind, such as TrainingJob."""
    name: ObjectName
    """Its name."""
    uid: Uid | None = None
    """Its UID. Absent: it was not there yet."""


class StageStatus(Schema):
    """How one stage goes."""

    name: PartName
    """The stage's name."""
    state: Literal["Pending", "Running", "Succeeded", "Failed", "Skipped"]
    """Pending: those before it have not succeeded yet. Skipped: the run ended before it, and it was not needed or not
    reached."""
    output: Annotated[str | None, Field(max_length=256)] = None
    """What the next stages go on with: a Dataset's version, or the name of a ModelVersion; of a training that makes
    none, the digest of its artifact. Absent: nothing yet."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """What it waits for, what came of it, or why it failed and what to do."""
    progress: Annotated[int | None, Field(ge=0, le=100)] = None
    """How far it is, in percent: of the training, or the share of requests that the new version answers. Absent: not
    known."""
    made: MadeObject | None = None
    """The object that is worth a look. Absent: none."""
    taken_from: RunName | None = None
    """The run that it succeeded in, where this one retries that. Absent: it ran in this one."""
    started_at: Timestamp | None = None
    """When it started."""
    finished_at: Timestamp | None = None
    """When it ended."""


class PipelineRunStatus(Status):
    """How the run goes. Conditions: Succeeded, Failed, Reconciling, Stalled."""

    pipeline: FrozenPipeline | None = None
    """Absent: the run has not started."""
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=MAX_STAGES, json_schema_extra=listmap("name"))] = ()
    """How each stage goes, in order."""
    stage: PartName | None = None
    """Name of the stage that runs, or that the run ended with."""
    model_version: Annotated[str | None, Field(max_length=63)] = None
    """Name of the ModelVersion that the run made or found."""
    summary: Annotated[str | None, Field(max_length=512)] = None
    """The stages in a line, such as: data 4f2a91c0 > train 40% > gate > release."""
    started_at: Timestamp | None = None
    """When the run started."""
    finished_at: Timestamp | None = None
    """When it ended."""


class PipelineRun(Resource):
    """One run of a Pipeline. Whoever may create one starts a run."""

    plural: ClassVar = "pipelineruns"
    short: ClassVar = "mplr"
    name_length: ClassVar = RUN_NAME_LENGTH
    columns: ClassVar = (
        ("Pipeline", "string", ".spec.pipelineRef.name"),
        ("Cause", "string", ".spec.cause.trigger"),
        ("Succeeded", "string", '.status.conditions[?(@.type=="Succeeded")].status'),
        ("Reason", "string", '.status.conditions[?(@.type=="Succeeded")].reason'),
        ("Stages", "string", ".status.summary"),
        ("Version", "string", ".status.modelVersion"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("Why", "string", ".spec.cause.message"),
        ("Message", "string", '.status.conditions[?(@.type=="Succeeded")].message'),
    )
    selectable: ClassVar = (".spec.pipelineRef.name", ".status.modelVersion")

    spec: PipelineRunSpec
    status: PipelineRunStatus = PipelineRunStatus.model_construct()
