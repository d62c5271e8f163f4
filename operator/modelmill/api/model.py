"""Model: what is true of all versions of one model.  It numbers them; it is made with defaults if absent."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import INT64, Resource, Schema, Status, listmap


class ModelSpec(Schema):
    """What people should know of the model, and what its versions must pass before they may serve."""

    description: Annotated[str, Field(max_length=1024)] = ""
    """What the model is for, in words for people."""
    approval: Literal["Automatic", "Manual"] = "Automatic"
    """Manual: a version is Ready only while a ModelApproval of its digest approves it. Automatic: it needs none."""


class Reservation(Schema):
    """A number given to a training run whose version does not exist yet."""

    version: Annotated[int, Field(ge=1, json_schema_extra=INT64)]
    """The number."""
    training_job: Annotated[str, Field(max_length=63)]
    """Name of the TrainingJob."""
    uid: Annotated[str, Field(max_length=64)]
    """UID of the TrainingJob: another one of the same name gets another number."""


class ModelStatus(Status):
    """The numbers given so far. Conditions: Ready, Reconciling, Stalled."""

    last_version: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """The highest number ever given; 0 before the first. No number is given twice."""
    latest_ready: Annotated[int | None, Field(ge=1, json_schema_extra=INT64)] = None
    """The highest version that is Ready: what a ModelDeployment without a version serves. Absent: none is."""
    reservations: Annotated[tuple[Reservation, ...], Field(max_length=256, json_schema_extra=listmap("uid"))] = ()
    """Numbers given to training runs whose versions do not exist yet."""


class Model(Resource):
    """What is true of all versions of one model: it numbers them, and says what they must pass."""

    plural: ClassVar = "models"
    short: ClassVar = "mdl"
    columns: ClassVar = (
        ("Last", "integer", ".status.lastVersion"),
        ("Latest Ready", "integer", ".status.latestReady"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )

    spec: ModelSpec = ModelSpec()
    status: ModelStatus = ModelStatus()
