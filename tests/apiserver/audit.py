"""The API server's audit log: what somebody asked for, and what they were refused."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from modelmill.core.resources import TYPES
from modelmill_contracts import __version__

OPERATOR = f"modelmill-operator/{__version__} ("  # how the User-Agent of its processes begins
_WRITING = ("create", "update", "patch", "delete")
_KINDS = {resource.plural: kind for kind, resource in TYPES.items() if kind != "Event"}
GIVEN_UP = 504
_CREDENTIAL = "authentication.kubernetes.io/credential-id"


class Right(NamedTuple):
    """What a rule of a role grants, or a request needs; the resource with its subresource, as in `models/status`."""

    group: str  # "" is the core group
    resource: str
    verb: str


def rights(rules: list[dict[str, Any]]) -> set[Right]:
    """What the rules of a role grant."""
    return {
        Right(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


class Audit:
    """The requests that were made with one service account token.

    The log is written before a request is answered, so that nothing has to be waited for.
    """

    def __init__(self, config: str, token: str) -> None:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        self._credential = f"JTI={claims['jti']}"
        self._folder = Path(config).parent / "logs"

    def events(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._folder.glob("audit*.log")):
            with path.open() as lines:
                for line in lines:
                    if self._credential not in line or not line.endswith("\n"):
                        continue
                    event = json.loads(line)
                    if self._credential in event["user"].get("extra", {}).get(_CREDENTIAL, ()):
                        yield event

    def used(self) -> set[Right]:
        """The rights that the requests needed."""
        found = set()
        for event in self.events():
            about = event.get("objectRef")
            if about:
                resource = "/".join(p for p in (about["resource"], about.get("subresource")) if p)
                found.add(Right(about.get("apiGroup", ""), resource, event["verb"]))
        return found

    def refused(self, namespace: str) -> list[str]:
        """The requests that no rule allowed, and those in this namespace that admission refused.

        Elsewhere admission may refuse what is right: a namespace that goes away takes nothing new.
        """
        return [
            f"{event['verb']} {event['requestURI']}"
            for event in self.events()
            if event["annotations"].get("authorization.k8s.io/decision") != "allow"
            or (
                event.get("objectRef", {}).get("namespace") == namespace
                and event.get("responseStatus", {}).get("code") == 403
            )
        ]


class Write(NamedTuple):
    """A write that the API server answered, in the order of the answers."""

    at: datetime
    verb: str
    resource: str  # with its subresource
    name: str
    code: int


def succeeded(found: list[Write], verb: str) -> list[tuple[str, str]]:
    """The objects (kind, name) that were created, or deleted.

    Where a process dies while it is answered, the API server may write down that it gave up what it did: that was done,
    unless it was done again.
    """
    made = [w for w in found if w.verb in ("create", "delete") and (w.code < 300 or w.code == GIVEN_UP)]
    return [
        (_KINDS[write.resource], write.name)
        for number, write in enumerate(made, 1)
        if write.verb == verb and write.resource in _KINDS and not _done_again(write, made[number:])
    ]


def _done_again(write: Write, later: list[Write]) -> bool:
    following = next((w.verb for w in later if (w.resource, w.name) == (write.resource, write.name)), None)
    return write.code == GIVEN_UP and following == write.verb


class Writes:
    """What a program writes in a namespace from now on, refused attempts included; `agent` is in its User-Agent."""

    def __init__(self, config: str, agent: str, namespace: str) -> None:
        self._agent = agent
        self._namespace = namespace
        self._folder = Path(config).parent / "logs"
        current = (self._folder / "audit.log").stat()
        self._inode, self._offset = current.st_ino, current.st_size  # what was there before
        self._old = {path.stat().st_ino for path in self._folder.glob("audit-*.log")}

    def __call__(self) -> list[Write]:
        return [write for write in self._read() if write is not None]

    def _read(self) -> Iterator[Write | None]:
        for path in sorted(self._folder.glob("audit*.log")):
            inode = path.stat().st_ino
            if inode in self._old:
                continue
            with path.open() as lines:
                lines.seek(self._offset if inode == self._inode else 0)
                for line in lines:
                    if self._agent in line and f"/namespaces/{self._namespace}/" in line and line.endswith("\n"):
                        yield self._write(json.loads(line))

    def _write(self, event: dict[str, Any]) -> Write | None:
        if self._agent not in event.get("userAgent", "") or event["verb"] not in _WRITING:
            return None
        about = event["objectRef"]
        resource = "/".join(p for p in (about["resource"], about.get("subresource")) if p)
        code = event.get("responseStatus", {}).get("code", 0)
        at = datetime.fromisoformat(event["stageTimestamp"])
        return Write(at, event["verb"], resource, about.get("name", ""), code)
