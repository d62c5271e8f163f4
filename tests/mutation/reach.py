"""Which tests can notice a mutant: those that execute a statement that it changes.

What a constant is, or a field's default, every test may notice.  Of these, the tests count that execute a statement
with the name that is bound there, or with a name that is bound at import to something that was made of it.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

Line = tuple[str, int]  # of a file
Tests = int  # a set of them: bit n is the test n
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def executed(run: Callable[[], object], files: Collection[str]) -> set[Line]:
    """The lines of these files that are executed meanwhile."""
    found: dict[str, set[int]] = {path: set() for path in files}
    tracers: dict[CodeType, Any] = {}

    def tracer(code: CodeType) -> Any:
        if code.co_filename not in found:
            return None
        add = found[code.co_filename].add

        def line(frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG001
            add(frame.f_lineno)
            return line

        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in tracers:
            tracers[code] = tracer(code)
        line = tracers[code]
        return line and line(frame, event, argument)

    sys.settrace(call)
    try:
        run()
    finally:
        sys.settrace(None)
    return {(path, number) for path, numbers in found.items() for number in numbers}


@dataclass(frozen=True)
class Statement:
    """Where one is."""

    path: str
    first: int
    last: int


class Reach:
    """Which tests execute what, and which names it has."""

    def __init__(self, files: Iterable[Path], at_import: set[Line], by_line: dict[Line, Tests], tests: int) -> None:
        self.at_import, self.by_line, self.all = at_import, by_line, (1 << tests) - 1
        self._at: dict[Line, Statement] = {}  # the innermost one
        self._bound: dict[Line, frozenset[str]] = {}  # what is at import given a value there
        self._made_of: defaultdict[str, set[str]] = defaultdict(
            set
        )  # names that are bound to something made of this one
        self._users: defaultdict[str, set[Statement]] = defaultdict(set)  # what functions do with a name
        self._anywhere: set[str] = set()  # names of which nobody can say what is made of them
        self._of_names: dict[frozenset[str], Tests] = {}
        for path in files:
            self._read(str(path), ast.parse(path.read_text()))

    def of(self, path: Path, lines: Iterable[int], *, at_import: bool) -> Tests:
        """The tests that can notice that these lines are others."""
        found = 0
        for line in ((str(path), number) for number in lines):
            if line in self._at:
                found |= self._executing(self._at[line])
            if at_import:
                found |= self._noticing(self._bound.get(line, frozenset()))
        return found

    def _executing(self, statement: Statement) -> Tests:
        found = 0
        for line in range(statement.first, statement.last + 1):
            found |= self.by_line.get((statement.path, line), 0)
        return found

    def _noticing(self, names: frozenset[str]) -> Tests:
        """The tests that execute something with one of these names, or with what is made of them at import."""
        if names not in self._of_names:
            reached: set[str] = set()
            left = set(names)
            while left:
                name = left.pop()
                reached.add(name)
                left |= self._made_of[name] - reached
            found = 0
            for name in reached:
                for statement in self._users[name]:
                    found |= self._executing(statement)
            self._of_names[names] = found if reached and not reached & self._anywhere else self.all
        return self._of_names[names]

    def _read(self, path: str, tree: ast.Module) -> None:
        for node in ast.walk(tree):  # the outer ones first
            if isinstance(node, ast.stmt):
                statement = Statement(path, _first(node), node.end_lineno or node.lineno)
                self._at |= {(path, line): statement for line in range(statement.first, statement.last + 1)}
        for node in tree.body:
            bound = _bound(node)
            self._bound |= {(path, line): bound for line in range(_first(node), (node.end_lineno or node.lineno) + 1)}
            functions = list(_functions(node))
            within = {part for function in functions for part in ast.walk(function)}
            self._are_made(bound, (part for part in ast.walk(node) if part not in within))
            for function in functions:
                self._use(path, function)
                if any((path, line) in self.at_import for line in _lines(function)):
                    self._are_made(bound, ast.walk(function))

    def _are_made(self, bound: frozenset[str], of: Iterable[ast.AST]) -> None:
        for name in _names(of):
            self._made_of[name] |= bound - {name}
            if not bound:
                self._anywhere.add(name)

    def _use(self, path: str, function: _Function) -> None:
        body = {part for statement in function.body for part in ast.walk(statement)}
        for part in ast.walk(function):
            # A default, and what a decorator is given, is for whoever calls the function.
            line = getattr(part, "lineno", 0) if part in body else function.lineno
            for name in _names([part]):
                self._users[name].add(self._at[path, line])


def members(tests: Tests) -> Iterator[int]:
    while tests:
        lowest = tests & -tests
        yield lowest.bit_length() - 1
        tests ^= lowest


def _first(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", [])
    return min(statement.lineno, *(decorator.lineno for decorator in decorators), statement.lineno)


def _lines(function: _Function) -> range:
    """Of its body."""
    return range(function.body[0].lineno, (function.end_lineno or function.lineno) + 1)


def _functions(statement: ast.stmt) -> Iterator[_Function]:
    """The functions of a statement at import: itself, or its methods."""
    if isinstance(statement, _Function):
        yield statement
    elif isinstance(statement, ast.ClassDef):
        for member in statement.body:
            yield from _functions(member)


def _bound(statement: ast.stmt) -> frozenset[str]:
    """The names that a statement at import gives a value to; none if that cannot be said."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return frozenset({name})
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return frozenset(alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case ast.Assign(targets=targets):
            pass
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            targets = [target]
        case _:
            return frozenset()
    names = {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return frozenset(names) if all(isinstance(target, ast.Name | ast.Tuple) for target in targets) else frozenset()


def _names(parts: Iterable[ast.AST]) -> Iterator[str]:
    for part in parts:
        match part:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
            case ast.Constant(value=str(name)) if name.isidentifier():
                yield name
