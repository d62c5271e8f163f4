"""Dataset: data that is checked, and kept as immutable versions named by their content."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import (
    ATOMIC,
    INT64,
    ColumnName,
    Decimal,
    Digest,
    KeyReference,
    ObjectReference,
    Resource,
    Rule,
    Schema,
    Status,
    Timestamp,
    Uri,
    listmap,
)

ColumnType = Literal["Float", "Integer", "String", "Boolean", "Timestamp"]


class Source(Schema):
    """Where the data comes from: exactly one of uri and configMapRef."""

    rules: ClassVar = (
        Rule(
            "[has(self.uri), has(self.configMapRef)].filter(x, x).size() == 1",
            "give exactly one of uri, configMapRef",
        ),
        Rule(
            "has(self.uri) || !has(self.secretRef)",
            "secretRef goes with uri",
            ".secretRef",
            "FieldValueForbidden",
        ),
    )

    uri: Annotated[Uri | None, Field(pattern=r"^(s3|gs|az|https)://[^\s]+$")] = None
    """CSV or Parquet at s3://, gs://, az:// or https://. In a bucket, the last part of the path may have the wildcards
    * ? and [...]: the files that match are read as one table."""
    secret_ref: ObjectReference | None = None
    """Secret with the keys accessKeyId and secretAccessKey for the uri. Absent: the Workspace's credentials where the
    uri lies in the same kind of store, else the pods' own identity."""
    config_map_ref: KeyReference | None = None
    """A key of a ConfigMap, ending in .csv: for small examples."""


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


class Expectations(Schema):
    """What must hold for the data as a whole."""

    min_rows: Annotated[int, Field(ge=1, json_schema_extra=INT64)] = 1
    """The fewest rows that the data may have."""


class DatasetSpec(Schema):
    """What the data is to be. A change takes a new snapshot."""

    source: Source
    columns: Annotated[tuple[Column, ...], Field(max_length=2000, json_schema_extra=listmap("name"))] = ()
    """Columns that must be there, each with its rules. Absent: every column as it is found."""
    extra_columns: Literal["Keep", "Drop", "Reject"] = "Keep"
    """What to do with columns that are not declared, where some are: Keep them as found, Drop them, or Reject the
    data."""
    expectations: Expectations = Expectations()
    version_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    """How many versions status.history keeps, the newest first. Nothing is deleted from the store."""


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


class DatasetStatus(Status):
    """What was found. Conditions: PreflightPassed, Available, Valid, Ready, Reconciling, Stalled."""

    version: Digest | None = None
    """The newest valid version: the digest of its logical content (schema and typed values in order). A TrainingJob
    may pin it."""
    rows: Annotated[int | None, Field(ge=0, json_schema_extra=INT64)] = None
    """Number of rows of the newest valid version."""
    history: Annotated[tuple[DatasetVersion, ...], Field(max_length=100, json_schema_extra=ATOMIC)] = ()
    """The versions that TrainingJobs may name, the newest first."""
    snapshot: Digest | None = None
    """Digest of the declaration that the newest version was taken by; another declaration takes another snapshot."""
    problems: Annotated[tuple[Problem, ...], Field(max_length=32, json_schema_extra=ATOMIC)] = ()
    """The rules that the data broke when it was read last. Absent: none."""


class Dataset(Resource):
    """Data that is checked, and kept as immutable versions named by their content."""

    plural: ClassVar = "datasets"
    short: ClassVar = "dset"
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Rows", "integer", ".status.rows"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("Version", "string", ".status.version"),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),
    )

    spec: DatasetSpec
    status: DatasetStatus = DatasetStatus()
