"""Progress: the status tells how far the pod that trains is, and nothing depends on it."""

from typing import Any

import pytest
from world import World, digest_of, trained, training_spec, with_dataset, with_store

from modelmill.core.measurement import SOURCES, source_of
from modelmill.core.plan import SetStatus
from modelmill_contracts import report
from modelmill_contracts.progress import Progress

FOLD = Progress(40.9, "fold", {"roc_auc": 0.99123456, "recall": 1.0})


def training(**more: Any) -> World:
    """A TrainingJob whose pod runs."""
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(**more))
    world.settle()
    world.pod_of_job("lr-train")
    world.settle()
    return world


def said(world: World) -> Any:
    world.reconcile("TrainingJob", "lr")
    return world.get("TrainingJob", "lr")["status"].get("progress")


def test_it_is_told_in_whole_percents_and_metrics_as_decimals() -> None:
    world = training()
    assert said(world) is None
    world.wait(30)
    world.pod_says("lr-train-x", FOLD)
    assert said(world) == {
        "percent": 40,
        "phase": "fold",
        "metrics": [{"name": "recall", "value": "1"}, {"name": "roc_auc", "value": "0.991235"}],
        "at": "2026-01-01T00:00:30Z",
    }
    assert world.plan("TrainingJob", "lr").writes == ()


def test_what_a_pod_does_not_say_is_not_there() -> None:
    world = training()
    world.pod_says("lr-train-x", Progress(0))
    assert said(world) == {"percent": 0, "at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-7, "0.0000001"),
        (-12345678.0, "-12345700"),
        (1e-62, f"0.{'0' * 61}1"),  # 64 characters, as the API has room for
        (1e-63, None),
        (1e300, None),
    ],
)
def test_a_metric_that_takes_no_sane_number_of_digits_is_left_out(value: float, text: str | None) -> None:
    world = training()
    world.pod_says("lr-train-x", Progress(1, metrics={"loss": value, "recall": 0.5}))
    expected = [{"name": "recall", "value": "0.5"}]
    assert said(world)["metrics"] == ([{"name": "loss", "value": text}, *expected] if text else expected)


def test_metrics_that_change_are_no_news_and_come_with_the_next_percent() -> None:
    world = training()
    world.pod_says("lr-train-x", Progress(40, "fold", {"loss": 0.5}))
    said(world)
    world.wait(10)
    world.pod_says("lr-train-x", Progress(40.6, "fold", {"loss": 0.4}))
    assert world.plan("TrainingJob", "lr").writes == ()
    for percent, phase in ((41, "fold"), (41, "convert")):
        world.wait(10)
        world.pod_says("lr-train-x", Progress(percent, phase, {"loss": 0.3}))
        (write,) = world.plan("TrainingJob", "lr").writes
        assert isinstance(write, SetStatus)
        assert said(world)["metrics"] == [{"name": "loss", "value": "0.3"}]
        assert said(world)["phase"] == phase


def test_an_operator_that_has_not_asked_yet_leaves_what_was_said() -> None:
    world = training()
    world.pod_says("lr-train-x", FOLD)
    before = said(world)
    world.wait(60)
    world.answers.clear()
    assert world.plan("TrainingJob", "lr").writes == ()
    assert said(world) == before


def test_another_pod_of_the_job_begins_anew() -> None:
    world = training()
    world.pod_says("lr-train-x", FOLD)
    assert said(world)["percent"] == 40
    world.wait(30)
    first = world.get("Pod", "lr-train-x")
    kept = {key: first["metadata"][key] for key in ("labels", "ownerReferences")}
    world.put("Pod", "lr-train-a", metadata=kept, status={"phase": "Running"})
    assert said(world) is None
    world.wait(10)
    world.pod_says("lr-train-a", Progress(3, "fit"))
    assert said(world) == {"percent": 3, "phase": "fit", "at": "2026-01-01T00:00:40Z"}


def test_a_pod_of_another_job_says_nothing_of_this_one() -> None:
    world = training()
    world.objects["Pod", "lr-train-x"]["metadata"]["ownerReferences"][0]["uid"] = "former"
    world.pod_says("lr-train-x", FOLD)
    assert said(world) is None


def test_what_is_no_progress_is_not_told() -> None:
    world = training()
    world.pod_says("lr-train-x", {"percent": 40})
    assert said(world) is None


@pytest.mark.parametrize("end", ["succeeds", "fails", "is suspended", "runs out of memory"])
def test_it_is_told_only_while_it_trains(end: str) -> None:
    world = training()
    world.pod_says("lr-train-x", FOLD)
    assert said(world)
    if end == "succeeds":
        world.end_job("lr-train", trained())
    elif end == "fails":
        world.end_job("lr-train", report.Report(False, "FitFailed", "do this"))
    elif end == "runs out of memory":
        world.end_job("lr-train", None, exit_reason="OOMKilled")
        world.objects["Job", "lr-train"]["status"] = {}  # it has retries left
    else:
        world.put("TrainingJob", "lr", spec=training_spec(suspend=True))
    first = next(w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, SetStatus))
    assert "progress" not in first.status
    assert said(world) is None


def test_the_second_run_has_a_progress_of_its_own() -> None:
    world = training(reproduce={"runs": 2})
    world.pod_says("lr-train-x", FOLD)
    said(world)
    world.end_job("lr-train", trained())
    world.settle()
    assert said(world) is None
    world.wait(30)
    world.pod_of_job("lr-again")
    world.pod_says("lr-again-x", Progress(6, "fit"))
    assert said(world) == {"percent": 6, "phase": "fit", "at": "2026-01-01T00:00:30Z"}
    assert world.get("TrainingJob", "lr")["status"]["artifact"]["digest"] == digest_of("1")
    world.end_job("lr-again", trained())
    assert said(world) is None


def test_no_condition_and_no_other_write_depends_on_it() -> None:
    world = training()
    before = world.told("TrainingJob", "lr")
    world.pod_says("lr-train-x", Progress(100, "done"))
    plan = world.plan("TrainingJob", "lr")
    assert [type(write) for write in plan.writes] == [SetStatus]
    assert plan.requeue_after is None
    assert said(world)["percent"] == 100
    assert world.told("TrainingJob", "lr") == before


RUNNING = {"name": "trainer", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
WAITING = {"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}}
ENDED = {"name": "trainer", "state": {"terminated": {"exitCode": 0}}}


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        ({"podIP": "10.0.0.1", "containerStatuses": [RUNNING]}, True),
        # A container of the user's is an init container of a pod that is pending still.
        (
            {
                "podIP": "10.0.0.1",
                "phase": "Pending",
                "initContainerStatuses": [{**RUNNING, "name": "transform"}],
                "containerStatuses": [WAITING],
            },
            True,
        ),
        ({"podIP": "10.0.0.1", "containerStatuses": [WAITING]}, False),
        ({"podIP": "10.0.0.1", "containerStatuses": [ENDED]}, False),
        ({"podIP": "10.0.0.1"}, False),
        ({"containerStatuses": [RUNNING]}, False),
    ],
)
def test_a_pod_is_asked_while_a_container_of_it_runs(status: dict[str, Any], asked: bool) -> None:
    world = training()
    world.pod_of_job("lr-train", **status)
    assert source_of(world.get("Pod", "lr-train-x")) == (SOURCES[0] if asked else None)


def test_a_pod_that_is_deleted_or_of_another_kind_is_not_asked() -> None:
    world = training()
    world.pod_of_job("lr-train", podIP="10.0.0.1", containerStatuses=[RUNNING])
    pod = world.get("Pod", "lr-train-x")
    leaving = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert source_of({**pod, "metadata": leaving}) is None
    labels = {"app.kubernetes.io/managed-by": "modelmill", "modelmill.dev/dataset": "lr"}
    assert source_of({**pod, "metadata": {**pod["metadata"], "labels": labels}}) is None
    without = {key: value for key, value in pod["metadata"].items() if key != "labels"}
    assert source_of({**pod, "metadata": without}) is None


def test_what_a_training_is_asked() -> None:
    (source,) = SOURCES
    assert (source.kind, source.path, source.every.total_seconds()) == ("TrainingJob", "/progress", 10)
    assert source.decode(b'{"percent": 40, "metrics": {"roc_auc": 0.9}}') == Progress(40, metrics={"roc_auc": 0.9})
    assert source.limit == 4096
