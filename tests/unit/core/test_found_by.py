"""What a version that a TrainingJob makes is found by: labels, and the commit that asked for it."""

from typing import Any

import pytest
from world import World, digest_of, trained, training_spec, with_dataset, with_store

from modelmill.core import lineage
from modelmill.core.plan import Create

COMMIT = "9f2c1e0b4d5a69788796a5b4c3d2e1f00f1e2d3c"


def made(annotation: str | None, *, later: str | None = None) -> Any:
    """The version of a run whose annotation names a commit, and another one when it has ended."""
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(), metadata=_annotated(annotation))
    world.reconcile("TrainingJob", "lr")
    world.end_job("lr-train", trained())
    if later is not None:
        live = world.get("TrainingJob", "lr")
        world.store("TrainingJob", "lr", {**live, "metadata": {**live["metadata"], **_annotated(later)}})
    world.reconcile("TrainingJob", "lr")
    world.reconcile("Model", "triage")
    (create,) = [w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, Create)]
    return create.manifest


def _annotated(commit: str | None) -> dict[str, Any]:
    return {} if commit is None else {"annotations": {"modelmill.dev/git-commit": commit}}


def test_a_version_is_found_by_all_that_it_was_made_of() -> None:
    assert made(COMMIT)["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "modelmill",
        "modelmill.dev/model": "triage",
        "modelmill.dev/artifact": "1" * 16,
        "modelmill.dev/training-job": "lr",
        "modelmill.dev/recipe": "e" * 16,
        "modelmill.dev/dataset": "tumours",
        "modelmill.dev/dataset-version": "a" * 16,
        "modelmill.dev/git-commit": COMMIT,
    }


def test_the_commit_that_asked_for_it_is_part_of_its_lineage() -> None:
    assert made(COMMIT)["spec"]["lineage"]["gitCommit"] == COMMIT
    version = made(None)
    assert "gitCommit" not in version["spec"]["lineage"]
    assert "modelmill.dev/git-commit" not in version["metadata"]["labels"]


def test_it_is_the_commit_by_which_the_run_began() -> None:
    assert made(COMMIT, later="0" * 40)["spec"]["lineage"]["gitCommit"] == COMMIT


@pytest.mark.parametrize(
    ("annotation", "commit"),
    [
        (COMMIT, COMMIT),
        ("9f2c1e0", "9f2c1e0"),
        ("f" * 64, "f" * 64),
        (f"main@sha1:{COMMIT}", COMMIT),
        ("", None),
        ("main", None),
        ("v1.2.3", None),
        ("9f2c1e0-dirty", None),
        ("9F2C1E0", None),
        ("feature/deadbeef", None),
        ("f" * 65, None),
    ],
)
def test_what_names_no_commit_is_none(annotation: str, commit: str | None) -> None:
    assert lineage.commit_of({"modelmill.dev/git-commit": annotation}) == commit


def test_no_annotation_names_no_commit() -> None:
    assert lineage.commit_of(None) is None
    assert lineage.commit_of({"other": COMMIT}) is None


def test_a_label_has_room_for_forty_digits_of_a_commit_and_none_for_data_that_is_not_known() -> None:
    found = lineage.labels(
        model="triage",
        artifact=digest_of("1"),
        training_job="lr",
        recipe=digest_of("e"),
        dataset=None,
        commit="f" * 64,
    )
    assert found["modelmill.dev/git-commit"] == "f" * 40
    assert not [label for label in found if "dataset" in label]
