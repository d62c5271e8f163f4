"""Labels that come back: what a caller says is read, checked, and made records of."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from modelmill_contracts import captured
from modelmill_contracts.artifact import Tensor
from modelmill_contracts.captured import Label
from modelmill_server.errors import invalid
from modelmill_server.signature import NUMPY_TYPES
from modelmill_server.v2 import too_deep

MOST = 10_000  # of one request
_AT_ONCE = 500  # are read before others have their turn
_LONGEST = 1024  # characters of a label that is a text
_UNKNOWN = "Object contains unknown field"

Value = float | int | str | bool
Check = Callable[[Value], Value | None]  # the label as the model predicts it; None where it is of another type


class _Given(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: captured.Id
    label: Value
    row: Annotated[int, Meta(ge=0, lt=1 << 31)] = 0


class _Request(msgspec.Struct, gc=False):
    labels: Annotated[list[_Given], Meta(max_length=MOST)]


class Answer(msgspec.Struct):
    written: int
    not_sampled: int


class Reader:
    """Reads the labels for a model whose predictions are `predicted`, of which it samples that `share`."""

    def __init__(self, predicted: Tensor | None, share: float) -> None:
        self._check, self._words = _check_for(None if predicted is None else predicted.datatype)
        self._share = share

    def read(self, body: bytes) -> Iterator[tuple[int, list[Label]]]:
        """The labels in `body`, some at a time: how many, and those of them that are to be written.

        RefusedError where it is wrong: then nothing of it is to be written, whatever came before.
        """
        try:
            given = _decode(body).labels
        except msgspec.ValidationError as error:
            raise invalid("RequestInvalid", f"the body holds no labels: {_explained(error)}") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise invalid("JsonInvalid", "the body is not valid JSON; mend it") from error
        except RecursionError as error:
            raise too_deep() from error
        at = time.time_ns() // 1_000_000
        for start in range(0, len(given), _AT_ONCE):
            some = given[start : start + _AT_ONCE]
            yield len(some), self._kept(some, start, at)

    def _kept(self, given: list[_Given], start: int, at: int) -> list[Label]:
        found = []
        for index, one in enumerate(given, start):
            label = self._check(one.label)
            if label is None:
                where = f"labels[{index}].label"
                raise invalid("LabelInvalid", f"{where}: must be {self._words}, as the model's predictions are")
            if captured.is_sampled(one.id, self._share):
                found.append(Label(one.id, one.row, at, label))
        return found


_decode = msgspec.json.Decoder(_Request).decode


def _explained(error: msgspec.ValidationError) -> str:
    """Where it is wrong and what was expected, without what was sent: an unknown field's name is a caller's."""
    text = str(error)
    if text.startswith(_UNKNOWN):
        return f"a field that is none of id, row and label - at{text.rpartition(' - at')[2]}"
    return text


def _check_for(datatype: str | None) -> tuple[Check, str]:
    """What a label must be where predictions are of that datatype; None: they are no single values."""
    if datatype is None:
        return _any, f"a finite number, true or false, or a text of at most {_LONGEST} characters"
    if datatype == "BYTES":
        return _text, f"a text of at most {_LONGEST} characters"
    if datatype == "BOOL":
        return lambda value: value if type(value) is bool else None, "true or false"
    if datatype.startswith("FP"):
        return _number, "a finite number"
    limits = np.iinfo(np.dtype(NUMPY_TYPES[datatype]))
    low, high = int(limits.min), int(limits.max)

    def whole(value: Value) -> int | None:
        if type(value) is float and value.is_integer():
            value = int(value)
        return value if type(value) is int and low <= value <= high else None

    return whole, f"a whole number from {low} to {high}"


def _text(value: Value) -> str | None:
    return value if type(value) is str and len(value) <= _LONGEST else None


def _number(value: Value) -> float | None:
    if type(value) is int and abs(value) < 1 << 53:
        value = float(value)
    return value if type(value) is float and math.isfinite(value) else None


def _any(value: Value) -> Value | None:
    if type(value) is int:
        return value if abs(value) < 1 << 63 else None
    if type(value) is float:
        return _number(value)
    return _text(value) if type(value) is str else value
