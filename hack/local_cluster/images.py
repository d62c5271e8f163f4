"""The project's images: built from the Dockerfile with docker where it answers, else with buildah, and loaded
where they changed.

What works in the Dockerfile with both (tried with Debian 12's buildah 1.28 in chroot isolation):
- `ARG BASE` before the first FROM, several stages, `--target`, `COPY --from=<stage> --chown= --chmod=`;
- `RUN --mount=type=cache,target=...` (also `sharing=locked`), `type=bind` (from the context or a stage), and
  `type=secret`;
- the secrets `pip` (to be mounted on /etc/pip.conf: the machine's index and trust settings) and `ca` (its
  CA bundle, which that pip.conf names as /run/secrets/ca). A plain `docker build .` has neither, and pip then
  uses its own defaults.

What does not: heredocs (`RUN <<EOF` is taken for an empty command without a word), `COPY --link` (refused),
HEALTHCHECK (left out with a warning: the OCI format has none). The build uses the machine's own network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from local_cluster import base_image, build, docker, packages, paths, pip_settings
from local_cluster.commands import find, run
from local_cluster.console import ClusterError, say, step
from local_cluster.locks import exclusive
from local_cluster.oci import Image, write_archive, write_lean_archive
from local_cluster.versions import component

TARGETS = ("operator", "trainer", "model-server")
STORE = "store"
KUEUE = "kueue"  # for the tests
UPSTREAM = (STORE, KUEUE)  # programs of others, which are built from source
TAG = "dev"
UNNAMED_LAYERS_KEPT = 100

CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def reference(target: str) -> str:
    """The full name, as Kubernetes completes `modelmill/<target>:dev`."""
    return f"docker.io/modelmill/{target}:{TAG}"


def build_images(targets: Sequence[str]) -> None:
    known = (*TARGETS, *UPSTREAM)
    unknown = sorted(set(targets) - set(known))
    if unknown:
        raise ClusterError(f"no such image: {', '.join(unknown)}; there are {', '.join(known)}")
    with exclusive(paths.images() / ".lock", "another build of images to end"):
        if STORE in targets:
            _build_store()
        if KUEUE in targets:
            _build_kueue()
        wanted = [target for target in targets if target not in UPSTREAM]
        if wanted:
            if not (paths.REPOSITORY / "Dockerfile").exists():
                raise ClusterError(f"there is no Dockerfile in {paths.REPOSITORY}")
            if docker.answers():
                _with_docker(wanted)
            else:
                _with_buildah(wanted)


def _with_docker(targets: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            with step(f"Building modelmill/{target}:{TAG} with docker", "1 minute, seconds when little changed"):
                base = ["--build-arg", f"BASE={os.environ['BASE']}"] if os.environ.get("BASE") else []
                run(
                    [
                        *(
                            "docker",
                            "build",
                            "--quiet",
                            "--target",
                            target,
                            "--tag",
                            f"modelmill/{target}:{TAG}",
                        ),
                        *base,
                        *_secrets(Path(folder)),
                        paths.REPOSITORY,
                    ],
                    env={"DOCKER_BUILDKIT": "1"},
                )


def _with_buildah(targets: Sequence[str]) -> None:
    packages.ensure(packages.IMAGES)
    if os.geteuid() != 0:
        raise ClusterError("building images without Docker needs root (buildah with overlay): be root, or start Docker")
    work = _work()
    buildah("rm", "--all")  # what an interrupted build left behind
    base = base_image.choose(buildah, work)
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            with step(f"Building modelmill/{target}:{TAG} on {base}", "1 minute, seconds when little changed"):
                buildah(
                    *("build", "--layers", "--target", target, "--build-arg", f"BASE={base}"),
                    *_secrets(Path(folder)),
                    *("--file", str(paths.REPOSITORY / "Dockerfile"), "--tag", reference(target)),
                    str(paths.REPOSITORY),
                )
    _prune()


def _prune() -> None:
    """Drop layers that no image has a name for, but seldom: they are what makes the next build quick."""
    unnamed = buildah("images", "--quiet", "--filter", "dangling=true").split()
    if len(unnamed) > UNNAMED_LAYERS_KEPT:
        with step("Removing layers of former builds"):
            buildah("rmi", "--prune")


def _work() -> Path:
    folder = paths.images() / "work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def buildah(*words: str, timeout: float | None = None) -> str:
    """buildah with a storage of its own, so that the user's images and settings are neither used nor
    changed."""
    own = [
        "--root",
        str(paths.images() / "buildah"),
        "--runroot",
        "/run/modelmill-buildah",
        "--storage-driver",
        storage_driver(),
    ]
    environment = {
        # Needs no user namespaces, cgroups or network set-up: it works inside of a CI container.
        "BUILDAH_ISOLATION": "chroot",
        # The cache mounts of `RUN --mount=type=cache` lie below.
        "TMPDIR": str(_work()),
    }
    # In a mount namespace of its own: an interrupted build leaves no mount on the machine.
    apart = ["unshare", "--mount", "--propagation", "slave"]
    return run([*apart, "buildah", *own, *words], env=environment, timeout=timeout).stdout


def storage_driver() -> str:
    kind = run(["stat", "--file-system", "--format=%T", _work()], check=False).stdout.strip()
    return "vfs" if kind == "overlayfs" else "overlay"


def _secrets(folder: Path) -> list[str]:
    bundle = os.environ.get("SSL_CERT_FILE") or next((place for place in CA_BUNDLES if Path(place).is_file()), "")
    settings = folder / "pip.conf"
    files = pip_settings.configuration_files(os.environ, Path.home())
    settings.write_text(pip_settings.for_build(os.environ, files, bool(bundle)))
    settings.chmod(0o600)
    secrets = ["--secret", f"id=pip,src={settings}"]
    return [*secrets, "--secret", f"id=ca,src={bundle}"] if bundle else secrets


def archive_of(name: str) -> Path | None:
    """The file that holds an upstream's image, by its full name; None for an image of the Dockerfile."""
    target = next((target for target in UPSTREAM if name == reference(target)), None)
    return None if target is None else paths.images() / f"{target}.tar"


def _build_store() -> None:
    """The S3 store: one static binary, and a shell whose `mkdir` makes the bucket. Nothing is pulled for
    it."""
    build.ensure_built(build.STORE)
    packages.ensure({"busybox": packages.NODE["busybox"]})
    gateway = component("versitygw")
    with step(f"Building modelmill/{STORE}:{TAG} (versitygw {gateway.version})"):
        files: dict[str, Path | str] = {
            "/bin/versitygw": gateway.program("versitygw"),
            "/bin/busybox": Path(find("busybox") or "/bin/busybox"),
            **{f"/bin/{name}": "busybox" for name in ("sh", "mkdir", "ls", "df")},
        }
        image = Image(reference(STORE), files, ["/bin/versitygw"], folders=("tmp",))
        write_archive(image, paths.images() / f"{STORE}.tar")


def _build_kueue() -> None:
    build.ensure_built(build.QUEUE)
    kueue = component("kueue")
    with step(f"Building modelmill/{KUEUE}:{TAG} (Kueue {kueue.version})"):
        image = Image(reference(KUEUE), {"/manager": kueue.program("kueue")}, ["/manager"], folders=("tmp",))
        write_archive(image, paths.images() / f"{KUEUE}.tar")


def image_id(name: str) -> str:
    """What changes when the image's content does; empty when there is no such image."""
    archive = archive_of(name)
    if archive is not None:
        return _archive_id(archive) if archive.exists() else ""
    if docker.answers():
        return run(["docker", "image", "inspect", "--format={{.Id}}", name], check=False).stdout.strip()
    return _buildah_id(name)


def _archive_id(archive: Path) -> str:
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _buildah_id(name: str) -> str:
    try:
        return str(json.loads(buildah("inspect", "--type", "image", name))["FromImageID"])
    except (ClusterError, ValueError, KeyError):
        return ""


def complete(name: str) -> str:
    """`modelmill/operator:dev` -> `docker.io/modelmill/operator:dev`, as Kubernetes reads image names."""
    first, slash, rest = name.partition("/")
    if not slash:
        full = f"docker.io/library/{name}"
    elif "." in first or ":" in first or first == "localhost":
        full = name
    else:
        full = f"docker.io/{first}/{rest}"
    return full if re.search(r":[^/]+$|@", full) else f"{full}:latest"


def export(name: str, present: Collection[str], folder: Path) -> Path:
    """Write an image to a file that containerd reads, without the layers whose digests are `present` there
    already."""
    upstream = archive_of(name)
    if upstream is not None:
        return upstream
    archive = folder / "image.tar"
    if docker.answers():
        run(["docker", "save", "--output", archive, name])
        return archive
    exported = folder / "exported.tar"
    # docker-archive keeps layers uncompressed: by far the quickest to write and to read.
    push = ("push", "--quiet", name, f"docker-archive:{exported}:{name}")
    try:
        buildah(*push)
    except ClusterError as error:
        target = next((target for target in TARGETS if reference(target) == name), None)
        if target is None or "checksum failed" not in str(error):
            raise
        # Somebody changed a file of it in buildah's storage, as one does who adds a CA to every bundle on a machine.
        say(f"    A layer of {name} was changed from outside: building it anew")
        buildah("rmi", "--force", name)
        buildah("rmi", "--prune", "--force")
        build_images([target])
        exported.unlink(missing_ok=True)
        buildah(*push)
    write_lean_archive(exported, name, present, archive)
    return archive
