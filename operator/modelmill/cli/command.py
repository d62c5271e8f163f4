"""`kubectl mill VERB ...`: the arguments, and what an error looks like.

A verb is a module, or an object, with `NAME`, `HELP`, `arguments` and `run`; it is added to VERBS, and nowhere else.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from modelmill.cli import experiments, lineage, rollout, run
from modelmill.cli.actions import ACTIONS
from modelmill.cli.cluster import Cluster, CommandError, options
from modelmill.cli.tree import ASCII, UNICODE, Lines
from modelmill_contracts import __version__


class Verb(Protocol):
    """What a verb's module has."""

    @property
    def NAME(self) -> str: ...  # noqa: N802 - a module's constant
    @property
    def HELP(self) -> str: ...  # noqa: N802

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's own arguments."""

    def run(self, arguments: argparse.Namespace, cluster: Cluster, lines: Lines) -> str:
        """What is printed; CommandError where there is no answer."""


VERBS: tuple[Verb, ...] = (lineage, experiments, rollout, run, *ACTIONS)


def parser() -> argparse.ArgumentParser:
    """All arguments of all verbs."""
    made = argparse.ArgumentParser(
        prog="kubectl mill", description="Modelmill from the command line.", parents=[options(None)]
    )
    made.add_argument("--version", action="version", version=__version__)
    verbs = made.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        added = verbs.add_parser(verb.NAME, help=verb.HELP, description=verb.HELP, parents=[options()])
        verb.arguments(added)
        added.set_defaults(run=verb.run)
    return made


def main(words: Sequence[str] | None = None) -> None:
    """Print the answer, or the error; the exit code is 1 where there is no answer, 2 where the question is none."""
    arguments = parser().parse_args(words)
    # What is read by programs, or by terminals of old, is plain.
    lines = UNICODE if sys.stdout.isatty() and (sys.stdout.encoding or "").lower().startswith("utf") else ASCII
    try:
        cluster = Cluster(arguments.kubeconfig, arguments.context, arguments.namespace)
        print(arguments.run(arguments, cluster, lines))
    except CommandError as error:
        sys.exit(f"error: {error}")
