"""Building the upstream components from their Go modules, once per version and user.

A build goes to a folder of its own that is renamed when everything is there: an interrupted build leaves
nothing that could be taken for a finished one, and Go's own cache makes the second try short.
"""

from __future__ import annotations

import dataclasses
import re
import shutil

from local_cluster import paths
from local_cluster.commands import find, run
from local_cluster.console import ClusterError, say, step
from local_cluster.locks import exclusive
from local_cluster.versions import Component, component

CONTROL_PLANE = ("kubernetes",)
NODE = ("kubernetes", "coredns", "local-path-provisioner")
STORE = ("versitygw",)
QUEUE = ("kueue",)
STATUS_READERS = "status-readers"

# Measured on two cores with nothing cached.
EXPECTED = {
    "kubernetes": "4.5 minutes",
    "coredns": "3 minutes",
    "local-path-provisioner": "1 minute",
    "versitygw": "1 minute",
    "kind": "1 minute",
    "kubectl": "2 minutes",
    "argo-rollouts": "4 minutes",
    "kueue": "3 minutes",
    STATUS_READERS: "2.5 minutes",
}


def missing(names: tuple[str, ...]) -> list[Component]:
    return [item for item in map(component, names) if not item.built]


def kubectl_alone() -> Component:
    """Of Kubernetes only the client, which is all that is needed beside kind."""
    kubernetes = component("kubernetes")
    tools = tuple(tool for tool in kubernetes.tools if tool.endswith("/kubectl"))
    return dataclasses.replace(kubernetes, name="kubectl", tools=tools)


def ensure_kubectl_built() -> None:
    _ensure([kubectl_alone()])


def ensure_built(names: tuple[str, ...]) -> None:
    _ensure([component(name) for name in names])


def status_readers() -> Component:
    """Helm, and the program that asks other tools' code what it makes of a status: built for the tests."""
    ensure_built((STATUS_READERS,))
    return component(STATUS_READERS)


def _ensure(wanted: list[Component]) -> None:
    if all(item.built for item in wanted):
        return
    with exclusive(paths.binaries() / ".lock", "another build of the cluster's components to end"):
        todo = [item for item in wanted if not item.built]  # the other one may have built them
        if not todo:
            return
        check_go(max((item.go for item in todo), key=_ordered))
        say("To be built from source with Go, once for this user:")
        for item in todo:
            say(f"  {item.name} {item.version}: about {EXPECTED.get(item.name, 'a minute')} on two cores")
        for item in todo:
            with step(f"Building {item.name} {item.version}", EXPECTED.get(item.name, "")):
                _build(item)


def _build(item: Component) -> None:
    unfinished = item.target.with_name(item.target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    run(
        ["go", "build", "-trimpath", "-ldflags", link_flags(item), "-o", f"{unfinished}/", *item.tools],
        cwd=item.folder,
        # Static binaries: they go into images that have no C library.
        env={"CGO_ENABLED": "0"},
    )
    shutil.rmtree(item.target, ignore_errors=True)
    unfinished.rename(item.target)


def link_flags(item: Component) -> str:
    """Stripped, and for Kubernetes with the version that its own release build would set: clients ask for
    it."""
    flags = "-s -w"
    if item.name in ("kubernetes", "kubectl"):
        major, minor = item.version.lstrip("v").split(".")[:2]
        package = "k8s.io/component-base/version"
        stamps = (("gitVersion", item.version), ("gitMajor", major), ("gitMinor", minor))
        flags += "".join(f" -X {package}.{name}={value}" for name, value in stamps)
    return flags


def check_go(needed: str) -> None:
    if find("go") is None:
        raise ClusterError(
            f"Go {needed} or newer is needed to build what has no package, and `go` is not on PATH.\n"
            "Install it (https://go.dev/doc/install, or your distribution's backports)."
        )
    found = go_version(run(["go", "version"]).stdout)
    switches = run(["go", "env", "GOTOOLCHAIN"]).stdout.strip() != "local"
    if found is None or _ordered(found) < _ordered(needed):
        # Go 1.21 and newer fetch the release that a go.mod asks for, unless told to stay local.
        if found is not None and switches and _ordered(found) >= (1, 21):
            say(f"Go {found} will fetch Go {needed}, which the modules ask for.")
            return
        raise ClusterError(
            f"Go {needed} or newer is needed to build Kubernetes' components, and `go version` says "
            f"{found or 'nothing usable'}.\n"
            "Install a newer Go, or set GOTOOLCHAIN=auto so that it fetches the release itself."
        )


def go_version(text: str) -> str | None:
    match = re.search(r"\bgo(\d+(?:\.\d+)*)", text)
    return match.group(1) if match else None


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
