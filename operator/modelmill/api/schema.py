"""What the kinds have in common: the base of every schema, references, and the small types.

The schemas follow the Kubernetes API conventions: no floats (decimal strings or quantities), CamelCase
enums, bounded lists and strings, unions as optional fields with a CEL rule.
"""

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "modelmill.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "modelmill"

NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_LENGTH = 40


class Schema(BaseModel):
    """A part of a kind.  Unknown fields are ignored: the API server prunes them, and a newer CRD may have more."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    # CEL rules of this object: (rule, message).
    rules: ClassVar[tuple[tuple[str, str], ...]] = ()


class Resource(Schema):
    """What every kind declares of itself; its subclasses have `spec` and `status`."""

    plural: ClassVar[str]
    short: ClassVar[str]
    columns: ClassVar[tuple[tuple[str, str, str], ...]]  # printer columns: (name, type, JSON path)
    wide: ClassVar[tuple[tuple[str, str, str], ...]] = ()  # only with -o wide
    scale: ClassVar[dict[str, str] | None] = None
    name_pattern: ClassVar[str] = NAME_PATTERN
    name_length: ClassVar[int] = NAME_LENGTH


def listmap(*keys: str) -> dict[str, Any]:
    """The extension that makes a list one that is merged by key."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
OPAQUE: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
INT64: dict[str, Any] = {"format": "int64"}
DATE_TIME: dict[str, Any] = {"format": "date-time"}

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
Decimal = Annotated[str, Field(max_length=32, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Fraction = Annotated[str, Field(max_length=16, pattern=r"^0\.[0-9]*[1-9][0-9]*$")]
Duration = Annotated[str, Field(max_length=32, pattern=r"^([0-9]{1,6}(ms|s|m|h)){1,4}$")]
# Canonical quantities only: what the API server would rewrite could never be compared with what was applied.
Quantity = Annotated[str, Field(max_length=20, pattern=r"^[1-9][0-9]*(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Uri = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[a-z][a-z0-9]*://[^\s]+$")]
Timestamp = Annotated[str, Field(max_length=40, json_schema_extra=DATE_TIME)]


class ObjectReference(Schema):
    """An object in the same namespace."""

    name: ObjectName


class KeyReference(Schema):
    """A key of an object in the same namespace."""

    name: ObjectName
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-_a-zA-Z0-9][-._a-zA-Z0-9]*$")]


class ResourceRequirements(Schema):
    """CPU and memory of a container, as in a pod.  Requests default to limits."""

    requests: Annotated[dict[Literal["cpu", "memory"], Quantity], Field(max_length=2)] = {}
    limits: Annotated[dict[Literal["cpu", "memory"], Quantity], Field(max_length=2)] = {}


class Condition(Schema):
    """One condition of an object, as in the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z]+$")]
    status: Literal["True", "False", "Unknown"]
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    last_transition_time: Timestamp
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9_])?$")]
    message: Annotated[str, Field(max_length=4096)] = ""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=listmap("type"))]


class Status(Schema):
    """What every status has."""

    observed_generation: Annotated[
        int,
        Field(ge=0, json_schema_extra=INT64, description="The generation of the spec that this status is about."),
    ] = 0
    conditions: Conditions = ()


IMMUTABLE = ("self == oldSelf", "is immutable: delete the object and create a new one")

_DURATION = re.compile(r"([0-9]+)(ms|s|m|h)")
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}


def parse_duration(text: str) -> timedelta:
    """A Duration as a timedelta; the text has passed the schema's pattern."""
    return sum((int(number) * _UNITS[unit] for number, unit in _DURATION.findall(text)), timedelta())
