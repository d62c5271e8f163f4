"""A task in a pod's environment: whole again, however long it is."""

import pytest

from modelmill_contracts import task

STORE = task.StoreLocation("s3://models")


def wide(columns: int) -> task.SnapshotTask:
    names = [f"größe_{number}" for number in range(columns)]
    return task.SnapshotTask(STORE, columns=tuple(task.Column(name, "Float", min="0.5", max="99.5") for name in names))


@pytest.mark.parametrize("columns", [1, 2000])
def test_a_task_comes_back_whole_from_variables_that_linux_takes(columns: int) -> None:
    variables = task.variables(wide(columns))
    assert all(len(f"{name}={value}".encode()) < 128 << 10 for name, value in variables.items())
    assert task.decode(task.text_of({**variables, "HOME": "/tmp"})) == wide(columns)


def test_a_short_task_is_one_variable() -> None:
    asked = task.PreflightTask(STORE)
    assert task.variables(asked) == {"MILL_TASK": task.encode(asked)}


def test_an_environment_without_a_task_has_no_text() -> None:
    assert task.text_of({"MILL_TASK_1": "{}"}) == ""
