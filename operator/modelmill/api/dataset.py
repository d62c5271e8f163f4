"""Dataset: data that is checked, and kept as immutable versions named by their content."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.container import UsersContainer
from modelmill.api.schema import (
    ATOMIC,
    INT64,
    NAME_LENGTH,
    NAME_PATTERN,
    SET,
    ColumnName,
    Decimal,
    Digest,
    Duration,
    Endpoint,
    KeyReference,
    ObjectReference,
    Region,
    Resource,
    ResourceRequirements,
    Rule,
    Schema,
    Status,
    StorageAccount,
    Timestamp,
    Uri,
    listmap,
)

DatasetName = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH, pattern=NAME_PATTERN)]
ColumnType = Literal["Float", "Integer", "String", "Boolean", "Timestamp"]


class Sql(Schema):
    """A query for a database. What it gives is the data."""

    url_ref: KeyReference
    """Secret and its key that has the database's URL, such as postgresql://reader:password@warehouse/sales."""
    query: Annotated[str, Field(min_length=1, max_length=16384)]
    """One SELECT, in the database's own SQL. Rows are kept in the order that it gives: say ORDER BY where the same
    rows are to be the same version."""


class DerivedContainer(UsersContainer):
    """A program of the user's. It has neither credentials nor an identity; it runs as user 65532, with
    nothing to write to but $MILL_OUTPUT and /tmp."""

    args: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...],
        Field(max_length=64, json_schema_extra=ATOMIC),
    ] = ()
    """Arguments. It finds each Dataset as the file NAME.parquet in the folder $MILL_DATA, and writes CSV or Parquet
    files of the same columns to the folder $MILL_OUTPUT."""


class DatasetReference(Schema):
    """A Dataset in the same namespace."""

    name: DatasetName
    """The Dataset's name, which a query knows it by as a table."""


class Derive(Schema):
    """Data that is made of other Datasets, and made again when one of them has a new version."""

    rules: ClassVar = (Rule("has(self.sql) != has(self.container)", "give exactly one of sql, container"),)

    from_: Annotated[
        tuple[DatasetReference, ...],
        Field(alias="from", min_length=1, max_length=16, json_schema_extra=listmap("name")),
    ]
    """The Datasets that it is made of, each in its newest valid version."""
    sql: Annotated[str | None, Field(min_length=1, max_length=16384)] = None
    """One SELECT in DuckDB's SQL. Each Dataset is a table of its name; there are no other tables, no files and no
    network. Say ORDER BY where the same rows are to be the same version."""
    container: DerivedContainer | None = None


class Captured(Schema):
    """Rows that a ModelDeployment answered, with what it answered and the labels that came back: what its spec.capture
    keeps in the Workspace's store."""

    rules: ClassVar = (
        Rule(
            "!self.target.startsWith('captured_')",
            "columns captured_... are those of what was answered: give the labels another name",
            ".target",
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH, pattern=NAME_PATTERN)]
    """Name of the ModelDeployment, in the same namespace."""
    labels: Literal["Required", "Optional"] = "Required"
    """Required: only rows whose label came back; Optional: the others, too, with none."""
    since: Duration = "720h"
    """How far back rows are taken: those that were answered within this time before the look. A duration such as 24h
    or 168h (not 7d)."""
    target: ColumnName = "label"
    """Name of the labels' column: that of the target of what the model was trained on makes it the same data."""


class Source(Schema):
    """Where the data comes from: exactly one of uri, sql, derive, deployment and configMapRef."""

    rules: ClassVar = (
        Rule(
            "[has(self.uri), has(self.sql), has(self.derive), has(self.deployment), has(self.configMapRef)]"
            ".filter(x, x).size() == 1",
            "give exactly one of uri, sql, derive, deployment, configMapRef",
        ),
        Rule(
            "has(self.uri) || !has(self.secretRef)",
            "secretRef goes with uri",
            ".secretRef",
            "FieldValueForbidden",
        ),
        Rule(
            "(has(self.uri) && self.uri.startsWith('s3://')) || !has(self.endpoint)",
            "endpoint is only for an s3:// uri",
            ".endpoint",
            "FieldValueForbidden",
        ),
        Rule(
            "(has(self.uri) && self.uri.startsWith('s3://')) || !has(self.region)",
            "region is only for an s3:// uri",
            ".region",
            "FieldValueForbidden",
        ),
        Rule(
            "(has(self.uri) && self.uri.startsWith('az://')) || !has(self.account)",
            "account is only for an az:// uri",
            ".account",
            "FieldValueForbidden",
        ),
        Rule(
            "!has(self.uri) || !has(self.secretRef) || !self.uri.startsWith('pvc://')",
            "a volume takes no secretRef",
            ".secretRef",
            "FieldValueForbidden",
        ),
        Rule(
            "!has(self.uri) || !has(self.secretRef) || !self.uri.startsWith('https://')",
            "an https source is asked without credentials: leave secretRef out, or copy the file to a bucket",
            ".secretRef",
            "FieldValueForbidden",
        ),
        Rule(
            "!has(self.uri) || !self.uri.matches('^https://[^/?#]*@')",
            "a uri has no user and no password: whoever may read the Dataset would see them",
            ".uri",
        ),
        Rule(
            "!has(self.uri) || !self.uri.startsWith('pvc://') ||"
            " self.uri.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^/.][^/]*)+$')",
            "a volume's uri is pvc://CLAIM/PATH, and no part of the path starts with a dot",
            ".uri",
        ),
    )

    uri: Annotated[Uri | None, Field(pattern=r"^(s3|gs|az|https|pvc)://[^\s]+$")] = None
    """CSV, Parquet or JSON lines: s3://, gs://, az://, https://, or pvc://CLAIM/PATH in a volume, which is mounted
    read-only. But for https, the last part may have the wildcards * ? and [...]: what matches is one table."""
    endpoint: Endpoint | None = None
    """URL of the S3 server of an s3:// uri, such as https://s3.amazonaws.com for AWS. Absent: the Workspace's, where
    its store is s3://, too, else AWS."""
    region: Region | None = None
    """Region of the bucket of an s3:// uri. Absent: the Workspace's, where the endpoint is its store's, else
    us-east-1."""
    account: StorageAccount | None = None
    """Storage account of an az:// container. Absent: the Secret's accountName; without a secretRef, the Workspace's
    account."""
    secret_ref: ObjectReference | None = None
    """Secret with keys accessKeyId and secretAccessKey (s3), serviceAccountKey (gs), accountName and accountKey (az).
    Absent: the Workspace's credentials for a store of this kind, endpoint and account, else the pods' own identity."""
    sql: Sql | None = None
    derive: Derive | None = None
    deployment: Captured | None = None
    config_map_ref: KeyReference | None = None
    """A key of a ConfigMap, for small examples: CSV, JSON lines or Parquet."""


class Column(Schema):
    """What must hold for one column."""

    rules: ClassVar = (
        Rule(
            "!(has(self.min) || has(self.max)) || self.type in ['Float', 'Integer']",
            "min and max are for Float and Integer",
        ),
        Rule(
            "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)",
            "min must not be greater than max",
            ".min",
            found=("min", "max"),
        ),
        Rule(
            "!has(self.values) || self.type in ['String', 'Integer', 'Boolean']",
            "values are for String, Integer and Boolean",
            ".values",
            "FieldValueForbidden",
        ),
    )

    name: ColumnName
    """The column's name, as in the file's header."""
    type: ColumnType
    """What every value must be. Float: 64 bits, finite; Integer: whole, 64 bits; Boolean: true, false, 1 or 0;
    Timestamp: ISO 8601, UTC where no offset is given."""
    nullable: bool = True
    """Whether values may be missing."""
    min: Decimal | None = None
    """The smallest value that is allowed: a decimal in quotes, such as "0.2". Absent: no bound."""
    max: Decimal | None = None
    """The largest value that is allowed: a decimal in quotes, such as "0.2". Absent: no bound."""
    values: Annotated[
        tuple[Annotated[str, Field(max_length=256)], ...] | None,
        Field(min_length=1, max_length=256, json_schema_extra=ATOMIC),
    ] = None
    """The only values that are allowed, each in quotes, such as "1". Absent: any."""


class Drift(Schema):
    """How much the data may differ from what it was."""

    against: Literal["Previous"] = "Previous"
    """What it is compared with: the newest valid version."""
    max_effect: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$")]
    """The largest effect that is allowed for any column: a decimal in quotes, such as "0.2"; docs/datasets.md says how
    it is measured."""


class Expectations(Schema):
    """What must hold for the data as a whole."""

    min_rows: Annotated[int, Field(ge=1, json_schema_extra=INT64)] = 1
    """The fewest rows that the data may have."""
    max_age: Duration | None = None
    """The oldest that the data may be, counted from when its source says that it was written: a duration such as 24h or
    168h (not 7d). Absent: any age."""
    unique_key: Annotated[tuple[ColumnName, ...] | None, Field(min_length=1, max_length=16, json_schema_extra=SET)] = (
        None
    )
    """Columns that together must be different in each row, and none of them missing. Absent: rows may repeat."""
    max_null_fraction: Annotated[str | None, Field(max_length=16, pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$")] = None
    """The largest fraction of missing values in any column: a decimal in quotes between 0 and 1, such as "0.05".
    Absent: what each column's nullable says."""
    drift: Drift | None = None
    """Refuse data that differs too much from the newest valid version. Absent: it may differ."""


# Five fields of numbers, ranges, steps and lists; months and days of the week may be English names.
_CRON_ITEM = r"(\*|[0-9]{1,2}(-[0-9]{1,2})?)(/[0-9]{1,2})?"
_CRON_NAMED = r"(\*|([0-9]{1,2}|[A-Z]{3})(-([0-9]{1,2}|[A-Z]{3}))?)(/[0-9]{1,2})?"
CRON = rf"^({_CRON_ITEM}(,{_CRON_ITEM})* ){{3}}{_CRON_NAMED}(,{_CRON_NAMED})* {_CRON_NAMED}(,{_CRON_NAMED})*$"


class Refresh(Schema):
    """When the source is read again."""

    schedule: Annotated[str, Field(max_length=128, pattern=CRON)]
    """Minute, hour, day of the month, month and day of the week (0 and 7 are Sunday), as in cron: "0 6 * * MON-FRI".
    Of times that went by unused only the last is made up for."""
    time_zone: Annotated[
        str, Field(max_length=64, pattern=r"^[A-Za-z][-A-Za-z0-9_+]*(/[A-Za-z0-9][-A-Za-z0-9_+]*)*$")
    ] = "Etc/UTC"
    """The time zone that schedule is in, by its IANA name, such as Europe/Berlin. A time that comes twice when clocks
    are set back counts once, unless the hour is *; one that is left out counts as much later as they are set
    forward."""


class DatasetSpec(Schema):
    """What the data is to be. A change takes a new snapshot."""

    source: Source
    columns: Annotated[tuple[Column, ...], Field(max_length=2000, json_schema_extra=listmap("name"))] = ()
    """Columns that must be there, each with its rules. Absent: every column as it is found."""
    extra_columns: Literal["Keep", "Drop", "Reject"] = "Keep"
    """What to do with columns that are not declared, where some are: Keep them as found, Drop them, or Reject the
    data."""
    expectations: Expectations = Expectations.model_construct()
    refresh: Refresh | None = None
    """Absent: the source is read when its declaration changes, when a Dataset that it derives from has a new version,
    when a PipelineRun asks for it, and when the annotation modelmill.dev/refresh gets another value."""
    resources: ResourceRequirements = ResourceRequirements.model_construct()
    """CPU and memory of the pod that reads and checks. Default: 250m of cpu and 512Mi of memory are requested, memory
    is limited to 2Gi."""
    version_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    """How many versions status.history keeps, the newest first, besides those that a ModelVersion, a TrainingJob that
    has not ended, or a derived Dataset refers to."""


class SourceVersion(Schema):
    """A version of another Dataset."""

    name: DatasetName
    """The Dataset's name."""
    version: Digest
    """Its version."""


class DatasetVersion(Schema):
    """One snapshot that was taken."""

    version: Digest
    """Digest of the logical content: schema and typed values in order, whatever file they came in."""
    file: Digest
    """Digest of the Parquet file in the store."""
    rows: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """Its number of rows."""
    observed_at: Timestamp
    """When this content was seen first."""
    profile: Digest | None = None
    """Digest of its profile in the store: each column's distribution, which drift is measured against."""
    page: Digest | None = None
    """Digest of the profile as an HTML page in the store, for people."""
    from_: Annotated[tuple[SourceVersion, ...] | None, Field(alias="from", max_length=16, json_schema_extra=ATOMIC)] = (
        None
    )
    """The versions that it was derived from, the last time that this content came of it. Absent: it is not derived."""
    store: Digest | None = None
    """Digest of where the Workspace's store was when it was taken: a store that is declared elsewhere later does not
    have it."""


class Problem(Schema):
    """One rule that the data broke."""

    rule: Annotated[str, Field(max_length=64)]
    """The rule in one CamelCase word, such as MissingColumn, BelowMinimum or TooFewRows."""
    column: Annotated[str | None, Field(max_length=128)] = None
    """The column that broke it. Absent: it is about the data as a whole."""
    message: Annotated[str, Field(max_length=512)]
    """What was found, where, and what to do. It never holds values of the data."""
    count: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many rows broke it; for TooFewRows, how many there are."""
    rows: Annotated[
        tuple[Annotated[int, Field(json_schema_extra=INT64)], ...],
        Field(max_length=3, json_schema_extra=ATOMIC),
    ] = ()
    """Numbers of the first rows that broke it; the first row of data is 1."""


class Usage(Schema):
    """What looking took the last time."""

    cpu_seconds: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """CPU time of reading, checking and writing, in seconds."""
    bytes_: Annotated[int, Field(alias="bytes", ge=0, json_schema_extra=INT64)] = 0
    """Size of the newest version's Parquet file."""


MAX_REQUESTS = 64  # of PipelineRuns that ask for a look at the same time
MAX_HISTORY = 200  # versionHistoryLimit is half of it at most: what is referred to has room beside it


class DatasetStatus(Status):
    """What was found. Conditions: PreflightPassed, Available, Valid, Fresh, Ready, Reconciling, Stalled."""

    version: Digest | None = None
    """The newest valid version: the digest of its logical content (schema and typed values in order). A TrainingJob
    may pin it."""
    short_version: Annotated[str | None, Field(max_length=16)] = None
    """The first 16 hex digits of version."""
    rows: Annotated[int | None, Field(ge=0, json_schema_extra=INT64)] = None
    """Number of rows of the newest valid version."""
    modified_at: Timestamp | None = None
    """When the newest valid version was written, as its source says; where it does not say, when it was found; of
    a derived one, when the oldest version that it is derived from was."""
    checked_at: Timestamp | None = None
    """When the source was looked at last, whatever was found."""
    last_schedule: Timestamp | None = None
    """The newest time of the schedule that was looked at."""
    last_handled_refresh: Annotated[str | None, Field(max_length=256)] = None
    """Value of the annotation modelmill.dev/refresh that was looked at last, whatever was found: its first 256
    characters."""
    handled_runs: Annotated[
        tuple[Annotated[str, Field(max_length=96)], ...], Field(max_length=MAX_REQUESTS, json_schema_extra=ATOMIC)
    ] = ()
    """The stages of PipelineRuns, as UID/STAGE, that still wait for a look which has ended, whatever it found."""
    last_run: Annotated[str | None, Field(max_length=64)] = None
    """UID of the Job whose answer was taken last."""
    history: Annotated[tuple[DatasetVersion, ...], Field(max_length=MAX_HISTORY, json_schema_extra=ATOMIC)] = ()
    """The versions that TrainingJobs may name, the newest first."""
    snapshot: Digest | None = None
    """Digest of the declaration that the newest version was taken by; another declaration takes another snapshot."""
    problems: Annotated[tuple[Problem, ...], Field(max_length=32, json_schema_extra=ATOMIC)] = ()
    """The rules that the data broke when it was read last. Absent: none."""
    usage: Usage | None = None


class Dataset(Resource):
    """Data that is checked, and kept as immutable versions named by their content."""

    rules: ClassVar = (
        Rule(
            "!has(self.spec.source.derive) ||"
            " !self.spec.source.derive.from.exists(input, input.name == self.metadata.name)",
            "a Dataset cannot be derived from itself",
            ".spec.source.derive.from",
        ),
    )

    plural: ClassVar = "datasets"
    short: ClassVar = "dset"
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Rows", "integer", ".status.rows"),
        ("Version", "string", ".status.shortVersion"),
        ("Fresh", "string", '.status.conditions[?(@.type=="Fresh")].status'),
        ("Modified", "date", ".status.modifiedAt"),
        ("Problem", "string", ".status.problems[0].rule"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("Checked", "date", ".status.checkedAt"),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),
    )

    spec: DatasetSpec
    status: DatasetStatus = DatasetStatus.model_construct()
