"""What the kinds have in common: the base of every schema, references, and the small types.

The schemas follow the Kubernetes API conventions: no floats (decimal strings or quantities), CamelCase
enums, bounded lists and strings, unions as optional fields with a CEL rule.
"""

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "modelmill.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "modelmill"

NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_LENGTH = 40


class Rule(NamedTuple):
    """A CEL rule of an object, and what the API server answers where it does not hold."""

    cel: str
    message: str
    field: str = ""  # the one field that it is about, such as ".secretRef"; empty: the object
    reason: Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"] = "FieldValueInvalid"
    found: tuple[str, ...] = ()  # texts whose values the answer ends with; numbers would exceed CEL's budget


class Schema(BaseModel):
    """A part of a kind.  Unknown fields are ignored: the API server prunes them, and a newer CRD may have more.

    Docstrings are what `kubectl explain` says: a field's own, else that of its type.  `crd` reads a field's own from
    the source; that pydantic reads them too (use_attribute_docstrings) would cost every start of the operator.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        defer_build=True,  # until the first object of the kind: a restart does not wait for it
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    def without_none(self) -> dict[str, Any]:
        """As JSON by the API's names; what is absent is not in it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def without_defaults(self) -> dict[str, Any]:
        """As JSON by the API's names; defaults are not in it, also not those of a newer API."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Resource(Schema):
    """What every kind declares of itself; its subclasses have `spec` and `status`."""

    plural: ClassVar[str]
    short: ClassVar[str]
    columns: ClassVar[tuple[tuple[str, str, str], ...]]  # printer columns: (name, type, JSON path)
    wide: ClassVar[tuple[tuple[str, str, str], ...]] = ()  # only with -o wide
    selectable: ClassVar[tuple[str, ...]] = ()  # JSON paths of what kubectl get --field-selector may ask: eight at most
    scale: ClassVar[dict[str, str] | None] = None
    name_pattern: ClassVar[str] = NAME_PATTERN
    name_length: ClassVar[int] = NAME_LENGTH


def listmap(*keys: str) -> dict[str, Any]:
    """The extension that makes a list one that is merged by key."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def ruled(*rules: Rule) -> dict[str, Any]:
    """The extension that holds a field to rules which has no class of its own, such as a map."""
    return {"x-kubernetes-validations": [{"rule": r.cel, "message": r.message, "reason": r.reason} for r in rules]}


SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
OPAQUE: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
INT64: dict[str, Any] = {"format": "int64"}
DATE_TIME: dict[str, Any] = {"format": "date-time"}

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
LONGEST_DECIMAL = 32
Decimal = Annotated[str, Field(max_length=LONGEST_DECIMAL, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Positive = Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$")]
Fraction = Annotated[str, Field(max_length=16, pattern=r"^0\.[0-9]*[1-9][0-9]*$")]
Duration = Annotated[str, Field(max_length=32, pattern=r"^([0-9]{1,6}(ms|s|m|h)){1,4}$")]
# Canonical quantities only: what the API server would rewrite could never be compared with what was applied.
Quantity = Annotated[str, Field(max_length=20, pattern=r"^[1-9][0-9]*(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Uri = Annotated[str, Field(max_length=1024, pattern=r"^[a-z][a-z0-9]*://[^\s]+$")]
Endpoint = Annotated[str, Field(max_length=253, pattern=r"^https?://[^\s/]+$")]
Region = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[-a-z0-9]+$")]
StorageAccount = Annotated[str, Field(min_length=3, max_length=24, pattern=r"^[a-z0-9]+$")]  # of Azure
Timestamp = Annotated[str, Field(max_length=40, json_schema_extra=DATE_TIME)]


class ObjectReference(Schema):
    """An object in the same namespace."""

    name: ObjectName
    """The object's name."""


class KeyReference(Schema):
    """A key of an object in the same namespace."""

    name: ObjectName
    """The object's name."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-_a-zA-Z0-9][-._a-zA-Z0-9]*$")]
    """The key within the object's data."""


class ResourceRequirements(Schema):
    """CPU and memory of the container, as in a pod. What is absent has a default of the operator's."""

    requests: Annotated[dict[Literal["cpu", "memory"], Quantity], Field(max_length=2)] = {}
    """What the scheduler sets aside: quantities of cpu and memory without a fraction, such as 500m or 2Gi.
    Absent: the limit where one is declared, else a default."""
    limits: Annotated[dict[Literal["cpu", "memory"], Quantity], Field(max_length=2)] = {}
    """What the container may use at most: quantities of cpu and memory without a fraction, such as 2 or 4Gi.
    Absent: no limit for cpu; for memory the request where one is declared, else a default."""


class AcceleratedResources(Schema):
    """CPU, memory and accelerators of the container, as in a pod. What is absent has a default of the operator's."""

    requests: Annotated[dict[Literal["cpu", "memory"], Quantity], Field(max_length=2)] = {}
    """What the scheduler sets aside: quantities of cpu and memory without a fraction, such as 500m or 2Gi.
    Absent: the limit where one is declared, else a default."""
    limits: Annotated[
        dict[str, Quantity],
        Field(
            max_length=4,
            json_schema_extra=ruled(
                Rule(
                    "self.all(key, key in ['cpu', 'memory'] ||"
                    " key.matches('^[a-z0-9][-.a-z0-9]*/[a-zA-Z0-9][-_.a-zA-Z0-9]*$'))",
                    "keys must be cpu, memory or an accelerator's name such as nvidia.com/gpu",
                ),
                Rule(
                    "self.all(key, key in ['cpu', 'memory'] || self[key].matches('^[1-9][0-9]*$'))",
                    "accelerators are counted in whole numbers",
                ),
            ),
        ),
    ] = {}
    """What the container may use at most: cpu and memory such as 2 and 4Gi, and accelerators by the names of their
    resources, such as nvidia.com/gpu: "1". Absent: no limit for cpu, a default for memory, no accelerator."""


class Condition(Schema):
    """One condition of an object, as in the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z]+$")]
    """What it is about, such as Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds. Unknown: not found out yet."""
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """The metadata.generation of the spec that it is about: an older one says nothing of the present spec."""
    last_transition_time: Timestamp
    """When status changed last."""
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9_])?$")]
    """Why, in one CamelCase word that programs can rely on."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """Why, in words for people: what was found, and what to do about it."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=listmap("type"))]


NOT_OBSERVED = -1  # a status's generation until the operator writes one


class Status(Schema):
    """What every status has."""

    observed_generation: Annotated[int, Field(ge=NOT_OBSERVED, json_schema_extra=INT64)] = NOT_OBSERVED
    """The metadata.generation of the spec that this status is about; -1: no operator has seen it yet."""
    conditions: Conditions = ()
    """Where the object stands, one entry for each type; what to do next is in their messages."""


IMMUTABLE = "field is immutable: delete the object and create a new one"


def immutable(field: str) -> Rule:
    """The rule that a field, which is never absent, stays as it was created."""
    return Rule(f"self.{field} == oldSelf.{field}", IMMUTABLE, f".{field}", "FieldValueForbidden")


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
