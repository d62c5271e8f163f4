"""`kubectl mill experiments`: tracked runs with their parameters and metrics, as CSV or JSON, or side by side.

Trials of an Experiment and runs that somebody made by hand are the same thing, and stand beside each other.
"""

import argparse
import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from modelmill.api.trainingjob import TrainingJob
from modelmill.cli.cluster import Cluster, CommandError, options
from modelmill.cli.tree import Lines
from modelmill.core import tracked
from modelmill.core.resources import TRIAL_LABEL

NAME = "experiments"
HELP = "Export or compare runs with parameters and metrics."
_COMMON = (
    *("run", "experiment", "trial", "state", "reason", "created", "dataset", "datasetVersion", "recipe", "artifact"),
    *("modelVersion", "modelBytes", "cpuSeconds", "seed"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="VERB", required=True, dest="verb")
    export = verbs.add_parser("export", help="as CSV or JSON", parents=[options()])
    export.add_argument("name", nargs="*", help="an Experiment; default: all runs of the namespace")
    export.add_argument("-o", "--output", choices=("csv", "json"), default="csv")
    compare = verbs.add_parser("compare", help="side by side", parents=[options()])
    compare.add_argument("name", nargs="*", help="TrainingJobs, two or more")


def run(arguments: argparse.Namespace, cluster: Cluster, lines: Lines) -> str:  # noqa: ARG001 - nothing is drawn
    """Exported one run a line, or as a list of objects, in the order in which they were created; or compared."""
    if arguments.verb == "compare":
        return _compared(arguments.name, cluster)
    if len(arguments.name) > 1:
        raise CommandError("export takes the name of one Experiment, or none; compare takes those of TrainingJobs")
    name = arguments.name[0] if arguments.name else None
    found = [job for job in cluster.objects(TrainingJob) if name in (None, tracked.experiment(job))]
    if not found:
        which = f" of Experiment {name}" if name else ""
        raise CommandError(f"there is no TrainingJob{which} in namespace {cluster.namespace}")
    runs = [tracked.run_of(job) for job in sorted(found, key=_order)]
    return json.dumps(runs, indent=2) if arguments.output == "json" else _csv(runs)


def _compared(names: list[str], cluster: Cluster) -> str:
    """One column a run: what differs between them, and every metric."""
    known = {job["metadata"]["name"]: job for job in cluster.objects(TrainingJob)}
    missing = [name for name in names if name not in known]
    if missing:
        raise CommandError(f"there is no TrainingJob {missing[0]} in namespace {cluster.namespace}")
    if len(set(names)) < 2:
        raise CommandError("compare takes the names of two TrainingJobs or more (kubectl get tjob)")
    runs = [tracked.run_of(known[name]) for name in dict.fromkeys(names)]
    rows = [(key, [_cell(run[key]) for run in runs]) for key in _COMMON[1:] if key != "created"]
    parameters = list(dict.fromkeys(name for run in runs for name in run["parameters"]))
    rows += [(f"param.{name}", [_cell(*_of(run, [name])) for run in runs]) for name in parameters]
    metrics = list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    measured = [(f"metric.{name}", [_measured(run["metrics"].get(name)) for run in runs]) for name in metrics]
    differing = [row for row in rows if len(set(row[1])) > 1]
    table = [("", [run["run"] for run in runs]), *differing, *measured]
    widths = [
        max(len(cell) for cell in column) for column in zip(*((name, *cells) for name, cells in table), strict=True)
    ]
    lines = ("  ".join(c.ljust(w) for c, w in zip((n, *cells), widths, strict=True)) for n, cells in table)
    same = len(rows) - len(differing)
    return "\n".join((*(line.rstrip() for line in lines), f"({same} other fields and parameters are the same)"))


def _measured(metric: Mapping[str, str] | None) -> str:
    if metric is None:
        return "-"
    return f"{metric['value']} +- {metric['stddev']}" if "stddev" in metric else metric["value"]


def _order(job: Mapping[str, Any]) -> tuple[str, int, str]:
    """By age; trials that were made in the same second by their numbers."""
    metadata = job["metadata"]
    number = (metadata.get("labels") or {}).get(TRIAL_LABEL, "0")
    return metadata["creationTimestamp"], int(number) if number.isdecimal() else 0, metadata["name"]


def _csv(runs: list[dict[str, Any]]) -> str:
    parameters = list(dict.fromkeys(name for run in runs for name in run["parameters"]))
    metrics = list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    measured = [heading for name in metrics for heading in (f"metric.{name}", f"metric.{name}.stddev")]
    writer.writerow([*_COMMON, *(f"param.{name}" for name in parameters), *measured])
    for run in runs:
        values = [run["metrics"].get(name, {}).get(part) for name in metrics for part in ("value", "stddev")]
        writer.writerow([_cell(v) for v in (*(run[c] for c in _COMMON), *_of(run, parameters), *values)])
    return out.getvalue().rstrip("\n")


def _of(run: Mapping[str, Any], parameters: list[str]) -> list[Any]:
    """A parameter that is not declared is an empty cell; one that is None says so."""
    return [json.dumps(run["parameters"][name]) if name in run["parameters"] else None for name in parameters]


def _cell(value: Any) -> str:
    """A spreadsheet takes a text for a formula that begins like one."""
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, str) and text.startswith('"') and text.endswith('"'):
        text = str(json.loads(text))
    return f"'{text}" if text[:1] in ("=", "+", "@") else text
