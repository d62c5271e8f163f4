"""Evidence in a status: a short tuple of integers and strings, which is read back to the very same evidence."""

import math
from collections.abc import Sequence

Record = tuple[int | str, ...]


class RecordError(ValueError):
    """A record that no evidence of this version wrote: what was found, and what belongs there."""


class Reader:
    """Takes the fields of a record one by one, and names the one that is wrong."""

    def __init__(self, evidence: str, record: Sequence[object]) -> None:
        self._evidence, self._record, self._next = evidence, record, 0

    def integer(self, field: str) -> int:
        value = self._take(field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._error(field, value, "a count")
        return value

    def number(self, field: str) -> float:
        text = self.text(field)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._error(field, text, "a decimal")
        return value

    def text(self, field: str) -> str:
        value = self._take(field)
        if not isinstance(value, str):
            raise self._error(field, value, "a string")
        return value

    def wrong(self, field: str, found: object, expected: str) -> RecordError:
        return self._error(field, found, expected)

    def end(self) -> None:
        if self._next != len(self._record):
            raise RecordError(
                f"the evidence of {self._evidence} has {len(self._record)} fields, not {self._next}: it was written by"
                " another version, and has to be gathered anew"
            )

    def _take(self, field: str) -> object:
        if self._next >= len(self._record):
            raise RecordError(
                f"the evidence of {self._evidence} ends after {len(self._record)} fields, before {field}: it was"
                " written by another version, and has to be gathered anew"
            )
        self._next += 1
        return self._record[self._next - 1]

    def _error(self, field: str, found: object, expected: str) -> RecordError:
        return RecordError(
            f"the evidence of {self._evidence} has {found!r} as {field}, which is not {expected}: it has to be gathered"
            " anew"
        )
