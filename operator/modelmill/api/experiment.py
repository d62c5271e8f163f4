"""Experiment: a search over parameters; each trial is a TrainingJob."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import (
    ATOMIC,
    IMMUTABLE,
    INT64,
    Decimal,
    Digest,
    Duration,
    Resource,
    Rule,
    Schema,
    Status,
    Timestamp,
    immutable,
    listmap,
)
from modelmill.api.trainingjob import TrainingJobSpec

MAX_TRIALS = 1000
MAX_PARALLEL = 64
NAME_LENGTH = 30  # a trial's name has a number besides, and is a TrainingJob's

MetricName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
ParameterName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z][a-zA-Z0-9_]*$")]
VariableName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Choice = Annotated[str, Field(max_length=64)]
Step = Annotated[str, Field(max_length=32, pattern=r"^(0\.[0-9]*[1-9][0-9]*|[1-9][0-9]*(\.[0-9]+)?)$")]
ChildName = Annotated[str, Field(max_length=63)]
Value = Annotated[str, Field(max_length=64)]


class Objective(Schema):
    """What is searched for."""

    metric: MetricName
    """The metric that counts: trials compute it, too, where evaluation.metrics of the template lack it. With
    cross-validation it is the mean over the folds."""
    direction: Literal["Maximize", "Minimize"] = "Maximize"
    """Maximize: more of it is better. Minimize: less."""
    goal: Decimal | None = None
    """A value that is good enough, in quotes, such as "0.995": of a trial that reaches it, only those follow that would
    have been beside it. Absent: all trials are made."""


class Search(Schema):
    """How parameters are chosen."""

    algorithm: Literal["Grid", "Random", "TPE", "CMAES", "SuccessiveHalving"] = "TPE"
    """Grid: every combination, in order. Random. TPE: looks where good trials were. CMAES: an evolution strategy, for
    numbers. SuccessiveHalving: at random; after 1, 3 and 9 folds a trial goes on if it is in the best third."""
    seed: Annotated[int, Field(ge=0, le=4294967295, json_schema_extra=INT64)] = 0
    """Where the randomness of the search starts: the same seed gives the same trials. The training's own is
    template.spec.seed."""
    early_stopping: Literal["None", "Median"] = "None"
    """Median: a trial ends after a fold if its mean so far is worse than the median of what earlier trials had after as
    many folds. It goes with crossValidation, and not with SuccessiveHalving."""


class IntegerRange(Schema):
    """Whole numbers from min to max, both included."""

    rules: ClassVar = (
        Rule("self.min <= self.max", "min must not be greater than max", ".max"),
        Rule("!self.log || self.min > 0", "with log, min must be greater than 0", ".min"),
        Rule("!self.log || self.step == 1", "give log or step", ".step"),
    )

    min: Annotated[int, Field(ge=-1000000000, le=1000000000, json_schema_extra=INT64)]
    """The least."""
    max: Annotated[int, Field(ge=-1000000000, le=1000000000, json_schema_extra=INT64)]
    """The greatest."""
    step: Annotated[int, Field(ge=1, le=1000000000, json_schema_extra=INT64)] = 1
    """Only min, min + step, min + 2 step and so on are tried."""
    log: bool = False
    """True: as many trials between 1 and 10 as between 10 and 100."""


class FloatRange(Schema):
    """Numbers from min to max, with six significant digits."""

    rules: ClassVar = (
        Rule("double(self.min) < double(self.max)", "min must be less than max", ".max", found=("min", "max")),
        Rule("!self.log || double(self.min) > 0.0", "with log, min must be greater than 0", ".min"),
        Rule("!self.log || !has(self.step)", "give log or step", ".step"),
    )

    min: Decimal
    """The least: a decimal in quotes."""
    max: Decimal
    """The greatest: a decimal in quotes."""
    step: Step | None = None
    """Only min, min + step, min + 2 step and so on are tried: a decimal in quotes. Grid needs it."""
    log: bool = False
    """True: as many trials between 0.01 and 0.1 as between 0.1 and 1."""


class When(Schema):
    """Another parameter's value, with which alone a parameter has a meaning."""

    param: ParameterName
    """The other parameter's name, param or env, which stands before this one in the list, and has categorical."""
    equals: Choice
    """Its value: one of its categorical values."""


class Parameter(Schema):
    """One parameter, and which values it can have."""

    rules: ClassVar = (
        Rule("has(self.param) != has(self.env)", "give exactly one of param, env"),
        Rule(
            "(has(self.integer) ? 1 : 0) + (has(self.float) ? 1 : 0) + (has(self.categorical) ? 1 : 0) == 1",
            "give exactly one of integer, float, categorical",
        ),
    )

    param: ParameterName | None = None
    """Of an estimator: scikit-learn's own name, STEP__PARAMETER such as forest__n_estimators, or
    columns__GROUP__STEP__PARAMETER. It comes before what params of the template say."""
    env: VariableName | None = None
    """Of a container: the environment variable that is set to the value. It comes before what env of the template
    says."""
    integer: IntegerRange | None = None
    float_: Annotated[FloatRange | None, Field(alias="float")] = None
    categorical: Annotated[tuple[Choice, ...] | None, Field(min_length=1, max_length=64, json_schema_extra=ATOMIC)] = (
        None
    )
    """Any of these texts. For an estimator, the texts None, true, false and numbers mean these, such as "None" and
    "0.5"."""
    when: When | None = None


class Trials(Schema):
    """How many trials there are, and when to give up."""

    rules: ClassVar[tuple[Rule, ...]] = (immutable("parallel"),)

    max: Annotated[int, Field(ge=1, le=MAX_TRIALS)] = 20
    """How many there are at most. Raised later, the search goes on where it was."""
    parallel: Annotated[int, Field(ge=1, le=MAX_PARALLEL)] = 1
    """How many run at the same time at most. Trial k is chosen by the results of trials 1 to k - parallel alone, so
    that the same seed gives the same trials."""
    max_failed: Annotated[int, Field(ge=0, le=MAX_TRIALS)] = 3
    """How many may fail. With one more the search has failed."""
    ttl: Duration | None = None
    """How long trials stay after the search has ended, but for the best and the promoted one: a duration such as 168h.
    Absent: as long as the Experiment."""
    timeout: Duration | None = None
    """How long the search may take from its first trial on, such as 12h: then trials that run are deleted, and the best
    one counts. Where it goes on, suspended or ended before, it may take as long again. Absent: as long as it takes."""


class TrialSpec(TrainingJobSpec):
    """A TrainingJob's spec. Trials have it without modelRef and reproduce, and with the parameters that were chosen."""

    # The template as a whole is immutable.
    rules: ClassVar = tuple(rule for rule in TrainingJobSpec.rules if "oldSelf" not in rule.cel)


class Template(Schema):
    """What each trial is made of."""

    spec: TrialSpec


class ExperimentSpec(Schema):
    """A search. It is immutable but for suspend, promote and trials: max, maxFailed, ttl and timeout."""

    rules: ClassVar = (
        Rule(
            "self.parameters.all(p, has(p.param) == has(self.template.spec.estimator))",
            "param goes with an estimator, env with a container",
            ".parameters",
        ),
        Rule(
            "self.search.algorithm != 'Grid' || self.parameters.all(p,"
            " (!has(p.float) || has(p.float.step)) && (!has(p.integer) || !p.integer.log))",
            "with the algorithm Grid, float needs step, and integer has no log",
            ".parameters",
        ),
        Rule(
            "self.search.algorithm != 'CMAES' || self.parameters.exists(p, has(p.float) || has(p.integer))",
            "the algorithm CMAES needs a parameter with integer or float",
            ".parameters",
        ),
        Rule(
            "(self.search.algorithm != 'SuccessiveHalving' && self.search.earlyStopping == 'None')"
            " || has(self.template.spec.evaluation.crossValidation)",
            "trials are stopped by what they have after some folds: give template.spec.evaluation.crossValidation",
            ".search",
        ),
        Rule(
            "self.search.algorithm != 'SuccessiveHalving' || self.search.earlyStopping == 'None'",
            "SuccessiveHalving stops trials by itself: leave earlyStopping out",
            ".search.earlyStopping",
        ),
        Rule(
            "self.promote != 'Best' || has(self.template.spec.modelRef)",
            "promote: Best needs template.spec.modelRef, the Model that the best trial becomes a version of",
            ".promote",
        ),
        Rule("!self.template.spec.suspend", "suspend the Experiment, not its template", ".template"),
        Rule("self.parameters == oldSelf.parameters", IMMUTABLE, ".parameters", "FieldValueForbidden"),
        *map(immutable, ("objective", "search", "template")),
    )

    objective: Objective
    search: Search = Search.model_construct()
    parameters: Annotated[tuple[Parameter, ...], Field(min_length=1, max_length=32, json_schema_extra=ATOMIC)]
    """What is varied."""
    trials: Trials = Trials.model_construct()
    template: Template
    promote: Literal["Best", "None"] = "None"
    """Best: when the search has ended, the best trial becomes the next version of the Model in template.spec.modelRef.
    None: trials are tracked, and no version is made."""
    suspend: bool = False
    """True: start no more trials, and suspend those that run. False: go on."""


class TrialCounts(Schema):
    """How many trials there are in each state."""

    succeeded: Annotated[int, Field(ge=0)] = 0
    """They have a result."""
    running: Annotated[int, Field(ge=0)] = 0
    """They have not ended: they run, or wait for their turn or their data."""
    failed: Annotated[int, Field(ge=0)] = 0
    """They failed, or gave no number for the objective."""
    stopped: Annotated[int, Field(ge=0)] = 0
    """They were hopeless, and stopped early."""


class ParameterValue(Schema):
    """One parameter's value."""

    name: Annotated[str, Field(max_length=128)]
    """The parameter's name."""
    value: Value
    """Its value, as JSON writes it; text as it is."""


class Best(Schema):
    """The best trial so far: of several that are as good, or differ less than their folds do, the smallest model."""

    trial: ChildName
    """Name of its TrainingJob."""
    value: Value
    """The objective's value: a decimal in quotes."""
    stddev: Value | None = None
    """Its standard deviation over the folds. Absent: there was no cross-validation."""
    parameters: Annotated[tuple[ParameterValue, ...], Field(max_length=32, json_schema_extra=listmap("name"))] = ()
    """Its parameters, without those that have no meaning in it."""
    recipe: Digest | None = None
    """Digest of everything that decides its model's bytes."""
    artifact: Digest | None = None
    """Digest of its artifact."""
    message: Annotated[str, Field(max_length=512)] = ""
    """Why it is the best one, where another one has a better value or the same."""


class Placed(Schema):
    """One of the trials with the best values."""

    trial: ChildName
    """Name of its TrainingJob."""
    value: Value
    """The objective's value: a decimal in quotes."""
    parameters: Annotated[str, Field(max_length=512)] = ""
    """Its parameters in short."""


class ExperimentStatus(Status):
    """How the search goes. Conditions: Succeeded, Failed, Promoted, Reported, Reconciling, Stalled."""

    dataset_version: Digest | None = None
    """The Dataset's version that all trials use, pinned before the first one."""
    started_at: Timestamp | None = None
    """When the first trial was made, or the search went on after it was suspended or had ended. What it took until it
    ran out of spec.trials.timeout stays counted."""
    ended_at: Timestamp | None = None
    """When the search ended. Absent: it goes on."""
    expired: bool | None = None
    """True: the trials outlived spec.trials.ttl, and the search cannot go on. Absent: they are there."""
    trials: TrialCounts = TrialCounts.model_construct()
    best: Best | None = None
    top: Annotated[tuple[Placed, ...], Field(max_length=10, json_schema_extra=ATOMIC)] = ()
    """The ten trials with the best values, the best first."""
    promoted: ChildName | None = None
    """Name of the TrainingJob that makes the best trial a version; an estimator that was trained is not trained again,
    and a container is."""
    model_version: ChildName | None = None
    """Name of the ModelVersion that the best trial became."""
    report: Digest | None = None
    """Digest of an HTML page about the search: blobs/sha256-... in the Workspace's store."""


class Experiment(Resource):
    """A search over parameters of a training, in parallel trials."""

    plural: ClassVar = "experiments"
    short: ClassVar = "mexp"
    columns: ClassVar = (
        ("Succeeded", "string", '.status.conditions[?(@.type=="Succeeded")].status'),
        ("Reason", "string", '.status.conditions[?(@.type=="Succeeded")].reason'),
        ("Running", "integer", ".status.trials.running"),
        ("Done", "integer", ".status.trials.succeeded"),
        ("Failed", "integer", ".status.trials.failed"),
        ("Best", "string", ".status.best.trial"),
        ("Metric", "string", ".spec.objective.metric"),
        ("Value", "string", ".status.best.value"),
        ("Version", "string", ".status.modelVersion"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("Stopped", "integer", ".status.trials.stopped"),
        ("Message", "string", '.status.conditions[?(@.type=="Succeeded")].message'),
    )
    selectable: ClassVar = (
        ".spec.template.spec.modelRef.name",
        ".spec.template.spec.data.datasetRef.name",
        ".status.modelVersion",
    )
    name_length: ClassVar = NAME_LENGTH

    spec: ExperimentSpec
    status: ExperimentStatus = ExperimentStatus.model_construct()
