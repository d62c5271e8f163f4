"""Which tests a mutant is tried with: all that can notice it, and not simply all."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mutation.reach import Line, Reach, executed, members

SOURCE = """\
LEAST = 5
NAMES = {
    "few": "Few",
}
HALF = LEAST / 2


class Limit:
    most: int = 9

    def exceeded(self, number: int) -> bool:
        return number > self.most


def of(
    number: int,
    much: str = "Much",
) -> str:
    if number < LEAST:
        return (
            NAMES["few"]
        )
    elif Limit().exceeded(number):
        return "TooMuch"
    return much


def is_half(number: int) -> bool:
    return number == HALF


def doubled(number: int) -> int:
    return number * 2


EIGHT = doubled(4)


def is_eight(number: int) -> bool:
    return number == EIGHT


if LEAST:
    SOME = True
"""

TESTS: dict[str, Callable[[ModuleType], object]] = {
    "few": lambda module: module.of(1),
    "much": lambda module: module.of(7),
    "too much": lambda module: module.of(10),
    "half": lambda module: module.is_half(2),
    "eight": lambda module: module.is_eight(8),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "limits.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def noticing(source: Path) -> Callable[..., set[str]]:
    """The tests that can notice that a line of the source is another one."""
    spec = importlib.util.spec_from_file_location("limits", source)
    assert spec is not None
    assert spec.loader is not None
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    at_import = executed(lambda: loader.exec_module(module), {str(source)})
    by_line: dict[Line, int] = {}
    for number, test in enumerate(TESTS.values()):
        for line in executed(lambda: test(module), {str(source)}):  # noqa: B023
            by_line[line] = by_line.get(line, 0) | 1 << number
    reach = Reach([source], at_import, by_line, len(TESTS))

    def tests(text: str, *, at_import: bool = False) -> set[str]:
        (line,) = [number for number, line in enumerate(SOURCE.splitlines(), 1) if text in line]
        return {list(TESTS)[number] for number in members(reach.of(source, {line}, at_import=at_import))}

    return tests


def test_only_what_is_executed_meanwhile_is_seen(source: Path) -> None:
    assert executed(lambda: None, {str(source)}) == set()
    assert executed(source.exists, set()) == set()


def test_a_branch_is_noticed_by_the_tests_that_take_it(noticing: Callable[..., set[str]]) -> None:
    assert noticing('return "TooMuch"') == {"too much"}
    assert noticing("return much") == {"much"}


def test_a_line_without_code_is_part_of_its_statement(noticing: Callable[..., set[str]]) -> None:
    assert noticing("return (") == {"few"}
    assert noticing("elif") == {"much", "too much"}


def test_a_condition_is_noticed_whatever_it_leads_to(noticing: Callable[..., set[str]]) -> None:
    assert noticing("if number < LEAST") == {"few", "much", "too much"}


def test_a_default_is_noticed_by_whoever_calls(noticing: Callable[..., set[str]]) -> None:
    assert noticing("much: str") == {"few", "much", "too much"}


def test_a_constant_is_noticed_where_it_is_used_and_where_what_is_made_of_it_is(
    noticing: Callable[..., set[str]],
) -> None:
    assert noticing('"few": "Few"', at_import=True) == {"few"}
    assert noticing("HALF = ", at_import=True) == {"half"}


def test_a_field_is_noticed_by_who_makes_an_object(noticing: Callable[..., set[str]]) -> None:
    assert noticing("most: int", at_import=True) == {"much", "too much"}


def test_a_function_that_is_called_at_import_is_noticed_by_its_result(noticing: Callable[..., set[str]]) -> None:
    assert noticing("return number * 2", at_import=True) == {"eight"}


def test_where_nobody_can_say_every_test_may_notice_it(noticing: Callable[..., set[str]]) -> None:
    assert noticing("LEAST = 5", at_import=True) == set(TESTS)  # there is an `if` at import that uses it
    assert noticing("SOME = True", at_import=True) == set(TESTS)
