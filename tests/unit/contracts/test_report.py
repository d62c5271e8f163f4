"""Reports fit the 4 KiB of a termination message, and what else is in one is not taken for a report."""

from pathlib import Path

import pytest

from modelmill_contracts import report
from modelmill_contracts.report import Metric, Problem, Report, SnapshotResult, TrainingResult

DIGEST = f"sha256:{'a' * 64}"
RESULT = SnapshotResult(version=DIGEST, file=DIGEST, rows=3, columns=4)


def test_a_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    problems = (Problem("NotNumeric", "column 'x': 2 values", "x", 2, (1, 5)),)
    written = Report(False, "DataInvalid", "text", retryable=True, problems=problems, result=RESULT)
    report.write(written, tmp_path / "log")
    assert report.decode((tmp_path / "log").read_text()) == written


def test_problems_are_dropped_before_the_message_is_cut() -> None:
    problems = tuple(Problem("MissingColumn", "m" * 200, f"column-{i}") for i in range(100))
    data = report.encode(Report(False, "DataInvalid", "the message", problems=problems))
    found = report.decode(data.decode())
    assert len(data) <= report.LIMIT
    assert found.message == "the message"
    assert found.problems == problems[: len(found.problems)]
    assert len(found.problems) > 10


@pytest.mark.parametrize("text", ["x" * 10_000, "\u00e9\u4e2d" * 4_000, '"\\\n' * 3_000])
def test_a_long_message_is_cut_and_the_result_kept(text: str) -> None:
    data = report.encode(Report(True, "Trained", text, result=RESULT))
    found = report.decode(data.decode())
    assert len(data) <= report.LIMIT
    assert found.result == RESULT
    assert found.message.endswith(" ...")


def test_a_result_that_does_not_fit_is_an_error() -> None:
    metrics = tuple(Metric(f"metric-{i}", "0.5") for i in range(200))
    with pytest.raises(ValueError, match="too large"):
        report.encode(Report(True, "Trained", result=TrainingResult(DIGEST, DIGEST, "u", "onnx", metrics)))


@pytest.mark.parametrize("text", ["", "Killed", "{}", '{"ok": 1, "reason": "x"}', "[1]", '{"ok":true}'])
def test_a_crash_s_last_words_are_no_report(text: str) -> None:
    assert report.decode(text) is None


@pytest.mark.parametrize(
    "other",
    [
        Report(False, "not CamelCase"),
        Report(False, "R" * 65),
        Report(False, "DataInvalid", problems=(Problem("R" * 65, "m"),)),
        Report(True, "SnapshotTaken", result=SnapshotResult("md5:1", DIGEST, 3, 4)),
        Report(True, "Trained", result=TrainingResult(DIGEST, DIGEST, "u", "onnx", (Metric("n" * 65, "1"),))),
        Report(True, "Trained", result=TrainingResult(DIGEST, DIGEST, "u", "onnx", (Metric("n", "1"),) * 33)),
    ],
)
def test_what_no_status_could_hold_is_no_report(other: Report) -> None:
    assert report.decode(report.encode(other).decode()) is None


def test_a_message_that_was_cut_is_no_report() -> None:
    whole = report.encode(Report(True, "SnapshotTaken", "taken")).decode()
    assert report.decode(whole) is not None
    for size in range(len(whole)):
        assert report.decode(whole[:size]) is None


def test_a_message_that_is_nested_without_end_is_no_report() -> None:
    assert report.decode('{"more":' + "[" * 4000) is None
