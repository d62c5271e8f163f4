"""Quality of a ModelDeployment: each window of labels is measured by one Job, and counts once."""

from datetime import timedelta
from typing import Any

import pipelines
import pytest
from drifting import TRAINED, Drifting, answer
from msgspec import structs
from rolling_out import KIND, NAME
from world import digest_of, with_store, with_version

from modelmill.core import quality
from modelmill.core.conditions import moment
from modelmill.core.plan import Create, Delete
from modelmill.core.resources import Key
from modelmill_contracts import report, task
from modelmill_contracts.counters import Bins, Trained

JOB = "triage-captured"
HOUR = 3600.0
CAPTURE = {"sample": "1", "retention": "720h"}
DECLARED: dict[str, Any] = {"metric": "accuracy", "min": "0.95", "labelsWithin": "24h", "window": "1h", "minRows": 100}


class Labelled(Drifting):
    """Version 1 serves, and what its Job finds is said by the test."""

    def measured(self) -> task.CapturedTask:
        (container,) = self.get("Job", JOB)["spec"]["template"]["spec"]["containers"]
        asked = task.decode(task.text_of({v["name"]: v.get("value", "") for v in container["env"]}))
        assert isinstance(asked, task.CapturedTask)
        return asked

    def span(self) -> tuple[str, str]:
        asked = self.measured().quality
        assert asked is not None
        return asked.start[11:16], asked.end[11:16]

    def finds(self, rows: int = 1000, value: float | None = 0.96, variance: float | None = None, **more: int) -> None:
        """An hour and the time to settle later, the window's Job has found that."""
        if not self.has("Job", JOB):
            self.step(HOUR + 60)
        if variance is None and value is not None:
            variance = value * (1 - value) / rows
        self.ends(report.MeasuredQuality(rows, value, variance, **more))

    def ends(self, found: report.MeasuredQuality | None) -> None:
        result = report.CapturedResult(0, quality=found)
        self.end_job(JOB, report.Report(True, "Measured", result=result))
        self.step()

    @property
    def quality(self) -> dict[str, Any]:
        return dict(self.status.get("quality") or {})

    def dropped(self) -> tuple[str, str]:
        return self.condition(KIND, NAME, "QualityDropped")

    def told_of(self) -> str:
        return self.message(KIND, NAME, "QualityDropped")


def spec(capture: dict[str, Any] | None = CAPTURE, **declared: Any) -> dict[str, Any]:
    monitoring = {"monitoring": {"quality": {**DECLARED, **declared}}}
    return {"model": {"name": NAME}, "replicas": 1, **monitoring, **({"capture": capture} if capture else {})}


def of(spec: dict[str, Any]) -> Labelled:
    world = Labelled()
    with_version(with_store(world), 1)
    world.put(KIND, NAME, spec=spec)
    world.step()
    world.pods_of(f"{NAME}-{world.revision(1)}", 1)
    world.step()
    return world


def labelled(**declared: Any) -> Labelled:
    return of(spec(**declared))


def test_who_captures_nothing_depends_on_no_job_and_has_no_condition() -> None:
    world = of({"model": {"name": NAME}, "replicas": 1})
    assert quality.depends(world.get(KIND, NAME)) == ()
    assert "quality" not in world.status
    assert {c["type"] for c in world.status["conditions"]} == {"Ready", "Available", "Reconciling", "Stalled"}
    assert not [key for key in world.observed(KIND, NAME).related if key.kind in ("Job", "Event")]


def test_without_capture_nothing_is_known() -> None:
    world = of(spec(capture=None))
    assert world.dropped() == ("Unknown", "NotCaptured")
    assert "spec.capture" in world.told_of()
    assert not world.has("Job", JOB)


@pytest.mark.parametrize("declared", [{"retention": "25h"}, {"retention": "24h", "labelsWithin": "23h"}])
def test_rows_are_kept_for_as_long_as_their_labels_may_take(declared: dict[str, str]) -> None:
    within = declared.get("labelsWithin", "24h")
    world = of(spec(capture={"retention": declared["retention"]}, labelsWithin=within))
    assert world.dropped() == ("Unknown", "FirstWindow")


def test_labels_that_may_come_when_their_rows_are_gone_are_not_measured_and_what_is_too_old_goes() -> None:
    world = of(spec(capture={"retention": "24h"}))
    assert world.dropped() == ("Unknown", "RetentionTooShort")
    assert "raise it to their sum at least, or lower labelsWithin" in world.told_of()
    assert world.measured().quality is None
    world.ends(None)
    assert world.condition(KIND, NAME, "RetentionKept") == ("True", "Kept")
    assert "quality" not in world.status
    world.put(KIND, NAME, spec=spec(labelsWithin="1h"))
    world.step()
    assert world.dropped() == ("Unknown", "FirstWindow")
    assert all(c["type"] != "RetentionKept" for c in world.status["conditions"])
    world.step(HOUR + 60)
    assert world.span() == ("00:00", "01:00")


def test_a_retention_that_becomes_too_short_is_told_and_kept() -> None:
    world = labelled()
    world.finds()
    world.step(HOUR)
    assert world.measured().quality is not None
    world.put(KIND, NAME, spec=spec(capture={"retention": "1h"}))
    world.step()
    assert world.dropped() == ("Unknown", "RetentionTooShort")
    assert world.measured().retention == 3600
    assert world.measured().quality is None


def test_a_window_is_measured_once_its_labels_are_there() -> None:
    world = labelled()
    assert world.dropped() == ("Unknown", "FirstWindow")
    assert world.quality["since"] == world.quality["until"] == "2026-01-01T00:00:00Z"
    assert world.plan(KIND, NAME).requeue_after == timedelta(seconds=3660)
    world.step(HOUR + 59)
    assert not world.has("Job", JOB)
    world.step(1)
    asked = world.measured()
    assert asked.of == world.get(KIND, NAME)["metadata"]["uid"]
    assert asked.retention == 720 * 3600
    assert asked.quality == task.QualityMeasure(
        "accuracy", digest_of("1"), "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", 86400
    )
    assert world.dropped() == ("Unknown", "FirstWindow")


def test_the_jobs_pods_are_none_of_those_that_serve() -> None:
    world = labelled()
    world.step(HOUR + 60)
    job = world.get("Job", JOB)
    assert job["metadata"]["labels"]["modelmill.dev/modeldeployment"] == NAME
    assert "modelmill.dev/modeldeployment" not in job["spec"]["template"]["metadata"]["labels"]
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "trainer:1"
    assert job["spec"]["ttlSecondsAfterFinished"] == 2 * 86400
    world.pod_of_job(JOB, podIP="10.0.0.1")
    world.step()
    assert world.status["replicas"] == 1


def test_what_a_window_says_is_in_the_status_and_its_job_goes() -> None:
    world = labelled()
    world.finds(1000, 0.96, unknown=3, late=2, repeated=1, of_others=4)
    assert world.dropped() == ("False", "NoDrop")
    assert not world.has("Job", JOB)
    window = world.quality["window"]
    assert (window["rows"], window["value"], window["counted"]) == (1000, "0.96", True)
    assert float(window["lower"]) == pytest.approx(0.9459, abs=1e-4)
    assert float(window["upper"]) == pytest.approx(0.9713, abs=1e-4)
    assert [window[key] for key in ("unknown", "late", "repeated", "ofOthers", "mistyped")] == [3, 2, 1, 4, 0]
    assert (world.quality["windows"], world.quality["rows"], world.quality["alarms"]) == (1, 1000, 0)
    assert world.quality["until"] == "2026-01-01T01:00:00Z"
    assert "accuracy is 0.96 (0.9459" in world.told_of()
    assert "at least 0.95 is declared" in world.told_of()
    world.step(HOUR)
    assert world.span() == ("01:00", "02:00")


def test_a_permuted_label_is_found_in_one_window_and_quality_comes_back() -> None:
    world = labelled()
    world.finds()
    world.finds(1000, 0.5)
    assert world.dropped() == ("True", "Dropped")
    assert world.quality["alarms"] == 1
    world.finds(1000, 0.5)
    world.finds(1000, 0.5)
    assert world.dropped() == ("True", "Dropped")
    for _ in range(4):
        world.finds(1000, 0.99)
    assert world.dropped() == ("False", "NoDrop")
    about = [(e.type, e.reason) for e in world.events if "Quality" in e.reason]
    assert about == [("Warning", "QualityDropped"), ("Normal", "QualityBack")]
    assert (world.quality["alarms"], world.quality["dropped"]) == (1, False)


@pytest.mark.parametrize(
    ("metric", "bound", "good", "bad"),
    [
        ("roc_auc", {"min": "0.9"}, (0.93, 1e-4), (0.5, 3e-4)),
        ("log_loss", {"max": "0.3"}, (0.25, 1e-4), (1.2, 2e-3)),
        ("mae", {"max": "3"}, (2.9, 0.01), (6.0, 0.02)),
        ("rmse", {"max": "3"}, (8.0, 0.1), (36.0, 1.0)),
    ],
)
def test_each_metric_has_its_direction(
    metric: str, bound: dict[str, str], good: tuple[float, float], bad: tuple[float, float]
) -> None:
    world = labelled(metric=metric, min=bound.get("min"), max=bound.get("max"))
    world.finds(1000, *good)
    assert world.dropped() == ("False", "NoDrop")
    world.finds(1000, *bad)
    assert world.dropped() == ("True", "Dropped")
    shown = float(world.quality["window"]["value"])
    assert shown == pytest.approx(6.0 if metric == "rmse" else bad[0])


def test_rows_that_do_not_differ_say_no_bounds() -> None:
    world = labelled(metric="roc_auc", min="0.9")
    world.finds(1000, 1.0, 0.0)
    assert "roc_auc is 1 by 1000 rows" in world.told_of()
    assert {"lower", "upper"} & set(world.quality["window"]) == set()


def test_too_few_rows_are_measured_again_with_those_that_came_since() -> None:
    world = labelled()
    world.finds(60, 0.9)
    assert world.dropped() == ("Unknown", "TooFewLabels")
    assert world.quality["until"] == "2026-01-01T00:00:00Z"
    world.step(HOUR)
    assert world.span() == ("00:00", "02:00")
    world.ends(report.MeasuredQuality(130, 0.96, 0.0003))
    assert world.dropped() == ("False", "NoDrop")
    assert (world.quality["windows"], world.quality["rows"]) == (1, 130)


def test_what_stays_too_little_for_a_day_is_left_out() -> None:
    world = labelled()
    for _ in range(24):
        assert world.quality["until"] == "2026-01-01T00:00:00Z"
        world.finds(0, None, unknown=7)
    assert world.dropped() == ("Unknown", "NoLabels")
    assert "7 of predictions that were not captured" in world.told_of()
    assert world.quality["until"] == "2026-01-02T00:00:00Z"
    world.step(HOUR)
    assert world.span() == ("00:00", "01:00")


def test_an_area_that_there_is_none_of_does_not_count() -> None:
    world = labelled(metric="roc_auc")
    world.finds(500, None)
    assert world.dropped() == ("Unknown", "NoValue")
    assert "two rows of each class" in world.told_of()
    assert world.quality["until"] == "2026-01-01T00:00:00Z"


def test_one_row_is_too_few_also_where_it_has_no_variance() -> None:
    world = labelled()
    world.step(HOUR + 60)
    world.ends(report.MeasuredQuality(1, 1.0, None))
    assert world.dropped() == ("Unknown", "TooFewLabels")
    assert "at least 100 are needed" in world.told_of()


@pytest.mark.parametrize(("value", "variance"), [(1e150, 1e290), (None, None)])
def test_a_label_that_is_a_mistake_stops_nothing_but_its_window(value: float | None, variance: float | None) -> None:
    world = labelled(metric="mae", min=None, max="3")
    world.step(HOUR + 60)
    world.ends(report.MeasuredQuality(1000, value, variance))
    assert world.dropped() == ("Unknown", "NoValue")
    assert "a label among them is a mistake" in world.told_of()
    assert "classes" not in world.told_of()
    assert world.quality["until"] == "2026-01-01T01:00:00Z"
    world.finds(1000, 2.9, 0.01)
    assert world.dropped() == ("False", "NoDrop")


def test_without_labels_what_was_found_stays() -> None:
    world = labelled()
    world.finds(1000, 0.5)
    for _ in range(30):
        world.finds(0, None)
    assert world.dropped() == ("True", "Dropped")
    assert world.quality["windows"] == 1


def test_what_an_operator_missed_is_one_window_and_no_more_than_a_day() -> None:
    world = labelled()
    world.finds()
    world.step(12 * HOUR)
    assert world.span() == ("01:00", "13:00")
    world.finds()
    world.step(40 * HOUR)
    asked = world.measured().quality
    assert asked is not None
    assert (asked.start, asked.end) == ("2026-01-01T13:00:00Z", "2026-01-02T13:00:00Z")
    world.finds()
    assert world.span() == ("13:00", "05:00")


def test_labels_that_were_deleted_are_not_looked_for() -> None:
    world = of(spec(capture={"retention": "48h"}))
    world.step(100 * HOUR)
    asked = world.measured().quality
    assert asked is not None
    assert asked.start == "2026-01-03T04:00:00Z"


def test_a_window_is_never_empty_however_shortly_things_are_kept() -> None:
    length = 3599
    world = of(spec(capture={"retention": "1h"}, labelsWithin="1s", window=f"{length}s"))
    # What came before the last window was deleted, and that one has not settled.
    world.wait(5 * length + (3630 - world.now.timestamp()) % length)
    world.step()
    assert not world.has("Job", JOB)
    world.step(30)
    asked = world.measured().quality
    assert asked is not None
    assert moment(asked.end) - moment(asked.start) == timedelta(seconds=length)


def test_another_artifact_begins_anew() -> None:
    world = labelled()
    world.finds(1000, 0.5)
    world.step(HOUR)
    assert world.has("Job", JOB)
    with_version(world, 2)
    world.step()
    world.pods_of(f"{NAME}-{world.revision(2)}", 1)
    world.step()
    assert world.dropped() == ("Unknown", "FirstWindow")
    assert world.quality["artifact"] == digest_of("2")
    assert (world.quality["windows"], world.quality["alarms"]) == (0, 0)
    assert not world.has("Job", JOB)
    world.step(HOUR + 60)
    asked = world.measured().quality
    assert asked is not None
    assert asked.artifact == digest_of("2")


@pytest.mark.parametrize("changed", [{"min": "0.9"}, {"metric": "roc_auc"}, {"labelsWithin": "1h"}])
def test_another_question_begins_anew(changed: dict[str, str]) -> None:
    world = labelled()
    world.finds(1000, 0.5)
    world.put(KIND, NAME, spec=spec(**changed))
    world.step()
    assert world.dropped() == ("Unknown", "FirstWindow")


def test_another_window_goes_on() -> None:
    world = labelled()
    world.finds(1000, 0.5)
    world.put(KIND, NAME, spec=spec(window="7m"))
    world.step(7 * 60)
    assert world.dropped() == ("True", "Dropped")
    assert world.span() == ("01:00", "01:03")


def test_segments_that_are_damaged_are_told() -> None:
    world = labelled()
    world.step(HOUR + 60)
    result = report.CapturedResult(0, damaged=2, quality=report.MeasuredQuality(1000, 0.96, 4e-5))
    said = "0.96 of 1000 labels; 2 segments are damaged, the first is captured/x/labels/y.jsonl.gz"
    world.end_job(JOB, report.Report(True, "Measured", said, result=result))
    world.step()
    assert world.quality["windows"] == 1
    (event,) = [event for event in world.events if event.reason == "SegmentDamaged"]
    assert event.type == "Warning"
    assert "the first is captured/x/labels/y.jsonl.gz" in event.message


def test_a_failure_is_told_counts_nothing_and_is_tried_again() -> None:
    world = labelled()
    world.finds(1000, 0.5)
    before = world.quality
    world.step(HOUR)
    world.end_job(JOB, report.Report(False, "StoreUnreachable", "no answer", retryable=True))
    world.step()
    assert world.dropped() == ("True", "Dropped")
    assert "labels since 2026-01-01T01:00:00Z are not measured: StoreUnreachable: no answer" in world.told_of()
    assert world.quality == before
    first = world.get("Job", JOB)["metadata"]["uid"]
    world.step(61)
    assert world.get("Job", JOB)["metadata"]["uid"] != first
    assert "not measured" not in world.told_of()
    world.finds(1000, 0.99)
    assert world.quality["windows"] == 2


@pytest.mark.parametrize("capture_only", [False, True])
def test_a_job_that_lacks_memory_says_what_can_be_done_about_it(capture_only: bool) -> None:
    world = of({"model": {"name": NAME}, "replicas": 1, "capture": {}}) if capture_only else labelled()
    world.step(HOUR + 60)
    world.end_job(JOB, None, exit_reason="OOMKilled")
    world.step()
    type_ = "RetentionKept" if capture_only else "QualityDropped"
    said = world.message(KIND, NAME, type_)
    assert "spec.capture.sample" in said
    assert "resources" not in said  # they are those of pods that serve


def test_a_lost_report_and_a_job_that_is_deleted_by_hand_lose_nothing() -> None:
    world = labelled()
    world.step(HOUR + 60)
    world.end_job(JOB, report.Report(True, "Measured"))
    world.remove("Pod", f"{JOB}-x")
    world.step()
    assert "ReportLost" in world.told_of()
    world.step(30)
    world.remove("Job", JOB)
    world.step()
    assert world.span() == ("00:00", "01:00")
    world.finds()
    assert world.quality["windows"] == 1


@pytest.mark.parametrize(
    "found",
    [
        None,
        report.MeasuredQuality(-1),
        report.MeasuredQuality(100, 0.5, -0.1),
        report.MeasuredQuality(9, -1.0),
    ],
)
def test_a_report_that_makes_no_sense_is_none(found: report.MeasuredQuality | None) -> None:
    world = labelled()
    world.step(HOUR + 60)
    world.ends(found)
    assert world.quality["windows"] == 0
    assert "window" not in world.quality
    assert "ReportInvalid" in world.told_of()
    world.step(600)
    assert world.get("Job", JOB)["status"] == {}  # another try


def test_a_strangers_job_stays_and_is_named() -> None:
    world = labelled()
    world.put("Job", JOB, status={})
    world.step(HOUR + 60)
    assert "NameConflict: Job triage-captured exists" in world.told_of()
    assert world.condition(KIND, NAME, "Ready")[0] == "True"


def test_a_store_that_fails_is_told() -> None:
    world = labelled()
    workspace = world.get("Workspace", "default")
    world.put("Workspace", "default", spec={"store": {"uri": "s3://other"}}, status=workspace["status"])
    world.step(HOUR + 60)
    assert "are not measured: PreflightRunning" in world.told_of()
    assert not world.has("Job", JOB)


def test_an_old_view_makes_no_job_and_throws_none_away() -> None:
    world = labelled()
    world.wait(HOUR + 60)
    (create,) = [w for w in world.plan(KIND, NAME).writes if isinstance(w, Create)]
    world.step()
    first = world.get(KIND, NAME)
    world.finds()
    world.wait(HOUR)
    with pytest.raises(AssertionError, match=r"status\.quality of ModelDeployment triage is as it was read"):
        world.carry_out(KIND, NAME, create)
    world.step()
    second = world.get("Job", JOB)
    newest = world.get(KIND, NAME)
    world.objects[KIND, NAME] = first  # what the cache shows
    (delete,) = [w for w in world.plan(KIND, NAME).writes if isinstance(w, Delete)]
    world.objects[KIND, NAME] = newest
    with pytest.raises(AssertionError, match=r"status\.quality of ModelDeployment triage is as it was read"):
        world.carry_out(KIND, NAME, delete)
    assert world.get("Job", JOB) == second


def test_a_drop_starts_a_run_of_a_pipeline_that_waits_for_it() -> None:
    world = labelled()
    world.finds()
    on = {"deploymentRef": {"name": NAME}, "types": ["DriftDetected", "QualityDropped"]}
    pipelines.declared({"name": "worse", "onCondition": on}, world=world)
    assert pipelines.runs(world) == []
    world.finds(1000, 0.5)
    world.reconcile("Pipeline", pipelines.NAME)
    (run,) = pipelines.runs(world)
    assert world.get("PipelineRun", run)["spec"]["cause"]["message"] == "QualityDropped of ModelDeployment triage"
    world.finds(1000, 0.5)
    world.reconcile("Pipeline", pipelines.NAME)
    assert pipelines.runs(world) == [run]


def calibrated(radius: int) -> Any:
    """What a pod answers whose server tells the bins of scores: so many rows, each with a probability of 0.9."""
    edges = tuple(0.5 + 0.025 * number for number in range(1, 20))
    score = Trained("score", (50,) * 20, edges=edges)
    reference = structs.replace(TRAINED, predictions=Trained("predict", (600, 400), 0, 0), scores=score)
    counts = [0] * 20
    counts[15] = radius
    return answer(reference=reference, scores=Bins("score", tuple(counts)), times=1)


def test_what_scores_alone_say_is_told_beside_it_and_decides_nothing() -> None:
    declared = spec()
    world = of({**declared, "monitoring": {**declared["monitoring"], "drift": {"window": "1h", "minRows": 1000}}})
    world.pod(1)
    world.says(calibrated(0))
    world.step()
    world.wait(HOUR)
    world.says(calibrated(4000))
    world.step()
    estimated = world.quality["estimated"]
    assert (estimated["rows"], estimated["accuracy"], estimated["error"]) == (4000, "0.8875", "0.0125")
    assert world.dropped() == ("Unknown", "FirstWindow")
    world.finds(1000, 0.96)
    assert world.dropped() == ("False", "NoDrop")
    assert world.quality["estimated"] == estimated
    with_version(world, 2)
    world.step()
    world.pods_of(f"{NAME}-{world.revision(2)}", 1)
    world.step()
    assert "estimated" not in world.quality


def test_nothing_is_estimated_where_pods_do_not_tell_the_bins_of_scores() -> None:
    declared = spec()
    world = of({**declared, "monitoring": {**declared["monitoring"], "drift": {"window": "1h", "minRows": 1000}}})
    world.pod(1)
    world.says(world.counted())
    world.step()
    world.sees()
    assert world.status["drift"]["windows"] == 1
    assert "estimated" not in world.quality


def test_what_is_only_captured_is_deleted_once_a_day() -> None:
    world = of({"model": {"name": NAME}, "replicas": 1, "capture": {"retention": "48h"}})
    assert world.measured().quality is None
    assert world.measured().retention == 48 * 3600
    assert world.condition(KIND, NAME, "RetentionKept") == ("Unknown", "NotYet")
    assert all(c["type"] != "QualityDropped" for c in world.status["conditions"])
    world.ends(None)
    first = world.get("Job", JOB)["metadata"]["uid"]
    assert world.condition(KIND, NAME, "RetentionKept") == ("True", "Kept")
    world.step(23 * HOUR)
    assert world.get("Job", JOB)["metadata"]["uid"] == first
    world.step(HOUR)
    assert world.get("Job", JOB)["metadata"]["uid"] != first
    assert world.condition(KIND, NAME, "RetentionKept") == ("True", "Kept")
    world.end_job(JOB, report.Report(False, "StoreUnreachable", "no answer", retryable=True))
    world.step()
    assert world.condition(KIND, NAME, "RetentionKept") == ("False", "StoreUnreachable")
    world.step(HOUR)
    assert world.get("Job", JOB)["status"] == {}


def test_what_is_too_old_is_deleted_also_while_nothing_serves() -> None:
    world = Labelled()
    with_store(world)
    world.put(KIND, NAME, spec=spec())
    world.step()
    assert world.dropped() == ("Unknown", "NothingServes")
    assert world.measured().quality is None
    world.ends(None)
    assert world.condition(KIND, NAME, "RetentionKept") == ("True", "Kept")
    with_version(world, 1)
    world.step()
    world.pods_of(f"{NAME}-{world.revision(1)}", 1)
    world.step()
    assert world.dropped() == ("Unknown", "FirstWindow")
    assert not world.has("Job", JOB)


def test_a_job_is_not_left_when_nothing_is_captured_any_more() -> None:
    world = of({"model": {"name": NAME}, "replicas": 1, "capture": {"retention": "48h"}})
    assert Key("Job", "team-a", "metadata.name", JOB) in world.observed(KIND, NAME).related
    world.put(KIND, NAME, spec={"model": {"name": NAME}, "replicas": 1})
    world.step()
    assert not world.has("Job", JOB)
    assert quality.depends(world.get(KIND, NAME)) == ()


def test_what_somebody_wrote_into_the_status_begins_anew() -> None:
    world = labelled()
    world.finds(1000, 0.94)
    live = world.get(KIND, NAME)
    changed = {**live["status"]["quality"], "detector": ["1"]}
    world.store(KIND, NAME, {**live, "status": {**live["status"], "quality": changed}})
    world.finds(1000, 0.96)
    assert world.quality["windows"] == 2
    assert len(world.quality["detector"]) == 5
