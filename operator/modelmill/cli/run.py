"""`kubectl mill run PIPELINE`: creates a PipelineRun, with the user's own rights.

It is what `kubectl create` does with a manifest of three lines; anything else that may create one does as well.
"""

import argparse
from typing import Any

from modelmill.api.pipeline import Pipeline
from modelmill.api.pipelinerun import PipelineRun
from modelmill.api.schema import API_VERSION, GROUP
from modelmill.cli.cluster import Cluster, CommandError
from modelmill.cli.tree import Lines

NAME = "run"
HELP = "Start a run of a Pipeline, or go on with one that failed."
TRIGGER = "by-hand"
# What carries them is kept as long as the Pipeline's runHistoryLimit says.
_LABELS = {"app.kubernetes.io/managed-by": "modelmill"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a Pipeline")
    parser.add_argument("--retry", metavar="RUN", help="a PipelineRun that failed: start at the stage that did")
    parser.add_argument("--why", default="", metavar="TEXT", help="what the run says of its cause")


def run(arguments: argparse.Namespace, cluster: Cluster, lines: Lines) -> str:  # noqa: ARG001
    name, retry = arguments.name, arguments.retry
    if name not in {pipeline["metadata"]["name"] for pipeline in cluster.objects(Pipeline)}:
        raise CommandError(f"there is no Pipeline {name} in namespace {cluster.namespace} (kubectl get mpl)")
    made = cluster.create(PipelineRun, manifest(name, retry, arguments.why))
    return f"PipelineRun {made} is created; kubectl get mplr {made} --watch shows what comes of it"


def manifest(pipeline: str, retry: str | None, why: str) -> dict[str, Any]:
    """A run of that Pipeline; the API server completes its name."""
    cause = {"trigger": TRIGGER, **({"message": why} if why else {})}
    return {
        "apiVersion": API_VERSION,
        "kind": PipelineRun.__name__,
        "metadata": {"generateName": f"{pipeline}-", "labels": {**_LABELS, f"{GROUP}/pipeline": pipeline}},
        "spec": {
            "pipelineRef": {"name": pipeline},
            "cause": cause,
            **({"retryOf": {"name": retry}} if retry is not None else {}),
        },
    }
