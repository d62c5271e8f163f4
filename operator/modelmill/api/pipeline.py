"""Pipeline: what is to be done to get from data to a version that serves, and what starts it."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from modelmill.api.dataset import CRON, DatasetReference
from modelmill.api.experiment import ExperimentSpec, Trials
from modelmill.api.schema import (
    ATOMIC,
    INT64,
    NAME_PATTERN,
    SET,
    ObjectReference,
    Resource,
    Rule,
    Schema,
    Status,
    Timestamp,
    listmap,
)
from modelmill.api.trainingjob import TrainingJobSpec

MAX_STAGES = 8
MAX_TRIGGERS = 16
MAX_RUNS_PER_DAY = 288  # one every five minutes
MAX_STAGES_TEXT = 131072  # characters of all stages as JSON: a run keeps a copy

# Short: the names of runs, and of what they make, have it in them.
PartName = Annotated[str, Field(min_length=1, max_length=20, pattern=NAME_PATTERN)]
# From a second to three years: every stage ends.
Timeout = Annotated[str, Field(max_length=15, pattern=r"^([1-9][0-9]{0,3}(s|m|h)){1,3}$")]
Cooldown = Annotated[str, Field(max_length=15, pattern=r"^(0s|([1-9][0-9]{0,3}(s|m|h)){1,3})$")]
RunName = Annotated[str, Field(max_length=63)]
Uid = Annotated[str, Field(max_length=64)]


class RefreshStage(Schema):
    """A Dataset whose source is read anew. Data that is the same is the same version."""

    dataset_ref: DatasetReference
    """The Dataset in the same namespace."""


def _editable(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """What holds of a template, which may be edited: each run has its own copy."""
    return tuple(rule for rule in rules if "oldSelf" not in rule.cel)


class TrainingTemplateSpec(TrainingJobSpec):
    """What the TrainingJob is to be, as its spec. Where a stage before it refreshed its Dataset, and data.version is
    absent, it trains on what that found."""

    rules: ClassVar = _editable(TrainingJobSpec.rules)


class TrainingStage(Schema):
    """A TrainingJob that the run makes. A recipe that a version of the Model has is not trained again: the run ends."""

    spec: TrainingTemplateSpec


class TrialsTemplate(Trials):
    """How many trials there are, and when to give up."""

    rules: ClassVar[Any] = _editable(Trials.rules)


class ExperimentTemplateSpec(ExperimentSpec):
    """What the Experiment is to be, as its spec; with promote: Best where stages follow. Where a stage before it
    refreshed its Dataset, and template.spec.data.version is absent, it trains on what that found."""

    rules: ClassVar = _editable(ExperimentSpec.rules)

    trials: TrialsTemplate = TrialsTemplate.model_construct()


class ExperimentStage(Schema):
    """An Experiment that the run makes."""

    spec: ExperimentTemplateSpec


class RolloutStage(Schema):
    """A ModelDeployment whose spec.model names the model without a version, so that it takes the new one by itself."""

    deployment_ref: ObjectReference
    """The ModelDeployment in the same namespace."""


class Stage(Schema):
    """One thing to do: exactly one of refresh, trainingJob, experiment, approve and rollout. It starts when the one
    before it has succeeded, with what that gave."""

    rules: ClassVar = (
        Rule(
            "[has(self.refresh), has(self.trainingJob), has(self.experiment), has(self.approve),"
            " has(self.rollout)].filter(x, x).size() == 1",
            "give exactly one of refresh, trainingJob, experiment, approve, rollout",
        ),
    )

    name: PartName
    """The stage's name, unique among the stages."""
    refresh: RefreshStage | None = None
    training_job: TrainingStage | None = None
    experiment: ExperimentStage | None = None
    approve: Literal["Automatic", "Manual"] | None = None
    """Wait until the version that was trained is Ready. Automatic: its Model says what that takes. Manual: somebody has
    to approve it, too, by a ModelApproval, whatever the Model asks for. A rejection fails the run."""
    rollout: RolloutStage | None = None
    timeout: Timeout = "24h"
    """The longest that the stage may take: a duration such as 90m or 168h (not 7d). The run fails then."""


class Schedule(Schema):
    """Times at which a run starts."""

    cron: Annotated[str, Field(max_length=128, pattern=CRON)]
    """Minute, hour, day of the month, month and day of the week (0 and 7 are Sunday), as in cron: "0 3 * * MON-FRI". Of
    times that went by while nothing could start only the last is made up for."""
    time_zone: Annotated[
        str, Field(max_length=64, pattern=r"^[A-Za-z][-A-Za-z0-9_+]*(/[A-Za-z0-9][-A-Za-z0-9_+]*)*$")
    ] = "Etc/UTC"
    """The time zone that cron is in, by its IANA name, such as Europe/Berlin. A time that comes twice when clocks are
    set back counts once, unless the hour is *; one that is left out counts as much later as they are set forward."""


class NewVersionOf(Schema):
    """A Dataset whose new versions start a run; but not those that a run of this Pipeline made itself."""

    dataset_ref: DatasetReference
    """The Dataset in the same namespace. The version that it has when the trigger is declared starts none."""


class OnCondition(Schema):
    """Conditions of a ModelDeployment that start a run when they become True, or are when the trigger is declared."""

    deployment_ref: ObjectReference
    """The ModelDeployment in the same namespace."""
    types: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z]+$")], ...],
        Field(min_length=1, max_length=8, json_schema_extra=SET),
    ]
    """The conditions' types, such as DriftDetected. Each time that one of them becomes True is one cause."""


class Trigger(Schema):
    """What starts a run: exactly one of schedule, newVersionOf, onCondition and onSpecChange."""

    rules: ClassVar = (
        Rule(
            "[has(self.schedule), has(self.newVersionOf), has(self.onCondition),"
            " has(self.onSpecChange) && self.onSpecChange].filter(x, x).size() == 1",
            "give exactly one of schedule, newVersionOf, onCondition, onSpecChange: true",
        ),
    )

    name: PartName
    """The trigger's name, unique among the triggers."""
    schedule: Schedule | None = None
    new_version_of: NewVersionOf | None = None
    on_condition: OnCondition | None = None
    on_spec_change: bool | None = None
    """True: other stages than those that ran last start a run, the first ones included. So a commit that changes
    them does, and one that changes anything else of this object does not."""


class RunHistoryLimit(Schema):
    """How many runs that have ended are kept, the newest first, of those that triggers and kubectl mill run started."""

    succeeded: Annotated[int, Field(ge=0, le=100)] = 5
    """How many that succeeded."""
    failed: Annotated[int, Field(ge=0, le=100)] = 5
    """How many that failed."""


class PipelineSpec(Schema):
    """What is to be done, and when. A run that has begun goes on with the stages that were declared then."""

    triggers: Annotated[tuple[Trigger, ...], Field(max_length=MAX_TRIGGERS, json_schema_extra=listmap("name"))] = ()
    """What starts a run. Absent: only who creates a PipelineRun."""
    concurrency_policy: Literal["Forbid", "Replace", "Queue"] = "Forbid"
    """What becomes of a cause, or of a PipelineRun that somebody creates, while a run goes on. Forbid: nothing.
    Replace: that run is cancelled first. Queue: it waits, the newest cause of each trigger. One run goes on at a
    time."""
    cooldown: Cooldown = "0s"
    """How long triggers start nothing after a run has ended: a duration such as 1h. What comes meanwhile waits, the
    newest cause of each trigger. Who creates a PipelineRun does not wait."""
    max_runs_per_day: Annotated[int, Field(ge=1, le=MAX_RUNS_PER_DAY)] = 24
    """How many runs may start within any 24 hours, whoever started them. What is beyond that waits."""
    suspend: bool = False
    """True: triggers start nothing; what comes meanwhile waits, the newest cause of each. Who creates a PipelineRun
    still can."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=MAX_STAGES, json_schema_extra=listmap("name"))]
    """What a run does, one after the other."""
    run_history_limit: RunHistoryLimit = RunHistoryLimit.model_construct()
    """Default: the newest five that succeeded, and the newest five that failed."""


class ActiveRun(Schema):
    """The run that may go on."""

    name: RunName
    """The PipelineRun's name."""
    uid: Uid
    """Its UID."""
    since: Timestamp
    """When it was let in."""
    replaced_by: RunName | None = None
    """The PipelineRun that it is cancelled for. Absent: none."""


class LastRun(Schema):
    """The run that ended last."""

    name: RunName
    """The PipelineRun's name."""
    result: Literal["Succeeded", "Failed", "Deleted"]
    """How it ended. Deleted: somebody deleted it before that."""
    ended_at: Timestamp
    """When it ended; the cooldown counts from there."""


class TriggerStatus(Schema):
    """Where one trigger stands."""

    name: PartName
    """The trigger's name."""
    declared: Annotated[str, Field(max_length=320)] = ""
    """What it was then, in short: with another schedule or another object it begins anew."""
    handled: Annotated[str, Field(max_length=1024)] = ""
    """The cause that was dealt with last: a run was started for it, or it was skipped. It is a time of the schedule, a
    version of the Dataset, conditions with the times at which they became True, or a digest of the stages."""
    runs: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many causes were dealt with so far."""
    last_run: RunName | None = None
    """The PipelineRun that it started last. Absent: none yet."""
    pending: Annotated[str | None, Field(max_length=1024)] = None
    """The cause that is not dealt with yet. Absent: there is none."""
    next: Timestamp | None = None
    """The schedule's next time. Absent: it has none, or it is no schedule."""
    message: Annotated[str, Field(max_length=512)] = ""
    """What came of the last cause, or what the pending one waits for."""


class PipelineStatus(Status):
    """Which run goes on, and what its triggers saw. Conditions: Ready, Reconciling, Stalled."""

    active: ActiveRun | None = None
    """The run that may go on. Absent: none does."""
    last_run: LastRun | None = None
    starts: Annotated[
        tuple[Timestamp, ...],
        Field(max_length=MAX_RUNS_PER_DAY, json_schema_extra=ATOMIC),
    ] = ()
    """When runs started within the last 24 hours, the oldest first."""
    runs_today: Annotated[int, Field(ge=0)] = 0
    """How many these are."""
    triggers: Annotated[
        tuple[TriggerStatus, ...], Field(max_length=MAX_TRIGGERS, json_schema_extra=listmap("name"))
    ] = ()
    """Where each trigger stands."""


class Pipeline(Resource):
    """What is to be done to get from data to a version that serves, and what starts it."""

    plural: ClassVar = "pipelines"
    short: ClassVar = "mpl"
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Active", "string", ".status.active.name"),
        ("Last", "string", ".status.lastRun.name"),
        ("Result", "string", ".status.lastRun.result"),
        ("Ended", "date", ".status.lastRun.endedAt"),
        ("Today", "integer", ".status.runsToday"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),)

    spec: PipelineSpec
    status: PipelineStatus = PipelineStatus.model_construct()
