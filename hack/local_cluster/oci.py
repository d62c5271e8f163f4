"""Images for the cluster's own pods, written as OCI archives without any image builder: one layer of static
binaries.

The archive is a function of its contents (no times, no names of this machine), so an unchanged image keeps
its digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """What goes in: files by their place in the image (a string value is the target of a symbolic link), and
    who runs what."""

    reference: str
    files: Mapping[str, Path | str]
    entrypoint: Sequence[str]
    user: str = "65532:65532"
    # Empty folders, writable by everyone, such as /tmp.
    folders: Sequence[str] = field(default=())


def architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def write_archive(image: Image, target: Path) -> None:
    layer = _layer(image)
    layer_digest = hashlib.sha256(layer).hexdigest()
    config = _json(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entrypoint),
                "User": image.user,
                "Env": ["PATH=/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    unfinished = target.with_name(target.name + ".unfinished")
    with tarfile.open(unfinished, "w") as archive:
        _add_index(archive, image.reference, manifest)
        for blob in (manifest, config, layer):
            _add(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
    unfinished.rename(target)


def write_lean_archive(exported: Path, reference: str, present: Collection[str], target: Path) -> None:
    """Turn a docker-archive (one image, layers uncompressed) into an OCI archive without the layers that are
    `present`.

    Most of an image is its base, which the cluster has from the former build: only what changed is written
    and read.
    """
    with tarfile.open(exported) as source:
        listed = json.loads(_content(source, "manifest.json"))[0]
        config = _content(source, listed["Config"])
        digests: list[str] = json.loads(config)["rootfs"]["diff_ids"]
        layers = [(source.getmember(name), digest) for name, digest in zip(listed["Layers"], digests)]
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": digest,
                        "size": member.size,
                    }
                    for member, digest in layers
                ],
            }
        )
        with tarfile.open(target, "w") as archive:
            _add_index(archive, reference, manifest)
            for blob in (manifest, config):
                _add(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
            for member, digest in layers:
                if digest not in present:
                    entry = tarfile.TarInfo("blobs/" + digest.replace(":", "/"))
                    entry.size, entry.mode = member.size, 0o644
                    archive.addfile(entry, source.extractfile(member))


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} in the exported image is not a file")
    return file.read()


def _add_index(archive: tarfile.TarFile, reference: str, manifest: bytes) -> None:
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference,
    }
    _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    _add(archive, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        parents: dict[str, int] = {}
        for place in image.files:
            for parent in Path(place.lstrip("/")).parents:
                if str(parent) != ".":
                    parents[str(parent)] = 0o755
        for folder in image.folders:
            parents[folder.strip("/")] = 0o1777
        for name, mode in sorted(parents.items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            layer.addfile(entry)
        for place, source in sorted(image.files.items()):
            if isinstance(source, Path):
                _add(layer, place.lstrip("/"), source.read_bytes(), 0o755)
            else:
                entry = tarfile.TarInfo(place.lstrip("/"))
                entry.type, entry.linkname = tarfile.SYMTYPE, source
                layer.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
