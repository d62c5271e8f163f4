"""Sources in object stores: with their own credentials, or none; never with the store's on another endpoint."""

from pathlib import Path
from typing import Any

import pytest
from s3_server import S3Server
from trainer_tasks import BREAST_CANCER, csv, run

from modelmill_contracts import environment
from modelmill_contracts.report import Report
from modelmill_contracts.task import SnapshotTask, StoreLocation
from modelmill_trainer import sources


@pytest.fixture
def lake(s3: S3Server) -> StoreLocation:
    location = s3.bucket("lake")
    (s3.folder / "lake" / "folder").mkdir(exist_ok=True)
    (s3.folder / "lake" / "folder" / "data.csv").write_bytes(BREAST_CANCER.read_bytes())
    return location


def _take(store: StoreLocation, uri: str, **fields: Any) -> Report:
    return run(SnapshotTask(store=store, source=uri, **fields))


def test_a_source_with_credentials_of_its_own(
    store: StoreLocation, s3: S3Server, lake: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(environment.SOURCE_PREFIX + name, value)
    answer = _take(store, "s3://lake/folder/data.csv", source_store=lake)
    assert answer.ok, answer
    assert answer.result.rows == 569


def test_the_store_s_credentials_serve_a_source_beside_it(
    s3: S3Server, lake: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(name, value)
    assert _take(s3.bucket("models"), "s3://lake/folder/data.csv", source_store=lake).ok


def test_another_region_of_the_store_s_server_is_beside_it(s3: S3Server, lake: StoreLocation) -> None:
    store = s3.bucket("models")
    task = SnapshotTask(store, "s3://lake/a", StoreLocation(lake.uri, lake.endpoint, "eu-north-1"))
    assert sources.credentials(task, "s3", s3.keys()) == s3.keys()


def test_the_store_s_credentials_are_not_sent_elsewhere(
    s3: S3Server, lake: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(name, value)
    elsewhere = StoreLocation("s3://models", s3.endpoint.replace("127.0.0.1", "localhost"))
    answer = _take(elsewhere, "s3://lake/folder/data.csv", source_store=lake)
    assert (answer.ok, answer.reason) == (False, "StoreCredentialsMissing")
    assert "name a Secret in spec.source.secretRef" in answer.message


def test_a_store_that_fails_is_told_from_a_source_that_does(
    store: StoreLocation, lake: StoreLocation, tmp_path: Path
) -> None:
    of_the_source = _take(store, "s3://lake/folder/data.csv", source_store=lake)
    assert (of_the_source.reason, of_the_source.store) == ("StoreCredentialsMissing", False)
    of_the_store = _take(StoreLocation("ftp://models"), str(csv(tmp_path / "data.csv", "x", ["1"])))
    assert (of_the_store.reason, of_the_store.store) == ("StoreSchemeUnknown", True)


@pytest.mark.parametrize(
    ("source", "store", "told", "own", "sent"),
    [
        ("ours", "ours", None, {}, "the store's"),
        (None, None, "ours", {}, "the store's"),
        ("ours", None, "ours", {}, "the store's"),
        ("theirs", "ours", None, {}, "none"),
        ("theirs", None, "ours", {}, "none"),
        ("theirs", "ours", None, {"KEY": "own"}, "own"),
        (None, "ours", None, {"KEY": "own", "NAME": "theirs"}, "own"),
    ],
)
def test_a_store_s_key_is_for_sources_in_its_storage_account(
    source: str | None, store: str | None, told: str | None, own: dict[str, str], sent: str
) -> None:
    task = SnapshotTask(
        StoreLocation("az://models", account=store), "az://lake/a", StoreLocation("az://lake", account=source)
    )
    names = {"KEY": environment.AZURE_KEY, "NAME": environment.AZURE_ACCOUNT}
    variables = {environment.AZURE_KEY: "the store's", **({environment.AZURE_ACCOUNT: told} if told else {})}
    variables |= {environment.SOURCE_PREFIX + names[name]: value for name, value in own.items()}
    assert sources.credentials(task, "az", variables).get(environment.AZURE_KEY, "none") == sent


@pytest.mark.parametrize(
    ("uri", "reason", "text"),
    [
        ("s3://lake/folder/absent.csv", "SourceNotFound", "no such object"),
        ("s3://lake/folder/*.parquet", "SourceNotFound", "no object matches"),
        ("s3://lake/*/data.csv", "SourceInvalid", "last part"),
        ("s3://lak?/folder/data.csv", "SourceInvalid", "name a bucket and an object"),
        ("s3://lake#x/folder/data.csv", "SourceInvalid", "name a bucket and an object"),
        ("s3://lake", "SourceInvalid", "name a bucket and an object"),
        ("s3://nolake/data.csv", "StoreBucketMissing", "s3://nolake"),
        ("postgresql://db/table", "SourceSchemeDenied", "allows"),
        ("file:///etc/passwd", "SourceSchemeDenied", "allow.sources"),
    ],
)
def test_a_source_that_cannot_be_read(
    store: StoreLocation,
    s3: S3Server,
    lake: StoreLocation,
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    reason: str,
    text: str,
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(environment.SOURCE_PREFIX + name, value)
    answer = _take(store, uri, source_store=lake)
    assert (answer.ok, answer.reason) == (False, reason), answer
    assert text in answer.message


def test_a_source_over_the_limit(
    store: StoreLocation, s3: S3Server, lake: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(environment.SOURCE_PREFIX + name, value)
    monkeypatch.setattr(sources, "MAX_BYTES", 1000)
    answer = _take(store, "s3://lake/folder/data.csv", source_store=lake)
    assert answer.reason == "SourceTooLarge"


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("parts/?.csv", 3),
        ("parts/[ab].csv", 3),
        ("parts/[!a].csv", 2),
        ("parts/*.csv", 10),
        ("parts/a#1.csv", 3),
        ("parts/a#?.csv", 3),
        ("parts/100%25.csv", 4),
    ],
)
def test_a_key_is_taken_as_it_is_written(
    store: StoreLocation, s3: S3Server, lake: StoreLocation, monkeypatch: pytest.MonkeyPatch, key: str, rows: int
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(environment.SOURCE_PREFIX + name, value)
    parts = s3.folder / "lake" / "parts"
    parts.mkdir(exist_ok=True)
    for number, name in enumerate(("a.csv", "b.csv", "a#1.csv", "100%25.csv"), start=1):
        csv(parts / name, "x", ["1"] * number)
    answer = _take(store, f"s3://lake/{key}", source_store=lake)
    assert answer.ok, answer
    assert answer.result.rows == rows
