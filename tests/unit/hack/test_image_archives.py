"""Images: their full names, archives that depend on their content only, and loading no layer twice."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from local_cluster.base_image import debian_suite
from local_cluster.images import complete
from local_cluster.oci import Image, write_archive, write_lean_archive


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("modelmill/operator:dev", "docker.io/modelmill/operator:dev"),
        ("docker.io/modelmill/operator:dev", "docker.io/modelmill/operator:dev"),
        ("python", "docker.io/library/python:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("example.org/x@sha256:00", "example.org/x@sha256:00"),
    ],
)
def test_names_are_completed_as_kubernetes_completes_them(given: str, full: str) -> None:
    assert complete(given) == full


def names(archive: Path) -> set[str]:
    with tarfile.open(archive) as opened:
        return set(opened.getnames())


def test_the_same_content_gives_the_same_archive(tmp_path: Path) -> None:
    program = tmp_path / "program"
    archives = []
    for number in (1, 2):
        program.write_bytes(b"the same")
        archive = tmp_path / f"{number}.tar"
        write_archive(
            Image("docker.io/a/b:1", {"/bin/program": program, "/bin/sh": "program"}, ["/bin/program"]),
            archive,
        )
        archives.append(archive.read_bytes())

    assert archives[0] == archives[1]


def exported(folder: Path, layers: list[bytes]) -> tuple[Path, list[str]]:
    """A docker-archive as buildah writes it."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps({"rootfs": {"diff_ids": [f"sha256:{digest}" for digest in digests]}}).encode()
    manifest = json.dumps([{"Config": "c.json", "Layers": [f"{digest}.tar" for digest in digests]}]).encode()
    target = folder / "exported.tar"
    with tarfile.open(target, "w") as archive:
        for name, content in [
            *((f"{digest}.tar", layer) for digest, layer in zip(digests, layers, strict=True)),
            ("c.json", config),
            ("manifest.json", manifest),
        ]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target, digests


def test_layers_that_the_cluster_has_are_left_out_but_named(tmp_path: Path) -> None:
    source, (base, code) = exported(tmp_path, [b"base" * 1000, b"code"])
    lean = tmp_path / "lean.tar"

    write_lean_archive(source, "docker.io/a/b:1", {f"sha256:{base}"}, lean)

    assert f"blobs/sha256/{code}" in names(lean)
    assert f"blobs/sha256/{base}" not in names(lean)
    with tarfile.open(lean) as archive:
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
        entry = index["manifests"][0]
        manifest = json.load(archive.extractfile("blobs/" + entry["digest"].replace(":", "/")))  # type: ignore[arg-type]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/a/b:1"
    assert [(layer["digest"], layer["size"]) for layer in manifest["layers"]] == [
        (f"sha256:{base}", 4000),
        (f"sha256:{code}", 4),
    ]


def test_a_base_is_made_of_the_machines_own_debian_only() -> None:
    assert debian_suite("ID=debian\nVERSION_CODENAME=trixie\n") == "trixie"
    assert debian_suite('ID=ubuntu\nVERSION_CODENAME="noble"\n') == "bookworm"
