"""The routes: what is written is what is read, and nothing else is taken for routes."""

import msgspec
import pytest

from modelmill_contracts import routes
from modelmill_contracts.routes import Routes

FULL = Routes(
    epoch="90ab11c2.1",
    host="triage-candidate",
    port=80,
    weight=25,
    shadow=10,
    sticky_header="x-user-id",
    window=30,
    revision="90ab11c2",
)


def test_what_is_written_is_what_is_read() -> None:
    assert routes.decode(routes.encode(FULL)) == FULL


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"weight": 101},
        {"weight": 2.5},
        {"shadow": -1},
        {"epoch": ""},
        {"host": ""},
        {"host": "a\r\nx: y"},
        {"window": 0},
        {"revision": "a" * 65},
        {"port": 0},
        {"sticky_header": "X-User-Id"},
        {"sticky_header": "x-user-id\n"},
    ],
)
def test_what_is_no_routes_is_refused(wrong: dict[str, object]) -> None:
    text = msgspec.json.encode({**msgspec.to_builtins(FULL), **wrong})
    with pytest.raises(ValueError, match=r"version|Expected|`"):
        routes.decode(text)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="deep"):
        routes.decode(b'{"more":' + b"[" * 100_000)


def test_fields_that_a_newer_operator_adds_are_left_out() -> None:
    assert routes.decode(msgspec.json.encode({**msgspec.to_builtins(FULL), "colour": "blue"})) == FULL
