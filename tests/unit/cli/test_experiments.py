"""`kubectl mill experiments`: runs as lines, as JSON or side by side, trials and others alike."""

import argparse
import csv
import io
import json
from typing import Any

import pytest

from modelmill.cli import experiments
from modelmill.cli.cluster import CommandError
from modelmill.cli.tree import ASCII

DIGEST = "sha256:" + "a" * 64


def job(name: str, params: dict[str, Any], labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    steps = [{"name": "forest", "class": "a.B", "params": params}]
    data = {"datasetRef": {"name": "tumours"}, "target": "benign"}
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels or {}},
        "spec": {"data": data, "estimator": {"steps": steps}, "seed": 7},
        "status": status,
    }


def ended(reason: str = "TrainingSucceeded", type_: str = "Succeeded") -> list[dict[str, str]]:
    return [{"type": type_, "status": "True", "reason": reason}]


def trial(number: int, params: dict[str, Any], **status: Any) -> dict[str, Any]:
    labels = {"modelmill.dev/experiment": "forests", "modelmill.dev/trial": str(number)}
    return job(f"forests-{number}", params, labels, **status)


class Told:
    """A cluster that has these runs."""

    namespace = "team-a"

    def __init__(self, *jobs: dict[str, Any]) -> None:
        self.jobs = jobs

    def objects(self, kind: object) -> list[dict[str, Any]]:
        del kind
        return list(self.jobs)


def export(cluster: Told, name: str | None = None, output: str = "json") -> str:
    asked = argparse.Namespace(verb="export", name=[name] if name else [], output=output)
    return experiments.run(asked, cluster, ASCII)  # type: ignore[arg-type]


def compare(cluster: Told, *names: str) -> str:
    asked = argparse.Namespace(verb="compare", name=list(names), output="csv")
    return experiments.run(asked, cluster, ASCII)  # type: ignore[arg-type]


CLUSTER = Told(
    trial(
        10,
        {"depth": 5, "kind": None, "share": "1.0"},
        conditions=ended(),
        metrics=[{"name": "roc_auc", "value": "0.99", "stddev": "0.01"}],
        artifact={"digest": DIGEST, "modelBytes": 4711},
    ),
    trial(
        2, {"depth": 3, "kind": "=cmd"}, conditions=ended("StoppedEarly"), metrics=[{"name": "roc_auc", "value": "0.5"}]
    ),
    trial(3, {"depth": 4}, conditions=ended("TrainingFailed", "Failed")),
    job("by-hand", {"rate": 0.5}, conditions=ended(), metrics=[{"name": "recall", "value": "0.9"}]),
    trial(4, {"depth": 4}),
)


def test_the_trials_of_one_experiment_in_their_order() -> None:
    found = json.loads(export(CLUSTER, "forests"))
    assert [(run["trial"], run["state"]) for run in found] == [
        *(("2", "Stopped"), ("3", "Failed"), ("4", "Running"), ("10", "Succeeded")),
    ]
    last = found[-1]
    assert last["parameters"] == {"forest__depth": 5, "forest__kind": None, "forest__share": 1.0}
    assert last["metrics"] == {"roc_auc": {"value": "0.99", "stddev": "0.01"}}
    assert (last["artifact"], last["modelBytes"], last["dataset"], last["seed"]) == (DIGEST, 4711, "tumours", 7)


def test_runs_that_are_no_trials_stand_beside_them() -> None:
    rows = list(csv.DictReader(io.StringIO(export(CLUSTER, output="csv"))))
    assert {row["run"] for row in rows} == {"by-hand", "forests-2", "forests-3", "forests-4", "forests-10"}
    by_hand = next(row for row in rows if row["run"] == "by-hand")
    assert (by_hand["experiment"], by_hand["param.forest__rate"], by_hand["metric.recall"]) == ("", "0.5", "0.9")
    assert by_hand["param.forest__depth"] == ""
    best = next(row for row in rows if row["run"] == "forests-10")
    assert (best["param.forest__kind"], best["metric.roc_auc.stddev"]) == ("null", "0.01")


def test_no_cell_is_a_formula() -> None:
    assert "'=cmd" in export(CLUSTER, "forests", "csv")
    assert json.loads(export(CLUSTER, "forests"))[0]["parameters"]["forest__kind"] == "=cmd"


def test_columns_and_containers_have_their_names() -> None:
    grouped = job("a", {})
    grouped["spec"]["estimator"]["columns"] = [
        {"name": "num", "steps": [{"name": "scale", "params": {"with_mean": True}}]}
    ]
    own = job("b", {})
    own["spec"] = {**own["spec"], "container": {"image": "i", "env": [{"name": "DEPTH", "value": "5"}]}}
    del own["spec"]["estimator"]
    found = json.loads(export(Told(grouped, own)))
    assert [run["parameters"] for run in found] == [{"columns__num__scale__with_mean": True}, {"DEPTH": "5"}]


def test_nothing_to_export_is_said() -> None:
    with pytest.raises(CommandError, match="there is no TrainingJob of Experiment other in namespace team-a"):
        export(CLUSTER, "other")
    asked = argparse.Namespace(verb="export", name=["a", "b"], output="csv")
    with pytest.raises(CommandError, match="export takes the name of one Experiment"):
        experiments.run(asked, CLUSTER, ASCII)  # type: ignore[arg-type]


def test_a_trial_and_a_run_by_hand_are_compared_by_what_differs_and_every_metric() -> None:
    known = {"conditions": ended(), "artifact": {"digest": DIGEST}}
    scores = [{"name": "roc_auc", "value": "0.99", "stddev": "0.01"}, {"name": "recall", "value": "0.9"}]
    by_hand = job("by-hand", {"depth": 5, "rate": 0.5}, metrics=scores[:1], **known)
    of_search = trial(17, {"depth": 7, "rate": 0.5}, metrics=scores, **known)
    assert (
        compare(Told(of_search, by_hand), "by-hand", "forests-17")
        == """\
                     by-hand       forests-17
experiment                         forests
trial                              17
param.forest__depth  5             7
metric.roc_auc       0.99 +- 0.01  0.99 +- 0.01
metric.recall        -             0.9
(11 other fields and parameters are the same)"""
    )


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(CommandError, match="there is no TrainingJob other in namespace team-a"):
        compare(CLUSTER, "by-hand", "other")
    for names in ((), ("by-hand",), ("by-hand", "by-hand")):
        with pytest.raises(CommandError, match="two TrainingJobs or more"):
            compare(CLUSTER, *names)
