"""The API server's audit log: what somebody asked for, and what they were refused."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
