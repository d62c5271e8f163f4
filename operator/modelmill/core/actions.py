"""Actions: what people ask of a rollout by the annotation `modelmill.dev/action: VERB@REVISION`.

It is read once: the status records what was handled, and the annotation is left as it is.  To ask for the same again,
one takes it off first, or adds a number: `resume@90ab11c2#2`.
"""

import re
from dataclasses import dataclass

from modelmill.api.rollout import VERBS
from modelmill.api.schema import GROUP

ANNOTATION = f"{GROUP}/action"
LONGEST = 64  # characters that a status has room for
_FORM = re.compile(rf"({'|'.join(VERBS)})@([0-9a-f]{{8}})(#[0-9]{{1,9}})?")


@dataclass(frozen=True)
class Action:
    """What somebody asks for: pause, resume, promote, abort, retry or undo, of a revision."""

    verb: str
    revision: str


def read(text: str) -> Action | None:
    """The action in an annotation; None where it is none."""
    found = _FORM.fullmatch(text)
    return Action(found[1], found[2]) if found else None
