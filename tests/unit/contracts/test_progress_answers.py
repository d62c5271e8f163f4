"""Progress: what a pod may say of itself, and what is no answer."""

import pytest

from modelmill_contracts import progress
from modelmill_contracts.progress import Progress


@pytest.mark.parametrize(
    "said",
    [Progress(0), Progress(100), Progress(12.5, "fold"), Progress(40, "a-1", {"roc_auc": 0.99, "r2": -3.0})],
)
def test_what_is_said_is_understood(said: Progress) -> None:
    assert progress.decode(progress.encode(said)) == said


def test_a_newer_program_may_say_more() -> None:
    assert progress.decode(b'{"percent": 1, "eta": {"seconds": [1]}}') == Progress(1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"\xff",
        b"[40]",
        b"{}",
        b'{"percent": "40"}',
        b'{"percent": true}',
        b'{"percent": -1}',
        b'{"percent": 100.1}',
        b'{"percent": 1e999}',
        b'{"percent": NaN}',
        b'{"percent": 1, "phase": "Fold"}',
        b'{"percent": 1, "phase": "fold\\n"}',
        b'{"percent": 1, "phase": "%s"}' % (b"a" * 33),
        b'{"percent": 1, "metrics": [1]}',
        b'{"percent": 1, "metrics": {"loss": Infinity}}',
        b'{"percent": 1, "metrics": {"loss": 1e999}}',
        b'{"percent": 1, "metrics": {"loss": "low"}}',
        b'{"percent": 1, "metrics": {"a b": 1}}',
        b'{"percent": 1, "metrics": {"": 1}}',
        b'{"percent": 1, "metrics": {"%s": 1}}' % (b"a" * 65),
        b'{"percent": 1, "metrics": {%s}}' % b",".join(b'"m%d": 1' % number for number in range(33)),
        b'{"percent": 1, "more": %s' % (b"[" * 4000),
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of msgspec, or ours
        progress.decode(body)
