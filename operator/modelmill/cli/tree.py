"""Trees as text, one line for each node."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Tree:
    """A line, and what belongs below it."""

    text: str
    children: tuple["Tree", ...] = ()


class Lines(NamedTuple):
    """What a tree is drawn with, four characters each."""

    child: str
    last: str
    beside: str  # left of what is below a child that others follow


UNICODE = Lines("├── ", "└── ", "│   ")
ASCII = Lines("|-- ", "`-- ", "|   ")
_NOTHING = "    "


def drawn(tree: Tree, lines: Lines) -> Iterator[str]:
    """The lines of a tree, its own first."""
    yield tree.text
    for number, child in enumerate(tree.children, 1):
        is_last = number == len(tree.children)
        first, *rest = drawn(child, lines)
        yield (lines.last if is_last else lines.child) + first
        yield from ((_NOTHING if is_last else lines.beside) + line for line in rest)
