"""`kubectl mill pause|resume|promote|abort|retry|undo NAME`: what a person decides about a rollout.

Each sets the annotation `modelmill.dev/action: VERB@REVISION`; the operator does it once, and says so in
`status.lastHandledAction`.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelmill.api.modeldeployment import ModelDeployment
from modelmill.api.schema import GROUP
from modelmill.cli.cluster import Cluster, CommandError, Manifest
from modelmill.cli.rollout import found
from modelmill.cli.tree import Lines

ANNOTATION = f"{GROUP}/action"


@dataclass(frozen=True)
class Action:
    """A verb; `arm` is the part of the status that names the revision that it is about."""

    NAME: str
    HELP: str
    arm: str
    missing: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="a ModelDeployment")

    def run(self, arguments: argparse.Namespace, cluster: Cluster, lines: Lines) -> str:  # noqa: ARG002
        deployment = found(cluster, arguments.name)
        text = self.asked(deployment)
        cluster.annotate(ModelDeployment, arguments.name, ANNOTATION, text)
        return f"asked for {text}; kubectl mill rollout {arguments.name} shows what comes of it"

    def asked(self, deployment: Manifest) -> str:
        """The annotation's text; another one than what is there, so that it is done once more."""
        status = deployment.get("status") or {}
        revision = (status.get(self.arm) or {}).get("revision")
        if revision is None:
            name = deployment["metadata"]["name"]
            raise CommandError(f"there is nothing to {self.NAME} of ModelDeployment {name}: {self.missing}")
        text = f"{self.NAME}@{revision}"
        known = {status.get("lastHandledAction"), _annotation(deployment)}
        number = 2
        while text in known:
            text, number = f"{self.NAME}@{revision}#{number}", number + 1
        return text


def _annotation(deployment: Mapping[str, Any]) -> Any:
    return (deployment["metadata"].get("annotations") or {}).get(ANNOTATION)


_NONE = "no revision is being rolled out"
ACTIONS = (
    Action("pause", "Keep a rollout where it is.", "candidate", _NONE),
    Action("resume", "Let a rollout go on that waits.", "candidate", _NONE),
    Action("promote", "Let what is rolled out take over now.", "candidate", _NONE),
    Action("abort", "Roll back what is rolled out.", "candidate", _NONE),
    Action("retry", "Try again what was rolled back.", "rolledBack", "nothing was rolled back"),
    Action("undo", "Go back to what served before.", "stable", "nothing serves"),
)
