"""The mutants of the core: the operators are mutmut's, how a mutant gets into the code is not.

mutmut copies the sources, starts pytest for each mutant, and leaves out constants, fields and properties.  Here a
mutant of a function or of a property is its code, which replaces the original's in a process that has imported
everything already.  A mutant of what runs at import is a module that is imported anew.
"""

import ast
import difflib
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import libcst as cst
import libcst.matchers as m
from mutmut.mutation.file_mutation import Mutation, create_mutations, deep_replace

CORE = Path(__file__).parents[2] / "operator" / "modelmill" / "core"
# mutmut leaves decorated functions alone.
_PROPERTY, _HIDDEN = "    @property\n", "    # property\n"


@dataclass(frozen=True)
class Mutant:
    """One change to one function, or to what a module does when it is imported."""

    module: str  # below core: "model", "strategies.canary", and "strategies" for the package's own
    function: str  # as in the module: "observe", "Observed.get"; of a field its class, of a constant nothing
    number: int  # among those of the module
    at_import: bool
    before: str  # the function, or the whole module
    line: int  # of its file, where that begins
    mutate: Callable[[], str] = field(repr=False)

    @property
    def after(self) -> str:
        return _after(self)

    @property
    def path(self) -> Path:
        file = CORE.joinpath(*self.module.split("."))
        return file / "__init__.py" if file.is_dir() else file.with_suffix(".py")

    @property
    def subject(self) -> str:
        """Where it is: the module, and in it the function or, of a field, the class."""
        return f"{self.module}.{self.function}".rstrip(".")

    @property
    def id(self) -> str:
        """The same as long as the function (or, at import, the module) stays as it is, and where it is in its file."""
        return hashlib.sha256(f"{self.module} {self.function} {self.number} {self.before}".encode()).hexdigest()[:16]

    @property
    def change(self) -> str:
        """What it is as long as the lines that it changes stay as they are: where, then - before, + after."""
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), n=0, lineterm="")
        changed = [f"    {line[0]} {line[1:].strip()}" for line in lines if re.match(r"[-+](?![-+]{2})", line)]
        return "\n".join((self.subject, *changed))

    @property
    def lines(self) -> set[int]:
        """The lines of its file that it changes; what it inserts changes the line that stood there."""
        before, after = self.before.splitlines(), self.after.splitlines()
        changed: set[int] = set()
        for tag, first, end, _, _ in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            if tag != "equal":
                changed |= set(range(first, max(end, first + 1)))
        return {line + self.line for line in changed}

    def install(self) -> None:
        """From now on, this process runs the mutant."""
        if self.at_import:
            forget()
            sys.meta_path.insert(0, _Instead(f"modelmill.core.{self.module}", self.after))
            return
        module = sys.modules[f"modelmill.core.{self.module}"]
        made: dict[str, Any] = {}
        exec(compile(self.after, str(module.__file__), "exec"), vars(module), made)  # noqa: S102
        (mutated,) = (_behind(found) for found in made.values())
        target: Any = module
        for part in self.function.split("."):
            target = getattr(target, part)
        target = _behind(target)
        # The function object stays the same one: others have imported it.
        for attribute in ("__code__", "__defaults__", "__kwdefaults__"):
            setattr(target, attribute, getattr(mutated, attribute))


@lru_cache(maxsize=16)  # twenty thousand would make the process large that is forked
def _after(mutant: Mutant) -> str:
    return mutant.mutate()


def _behind(found: Any) -> Any:
    """The function behind a class method or a property."""
    return found.fget if isinstance(found, property) else getattr(found, "__func__", found)


def forget() -> None:
    """From now on, this process imports the core anew."""
    for name in [name for name in sys.modules if name.startswith("modelmill.") and "modelmill.api" not in name]:
        del sys.modules[name]


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports other source under a module's name."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        folder = CORE.parent.parent.joinpath(*fullname.split("."))
        spec = importlib.util.spec_from_loader(fullname, self, is_package=folder.is_dir())
        if spec is not None and folder.is_dir():
            spec.submodule_search_locations = [str(folder)]  # its other modules stay as they are
        return spec

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        return self.source


def name_of(path: Path) -> str:
    """The name of a file's module, below core."""
    parts = path.relative_to(CORE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def of_module(path: Path) -> tuple[list[Mutant], int]:
    """Every mutant of a file, and how many are left out since they only change a sentence."""
    source = path.read_text().replace(_PROPERTY, _HIDDEN)
    module, mutations, _, _ = create_mutations(str(path), source)
    members = dict(_members(module))
    early = {*_called_at_import(module)}
    begins = _begins(ast.parse(source))
    texts: dict[cst.CSTNode, str] = {}
    found: list[Mutant] = []
    sentences = 0
    for mutation in mutations:
        if _is_sentence(mutation.original_node):
            sentences += 1
            continue
        function = mutation.contained_by_top_level_function
        name = members.get(function, "") if function is not None else ""
        whole = not isinstance(function, cst.FunctionDef) or name in early
        around = module if whole else function
        if around not in texts:
            texts[around] = _text(module, around)
        mutate = partial(_mutated, module, around, mutation)
        line = 1 if whole else begins[name] - _first(texts[around]) + 1
        found.append(Mutant(name_of(path), name, len(found) + 1, whole, texts[around], line, mutate))
    return found, sentences


def _mutated(module: cst.Module, around: cst.CSTNode, mutation: Mutation) -> str:
    return _text(module, cast("cst.CSTNode", deep_replace(around, mutation.original_node, mutation.mutated_node)))


def _text(module: cst.Module, node: cst.CSTNode) -> str:
    text = node.code if isinstance(node, cst.Module) else module.code_for_node(node)
    return text.replace(_HIDDEN, _PROPERTY).strip()


def _members(module: cst.Module) -> Iterator[tuple[cst.CSTNode, str]]:
    for statement in module.body:
        if isinstance(statement, cst.FunctionDef):
            yield statement, statement.name.value
        elif isinstance(statement, cst.ClassDef):
            for member in statement.body.body:
                method = f".{member.name.value}" if isinstance(member, cst.FunctionDef) else ""
                yield member, f"{statement.name.value}{method}"


def _begins(tree: ast.Module) -> dict[str, int]:
    """The lines of `def`, by function."""
    found: dict[str, int] = {}
    for statement in tree.body:
        of_class = statement.body if isinstance(statement, ast.ClassDef) else []
        for member in (statement, *of_class):
            if isinstance(member, ast.FunctionDef):
                name = member.name if member is statement else f"{statement.name}.{member.name}"
                found[name] = member.lineno
    return found


def _first(function: str) -> int:
    """The line of `def` in a function's own text: comments and decorators may stand above."""
    return cast("ast.FunctionDef", ast.parse(function).body[0]).lineno


def _called_at_import(module: cst.Module) -> Iterator[str]:
    for statement in module.body:
        if not isinstance(statement, cst.FunctionDef | cst.ClassDef):
            for call in m.findall(statement, m.Call(func=m.Name())):
                yield cst.ensure_type(cst.ensure_type(call, cst.Call).func, cst.Name).value


def _is_sentence(node: cst.CSTNode) -> bool:
    """Reasons, condition types, labels, keys and annotations have no space; what people read has."""
    if not isinstance(node, cst.SimpleString):
        return False
    return " " in node.raw_value and re.search("[A-Za-z]", node.raw_value) is not None
