"""Model: what is true of all versions of one model.  It numbers them; it is made with defaults if absent."""

from typing import Annotated, ClassVar

from pydantic import Field

from modelmill.api.schema import INT64, Resource, Schema, Status, listmap


class ModelSpec(Schema):
    description: Annotated[str, Field(max_length=1024)] = ""


class Reservation(Schema):
    """A number given to a training run whose version does not exist yet."""

    version: Annotated[int, Field(ge=1, json_schema_extra=INT64)]
    training_job: Annotated[str, Field(max_length=63)]
    uid: Annotated[str, Field(max_length=64)]


class ModelStatus(Status):
    """Conditions: Ready, Reconciling, Stalled."""

    last_version: Annotated[int, Field(ge=0, json_schema_extra=INT64, description="The highest number ever given.")] = 0
    latest_ready: Annotated[int | None, Field(ge=1, json_schema_extra=INT64)] = None
    reservations: Annotated[tuple[Reservation, ...], Field(max_length=256, json_schema_extra=listmap("uid"))] = ()


class Model(Resource):
    """What is true of all versions of one model: it numbers them."""

    plural: ClassVar = "models"
    short: ClassVar = "mdl"
    columns: ClassVar = (
        ("Last", "integer", ".status.lastVersion"),
        ("Latest Ready", "integer", ".status.latestReady"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )

    spec: ModelSpec = ModelSpec()
    status: ModelStatus = ModelStatus()
