"""Bodies of labels: read, or refused by name and without a word of theirs; what is read can be written."""

import json
from random import Random
from typing import Any

from modelmill_contracts import captured
from modelmill_contracts.artifact import Tensor
from modelmill_contracts.captured import LabelsHeader
from modelmill_server.errors import RefusedError
from modelmill_server.labels import MOST, Reader

from .inputs import MARK, MAX_ERROR

_DATATYPES = (None, "BYTES", "BOOL", "FP32", "FP64", "INT64", "UINT8")
_READERS = [Reader(None if kind is None else Tensor("predict", kind, (-1,)), 0.5) for kind in _DATATYPES]
_VALUES: list[Any] = [
    *(0, 1, -1, 255, 256, 2**53, 2**63, 2**64, -(2**63) - 1, 10**400),
    *(0.5, 1.0, -0.0, 1e308, 5e-324, True, False, None),
    *("", MARK, "é" * 1024, "x" * 1025, "\0", "\ud800", [], {}, [MARK], {MARK: MARK}),
]
_IDS: list[Any] = ["a", MARK, "é" * 128, "x" * 129, "", "\ud800", 7, None]
_ROWS: list[Any] = [0, 1, 2**31 - 1, 2**31, -1, 0.5, 1.0, "0", None]
_ENDS = (b"", b"{", b"nonsense", b"\xff", b"[]", b"null", b'{"labels": 1e400}', b'{"x": ' + b"[" * 5000)


def check(r: Random) -> str:
    """Make one body, read it, and check what is said; how it went."""
    body = _body(r)
    refusal = None
    try:
        parts = list(r.choice(_READERS).read(body))
    except RefusedError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status == 400
        assert MARK not in refusal.message
        assert len(refusal.message) <= MAX_ERROR
        return refusal.reason
    found = [label for _, some in parts for label in some]
    assert len(found) <= sum(count for count, _ in parts) <= MOST
    content = captured.pack_lines(LabelsHeader(), captured.lines(found))
    assert captured.unpack(content) == (LabelsHeader(), found)
    assert all(captured.is_sampled(label.id, 0.5) for label in found)
    return "read"


def _body(r: Random) -> bytes:
    if r.random() < 0.1:
        return r.choice(_ENDS)
    good = r.random() < 0.5
    labels = [_label(r, good=good) for _ in range(r.choice((0, 1, 1, 2, 5)))]
    text = json.dumps({"labels": labels if r.random() < 0.95 else r.choice(_VALUES)}).encode()
    if r.random() < 0.1:
        place = r.randrange(len(text))
        text = text[:place] + r.choice((b"", b"\xff", b"[", b"1e999")) + text[place + 1 :]
    return text


def _label(r: Random, *, good: bool) -> Any:
    if good:
        return {
            "id": f"id-{r.randrange(10**6)}",
            "label": r.choice((0, 1, 1.0, 0.5, "yes", True)),
            "row": r.randrange(9),
        }
    label = {"id": r.choice(_IDS), "label": r.choice(_VALUES), "row": r.choice(_ROWS), MARK: 1}
    kept = r.sample(list(label), r.randrange(1, 5))
    return {key: label[key] for key in kept} if r.random() < 0.9 else r.choice(_VALUES)
