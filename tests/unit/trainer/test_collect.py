"""Blobs that nothing refers to leave in two passes a day apart; until then every reader finds them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from s3_server import S3Server
from trainer_tasks import BREAST_CANCER, run, snapshot

from modelmill_contracts.report import CollectResult, Report
from modelmill_contracts.store import Store, StoreError, artifact_key, blob_key
from modelmill_contracts.task import CollectTask, FetchTask, PreflightTask, SnapshotInput, StoreLocation
from modelmill_trainer import collect

OWNER = "0b5a3f9e-1111-4222-8333-944445555666"
FIRST, SECOND, THIRD = (blob_key(f"sha256:{letter * 64}") for letter in "abc")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=["file", "s3"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> StoreLocation:
    """An owned store with three blobs, in a folder with a blank in its name and in a bucket."""
    if request.param == "file":
        location = StoreLocation(f"file://{tmp_path}/a%20store")
    else:
        for name, value in s3.keys().items():
            monkeypatch.setenv(name, value)
        location = StoreLocation(f"{s3.bucket('collected').uri}/{tmp_path.name}", s3.endpoint)
    assert run(PreflightTask(location, OWNER)).result.owned
    for key in (FIRST, SECOND, THIRD):
        Store(location).put_once(key, b"12345")
    return location


def _digest(key: str) -> str:
    return key.replace("blobs/sha256-", "sha256:")


def _collect(place: StoreLocation, keep: tuple[str, ...], after: timedelta, owner: str = OWNER) -> Report:
    now = (datetime.now(UTC) + after).isoformat()
    return run(CollectTask(place, owner, tuple(map(_digest, keep)), now))


def _blobs(place: StoreLocation) -> list[str]:
    return [key for key in Store(place).keys("") if key.startswith(("blobs/", "trash/"))]


def _trash(key: str) -> str:
    return key.replace("blobs/", "trash/")


def test_what_is_referred_to_or_young_stays(place: StoreLocation) -> None:
    assert _collect(place, (FIRST, SECOND, THIRD), 400 * DAY).result == CollectResult(0, 0, 0, 0)
    assert _collect(place, (), DAY - HOUR).result == CollectResult(0, 0, 0, 0)
    assert _blobs(place) == [FIRST, SECOND, THIRD]


def test_what_was_captured_is_none_of_it(place: StoreLocation) -> None:
    key = "captured/0b7f/rows/20200101T000000.000Z-ab-000001.jsonl.gz"
    Store(place).put_once(key, b"12345")
    for after in (400 * DAY, 800 * DAY):
        assert run(CollectTask(place, OWNER, (), (datetime.now(UTC) + after).isoformat(), artifacts=())).ok
    assert key in Store(place).keys("captured/")


def test_two_passes_a_day_apart(place: StoreLocation) -> None:
    assert _collect(place, (FIRST,), DAY + HOUR).result == CollectResult(2, 0, 0, 0)
    assert _blobs(place) == [FIRST, _trash(SECOND), _trash(THIRD)]
    # The move was just now, so that "a day and an hour later" is two days and two hours after the first pass.
    assert _collect(place, (FIRST,), DAY - HOUR).result == CollectResult(0, 0, 0, 0)
    answer = _collect(place, (FIRST,), DAY + HOUR)
    assert answer.result == CollectResult(0, 0, 2, 10)
    assert answer.message == "0 blobs moved to the trash, 0 back, 2 deleted"
    assert _blobs(place) == [FIRST]


def test_what_is_referred_to_again_comes_back(place: StoreLocation) -> None:
    _collect(place, (), DAY + HOUR)
    # As long as it takes: it is looked for in the trash first of all.
    assert _collect(place, (SECOND,), 30 * DAY).result == CollectResult(0, 1, 2, 10)
    assert _blobs(place) == [SECOND]
    # It is as good as new: the next pass does not move it at once.
    assert _collect(place, (), DAY - HOUR).result == CollectResult(0, 0, 0, 0)


def test_readers_find_what_is_in_the_trash(place: StoreLocation, tmp_path: Path) -> None:
    _collect(place, (), DAY + HOUR)
    store = Store(place)
    assert store.get(FIRST, 10) == b"12345"
    assert b"".join(store.chunks(SECOND)) == b"12345"
    store.download(THIRD, tmp_path / "third")
    assert (tmp_path / "third").read_bytes() == b"12345"
    with pytest.raises(StoreError, match="no such object"):
        store.get(blob_key("sha256:" + "d" * 64), 10)
    with pytest.raises(StoreError, match="no such object"):
        store.get("artifacts/x", 10)


def test_what_is_written_again_while_it_lies_in_the_trash(place: StoreLocation) -> None:
    _collect(place, (), DAY + HOUR)
    assert Store(place).put_once(FIRST, b"12345")  # by a Job whose reference is not written yet
    assert _collect(place, (), DAY + HOUR).result.deleted == 3
    # The copy in blobs/ was moved by that same pass, not deleted.
    assert _blobs(place) == [_trash(FIRST)]


def test_a_pass_that_was_cut_short_is_made_up_for(place: StoreLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    real, moved = Store.move, []

    def move(self: Store, key: str, target: str) -> None:
        if moved:
            raise StoreError("StoreUnreachable", "it is gone", retryable=True)
        moved.append(key)
        real(self, key, target)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "move", move)
        assert _collect(place, (), DAY + HOUR).retryable
    assert len(_blobs(place)) == 3


def test_a_blob_that_cannot_be_moved_does_not_hold_up_the_others(
    place: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.move

    def move(self: Store, key: str, target: str) -> None:
        if key == FIRST:
            raise StoreError("StoreRequestInvalid", "could not move it", retryable=False)
        real(self, key, target)

    monkeypatch.setattr(Store, "move", move)
    answer = _collect(place, (), DAY + HOUR)
    assert (answer.ok, answer.reason, answer.retryable) == (False, "StoreRequestInvalid", False)
    assert answer.message == (
        "1 blobs were left where they are, the first for this: could not move it"
        " (2 blobs moved to the trash, 0 back, 0 deleted)"
    )
    assert _blobs(place) == [FIRST, _trash(SECOND), _trash(THIRD)]


def test_a_store_that_is_away_is_not_asked_for_every_blob(
    place: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def move(_: Store, key: str, target: str) -> None:
        asked.append((key, target))
        raise StoreError("StoreUnreachable", "it is gone", retryable=True)

    monkeypatch.setattr(collect, "_OUTAGE", 2)
    monkeypatch.setattr(Store, "move", move)
    answer = _collect(place, (), DAY + HOUR)
    assert (answer.reason, answer.message, answer.retryable) == ("StoreUnreachable", "it is gone", True)
    assert len(asked) == 2


A, B = (artifact_key(f"sha256:{letter * 64}") for letter in "45")


def _artifacts(place: StoreLocation) -> list[str]:
    return [key for key in Store(place).keys("") if "artifacts/" in key]


def _collect_artifacts(place: StoreLocation, keep: tuple[str, ...] | None, after: timedelta) -> Report:
    now = (datetime.now(UTC) + after).isoformat()
    everything = tuple(map(_digest, (FIRST, SECOND, THIRD)))
    kept = None if keep is None else tuple(key.replace("artifacts/sha256-", "sha256:") for key in keep)
    return run(CollectTask(place, OWNER, everything, now, kept))


def _files(*folders: str) -> list[str]:
    return sorted(f"{folder}/{name}" for folder in folders for name in ("manifest.json", "model.onnx"))


@pytest.fixture
def trained(place: StoreLocation) -> StoreLocation:
    for key in _files(A, B):
        Store(place).put_once(key, b"123")
    return place


def test_artifacts_stay_unless_somebody_asks_for_them(trained: StoreLocation) -> None:
    assert _collect_artifacts(trained, None, 400 * DAY).result == CollectResult(0, 0, 0, 0)
    assert _artifacts(trained) == _files(A, B)


def test_an_artifact_that_nothing_refers_to_goes_in_two_passes_and_a_kept_one_never(trained: StoreLocation) -> None:
    assert _collect_artifacts(trained, (A,), DAY - HOUR).result == CollectResult(0, 0, 0, 0)
    assert _collect_artifacts(trained, (A,), DAY + HOUR).result == CollectResult(2, 0, 0, 0)
    assert _artifacts(trained) == [*_files(A), *_files(f"trash/{B}")]
    # Whoever serves it, or starts again, finds it there.
    assert Store(trained).get(f"{B}/model.onnx", 3) == b"123"
    assert _collect_artifacts(trained, (A,), DAY + HOUR).result == CollectResult(0, 0, 2, 6)
    assert _artifacts(trained) == _files(A)
    assert len(_blobs(trained)) == 3


@pytest.mark.parametrize("keep", [(B,), None], ids=["it is referred to again", "artifacts are to stay"])
def test_an_artifact_comes_back(trained: StoreLocation, keep: tuple[str, ...] | None) -> None:
    _collect_artifacts(trained, (A,), DAY + HOUR)
    assert _collect_artifacts(trained, keep, timedelta()).result == CollectResult(0, 2, 0, 0)
    assert _artifacts(trained) == _files(A, B)


@pytest.mark.parametrize("owner", ["somebody-else", ""])
def test_a_store_of_others_is_left_alone(place: StoreLocation, owner: str) -> None:
    answer = _collect(place, (), 30 * DAY, owner)
    assert (answer.ok, answer.reason) == (False, "StoreShared")
    assert answer.message == (
        f"{place.uri} is not this Workspace's alone, so nothing is collected in it: others may refer to what lies"
        " there; give each Workspace a bucket or a prefix of its own"
    )
    assert _blobs(place) == [FIRST, SECOND, THIRD]


def test_a_store_that_two_workspaces_tried_is_nobody_s(place: StoreLocation) -> None:
    assert run(PreflightTask(place, OWNER)).result.owned
    assert not run(PreflightTask(place)).result.owned
    assert not run(PreflightTask(place, "somebody-else")).result.owned
    assert not run(PreflightTask(place, OWNER)).result.owned
    assert Store(place).keys("owners") == [f"owners/{OWNER}", "owners/somebody-else"]
    assert _collect(place, (), 30 * DAY).reason == "StoreShared"


def test_a_store_without_an_owner_is_not_collected(store: StoreLocation) -> None:
    assert run(PreflightTask(store)).ok
    assert _collect(store, (), 30 * DAY).reason == "StoreShared"


def test_inputs_of_a_container_are_files_of_their_names(store: StoreLocation, tmp_path: Path) -> None:
    taken = snapshot(store, BREAST_CANCER)
    (tmp_path / "data").mkdir()
    inputs = (SnapshotInput("tumours", taken.version, taken.file), SnapshotInput("again", taken.version, taken.file))
    answer = run(FetchTask(store, inputs, str(tmp_path / "data")))
    assert (answer.ok, answer.reason, answer.result.files) == (True, "InputsFetched", 2)
    stored = (tmp_path / "store" / blob_key(taken.file)).read_bytes()
    assert {path.name: path.read_bytes() == stored for path in (tmp_path / "data").iterdir()} == {
        "tumours.parquet": True,
        "again.parquet": True,
    }


def test_an_input_that_was_changed_is_not_given(store: StoreLocation, tmp_path: Path) -> None:
    taken = snapshot(store, BREAST_CANCER)
    (tmp_path / "store" / blob_key(taken.file)).write_bytes(b"something else")
    inputs = (SnapshotInput("tumours", taken.version, taken.file),)
    answer = run(FetchTask(store, inputs, str(tmp_path)))
    assert (answer.ok, answer.reason) == (False, "DigestMismatch")
    assert answer.message.startswith(f"version {taken.version} of Dataset tumours: its file has digest sha256:")


def test_a_file_that_was_cut_is_written_again_when_its_snapshot_is_taken_again(
    store: StoreLocation, tmp_path: Path
) -> None:
    taken = snapshot(store, BREAST_CANCER)
    asked = FetchTask(store, (SnapshotInput("tumours", taken.version, taken.file),), str(tmp_path))
    path = tmp_path / "store" / blob_key(taken.file)
    path.write_bytes(path.read_bytes()[:-1])
    assert run(asked).reason == "DigestMismatch"
    assert snapshot(store, BREAST_CANCER) == taken
    assert run(asked).ok


def test_a_file_of_the_right_length_has_to_be_deleted(store: StoreLocation, tmp_path: Path) -> None:
    taken = snapshot(store, BREAST_CANCER)
    asked = FetchTask(store, (SnapshotInput("tumours", taken.version, taken.file),), str(tmp_path))
    path = tmp_path / "store" / blob_key(taken.file)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert snapshot(store, BREAST_CANCER) == taken
    answer = run(asked)
    assert answer.message.endswith(f"; delete {blob_key(taken.file)} from the store, and take the snapshot again")
    path.unlink()
    assert snapshot(store, BREAST_CANCER) == taken
    assert run(asked).ok
