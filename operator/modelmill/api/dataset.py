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
    Schema,
    Status,
    Timestamp,
    Uri,
    listmap,
)

ColumnType = Literal["Float", "Integer", "String", "Boolean", "Timestamp"]


class Source(Schema):
    """Where the data comes from: exactly one of the fields (secretRef goes with uri)."""

    rules: ClassVar = (
        (
            "[has(self.uri), has(self.configMapRef)].filter(x, x).size() == 1",
            "give exactly one of uri, configMapRef",
        ),
        ("has(self.uri) || !has(self.secretRef)", "secretRef goes with uri"),
    )

    uri: Annotated[
        Uri | None,
        Field(
            pattern=r"^(s3|gs|az|https)://[^\s]+$",
            description="One CSV or Parquet file: s3://, gs://, az:// or https://.",
        ),
    ] = None
    secret_ref: Annotated[
        ObjectReference | None,
        Field(description="Secret with accessKeyId and secretAccessKey for the uri; absent: the store's."),
    ] = None
    config_map_ref: Annotated[
        KeyReference | None, Field(description="A key of a ConfigMap, ending in .csv: for small examples.")
    ] = None


class Column(Schema):
    """What must hold for one column."""

    rules: ClassVar = (
        (
            "!(has(self.min) || has(self.max)) || self.type in ['Float', 'Integer']",
            "min and max are for Float and Integer",
        ),
        (
            "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)",
            "min must not be greater than max",
        ),
        (
            "!has(self.values) || self.type in ['String', 'Integer', 'Boolean']",
            "values are for String, Integer and Boolean",
        ),
    )

    name: ColumnName
    type: ColumnType
    nullable: bool = True
    min: Decimal | None = None
    max: Decimal | None = None
    values: Annotated[
        tuple[Annotated[str, Field(max_length=256)], ...] | None,
        Field(min_length=1, max_length=256, json_schema_extra=ATOMIC),
    ] = None


class Expectations(Schema):
    min_rows: Annotated[int, Field(ge=1, json_schema_extra=INT64)] = 1


class DatasetSpec(Schema):
    source: Source
    columns: Annotated[
        tuple[Column, ...],
        Field(
            max_length=2000,
            json_schema_extra=listmap("name"),
            description="Columns that must be there, with their rules; absent: as found.",
        ),
    ] = ()
    extra_columns: Annotated[
        Literal["Keep", "Drop", "Reject"], Field(description="What to do with columns that are not declared.")
    ] = "Keep"
    expectations: Expectations = Expectations()
    version_history_limit: Annotated[int, Field(ge=1, le=100)] = 10


class DatasetVersion(Schema):
    version: Digest
    file: Annotated[Digest, Field(description="Digest of the stored Parquet file.")]
    rows: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    observed_at: Timestamp


class Problem(Schema):
    rule: Annotated[str, Field(max_length=64)]
    column: Annotated[str | None, Field(max_length=128)] = None
    message: Annotated[str, Field(max_length=512)]
    count: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    rows: Annotated[
        tuple[Annotated[int, Field(json_schema_extra=INT64)], ...],
        Field(max_length=3, json_schema_extra=ATOMIC),
    ] = ()


class DatasetStatus(Status):
    """Conditions: PreflightPassed, Available, Valid, Ready, Reconciling, Stalled."""

    version: Annotated[
        Digest | None, Field(description="Digest of the logical content: schema and typed values in order.")
    ] = None
    rows: Annotated[int | None, Field(ge=0, json_schema_extra=INT64)] = None
    history: Annotated[tuple[DatasetVersion, ...], Field(max_length=100, json_schema_extra=ATOMIC)] = ()
    snapshot: Annotated[
        Digest | None, Field(description="Digest of the declaration that the newest version was taken by.")
    ] = None
    problems: Annotated[tuple[Problem, ...], Field(max_length=32, json_schema_extra=ATOMIC)] = ()


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
