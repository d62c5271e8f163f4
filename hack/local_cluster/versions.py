"""What is built from source, at which version: read from the go.mod files under hack/go, so that they pin it
in one place."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from local_cluster.console import ClusterError
from local_cluster.paths import GO_MODULES, binaries


@dataclass(frozen=True)
class GoModule:
    """What a go.mod says: the `go` line, the packages of its `tool` lines and the versions of its `require`
    lines."""

    go: str
    tools: tuple[str, ...]
    requires: dict[str, str]


@dataclass(frozen=True)
class Component:
    """One folder of hack/go: an upstream project, the commands built from it, and where they are kept.

    A program of our own may lie beside the go.mod: its source is then part of the version.
    """

    name: str
    version: str
    folder: Path
    go: str
    tools: tuple[str, ...]

    @property
    def target(self) -> Path:
        return binaries() / f"{self.name}-{self.version}"

    @property
    def programs(self) -> tuple[str, ...]:
        return tuple(program_name(tool) for tool in self.tools)

    def program(self, name: str) -> Path:
        return self.target / name

    @property
    def built(self) -> bool:
        return all(self.program(name).is_file() for name in self.programs)


def parse_go_mod(text: str) -> GoModule:
    """Read the directives that are needed here; `replace`, `exclude` and comments are skipped."""
    go, tools, requires = "", [], {}
    block = ""
    for raw in text.splitlines():
        words = raw.split("//", 1)[0].split()
        if not words:
            continue
        if block:
            if words == [")"]:
                block = ""
                continue
            verb = block
        else:
            verb, words = words[0], words[1:]
            if words == ["("]:
                block = verb
                continue
        if verb == "go":
            go = words[0]
        elif verb == "tool":
            tools.append(words[0])
        elif verb == "require":
            requires[words[0]] = words[1]
    return GoModule(go, tuple(tools), requires)


def version_of(package: str, requires: dict[str, str]) -> str:
    """The version of the module that holds a package: the longest required path that is a prefix of it."""
    holders = [path for path in requires if package == path or package.startswith(path + "/")]
    if not holders:
        raise ClusterError(f"no `require` line of the go.mod holds the tool {package}")
    return requires[max(holders, key=len)]


def program_name(package: str) -> str:
    """The file name `go build` gives a command: the last element of its path, major version suffix aside."""
    elements = package.split("/")
    if len(elements) > 1 and re.fullmatch(r"v[0-9]+", elements[-1]):
        elements.pop()
    return elements[-1]


def component(name: str) -> Component:
    folder = GO_MODULES / name
    try:
        module = parse_go_mod((folder / "go.mod").read_text())
    except FileNotFoundError:
        raise ClusterError(f"{folder}/go.mod is missing: is this checkout complete?") from None
    version = version_of(module.tools[0], module.requires) + _source_digest(folder)
    return Component(name, version, folder, module.go, module.tools)


def _source_digest(folder: Path) -> str:
    sources = sorted(folder.glob("*.go"))
    if not sources:
        return ""
    files = [folder / "go.mod", *sources]
    return "-" + hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
