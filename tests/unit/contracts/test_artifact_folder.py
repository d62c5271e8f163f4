"""Artifact folders: whole and unchanged, or refused."""

from pathlib import Path

import msgspec
import pytest

from modelmill_contracts import artifact, digest, folder
from modelmill_contracts.artifact import File, Manifest, Tensor
from modelmill_contracts.folder import ArtifactError
from modelmill_contracts.store import Store, artifact_key
from modelmill_contracts.task import StoreLocation

CONTENT = {"model.onnx": b"a model", "card.md": b"# card"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(StoreLocation(f"file://{tmp_path}/store"))


@pytest.fixture
def published(store: Store, tmp_path: Path) -> tuple[str, Path]:
    """The digest of an artifact in the store, and where its files lie."""
    made = tmp_path / "made"
    made.mkdir()
    for name, content in CONTENT.items():
        (made / name).write_bytes(content)
    files = tuple(File(name, digest.of_bytes(content), len(content)) for name, content in CONTENT.items())
    manifest = Manifest("onnx", files, (Tensor("input", "FP32", (-1, 2)),), (Tensor("predict", "FP32", (-1,)),))
    found = folder.publish(store, made, manifest)
    return found, tmp_path / "store" / artifact_key(found)


def test_what_was_published_is_fetched(store: Store, published: tuple[str, Path], tmp_path: Path) -> None:
    manifest = folder.fetch(store, published[0], tmp_path / "got")
    assert {file.name for file in manifest.files} == set(CONTENT)
    assert {name: (tmp_path / "got" / name).read_bytes() for name in CONTENT} == CONTENT
    assert folder.verify(tmp_path / "got", published[0]) == manifest


def test_publishing_again_changes_nothing(store: Store, published: tuple[str, Path]) -> None:
    before = (published[1] / artifact.MANIFEST).stat().st_mtime_ns
    manifest = folder.verify(published[1], published[0])
    assert folder.publish(store, published[1], manifest) == published[0]
    assert (published[1] / artifact.MANIFEST).stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [b"b model", b"a longer model", b"short", b""])
def test_a_changed_file_is_found(store: Store, published: tuple[str, Path], tmp_path: Path, content: bytes) -> None:
    (published[1] / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx") as caught:
        folder.fetch(store, published[0], tmp_path / "got")
    assert caught.value.reason == "DigestMismatch"
    assert not (tmp_path / "got" / artifact.MANIFEST).exists()
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        folder.verify(published[1], published[0])


def test_a_changed_manifest_is_found(store: Store, published: tuple[str, Path], tmp_path: Path) -> None:
    path = published[1] / artifact.MANIFEST
    path.write_bytes(path.read_bytes().replace(b"onnx", b"skop"))
    with pytest.raises(ArtifactError, match="was changed after it was made") as caught:
        folder.fetch(store, published[0], tmp_path / "got")
    assert caught.value.reason == "DigestMismatch"


def test_a_missing_file_is_named(published: tuple[str, Path]) -> None:
    (published[1] / "card.md").unlink()
    with pytest.raises(ArtifactError, match=r"card\.md is not in the artifact folder") as caught:
        folder.verify(published[1], published[0])
    assert caught.value.reason == "FileMissing"


def test_a_file_that_no_digest_covers_is_refused(published: tuple[str, Path]) -> None:
    (published[1] / "weights.bin").write_bytes(b"a model may read this too")
    with pytest.raises(ArtifactError, match=r"weights\.bin") as caught:
        folder.verify(published[1], published[0])
    assert caught.value.reason == "FileUnexpected"


def test_a_link_is_not_followed(published: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(CONTENT["card.md"])
    (published[1] / "card.md").unlink()
    (published[1] / "card.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError) as caught:
        folder.verify(published[1], published[0])
    assert caught.value.reason == "NotARegularFile"


@pytest.mark.parametrize("name", ["../escape", "a/b", "..", "", "a\\b", "a%2fb", "manifest.json", "a\0b"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match="files"):
        Manifest("onnx", (File(name, digest.of_bytes(b""), 0),), (), ())
    data = msgspec.json.encode(
        {"runtime": "onnx", "files": [{"name": name, "digest": digest.of_bytes(b""), "size": 0}]}
    )
    with pytest.raises(ArtifactError) as caught:
        folder.read_manifest(data, None)
    assert caught.value.reason == "ManifestInvalid"


def test_the_bytes_of_a_manifest_do_not_depend_on_the_order_of_its_dictionaries() -> None:
    one, other = (
        Manifest("onnx", (), (), (), metrics=metrics) for metrics in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    )
    assert artifact.encode(one) == artifact.encode(other)
    assert artifact.decode(artifact.encode(one)) == one


def test_a_manifest_of_another_format_is_refused() -> None:
    data = artifact.encode(Manifest("onnx", (), (), ())).replace(b"artifact/v1", b"artifact/v9")
    with pytest.raises(ValueError, match="artifact/v9"):
        artifact.decode(data)
