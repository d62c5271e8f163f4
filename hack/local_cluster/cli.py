"""The command line of hack/cluster: reads it, picks the backend, turns a ClusterError into an exit code."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from local_cluster import build, docker, images, kind, own_context, upstream
from local_cluster import record as records
from local_cluster.console import ClusterError, fail, say
from local_cluster.kubectl import ensure_kubectl
from local_cluster.paths import ClusterPaths

CHOICES = ("auto", "kind", "processes", "current")

DESCRIPTION = """\
A real Kubernetes on this machine: kind where Docker answers, else the upstream components as processes.

  hack/cluster up                    start it (safe to repeat; goes on after an interruption)
  hack/cluster up --name modelmill-api --without-nodes
                                     an API server and controllers only, beside the other one
  hack/cluster status                what runs: 0 healthy, 1 not healthy, 3 not up
  hack/cluster images [IMAGE ...]    build the project's images and load what changed
  hack/cluster load IMAGE ...        load images built with docker, or by `images`
  hack/cluster kubectl ...           the matching kubectl, with the cluster's own kubeconfig
  hack/cluster kubeconfig            the path of that kubeconfig
  hack/cluster build [COMPONENT ...] build the components only, start nothing
  hack/cluster down                  stop it and leave nothing behind

CLUSTER=auto (default) | kind | processes | current (your own context; nothing is started or changed)
"""


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(argv)
    except ClusterError as problem:
        fail(str(problem))
        return problem.exit_code
    except BrokenPipeError:
        # `hack/cluster status | head`: nobody reads any further, which is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        fail("interrupted. The same command goes on where this one stopped; `hack/cluster down` cleans up.")
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _run(argv: Sequence[str]) -> int:
    # kubectl's own flags must reach kubectl: what follows the verb is not read here.
    name, rest = _name_before_kubectl(argv)
    if rest is not None:
        return _kubectl(name, rest)
    arguments = parser().parse_args(argv)
    name = _valid(arguments.name)
    backend = choose_backend(name)
    if arguments.verb == "up":
        _up(backend, name, with_node=not arguments.without_nodes)
    elif arguments.verb == "down":
        _down(backend, name)
    elif arguments.verb == "status":
        return _status(backend, name)
    elif arguments.verb == "load":
        _load(backend, name, arguments.image)
    elif arguments.verb == "images":
        targets = arguments.image or [*images.TARGETS, images.STORE]
        images.build_images(targets)
        if not arguments.no_load:
            _load(backend, name, [f"modelmill/{target}:{images.TAG}" for target in targets])
    elif arguments.verb == "build":
        needed = (*build.NODE, *build.STORE) if backend == "processes" else ("kind",)
        build.ensure_built(tuple(arguments.component) or needed)
        say("All components are built.")
    elif arguments.verb == "kubeconfig":
        print(own_context.kubeconfig() if backend == "current" else ClusterPaths(name).kubeconfig)
    return 0


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="hack/cluster", description=DESCRIPTION, formatter_class=raw)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in ("up", "down", "status", "load", "images", "build", "kubeconfig", "kubectl"):
        one = verbs.add_parser(verb)
        one.add_argument("--name", default="modelmill", help="the cluster's name (default: modelmill)")
        if verb == "up":
            one.add_argument(
                "--without-nodes", action="store_true", help="API server and controllers only; no pod runs"
            )
        elif verb == "load":
            one.add_argument("image", nargs="+")
        elif verb == "images":
            one.add_argument(
                "image",
                nargs="*",
                help=f"of {', '.join((*images.TARGETS, *images.UPSTREAM))}; default: what Modelmill needs",
            )
            one.add_argument("--no-load", action="store_true", help="build only")
        elif verb == "build":
            one.add_argument("component", nargs="*", help="folders of hack/go; default: what the cluster needs")
    return top


def choose_backend(name: str) -> str:
    """What $CLUSTER says; without it, what made the cluster of that name, else kind where Docker answers."""
    wanted = os.environ.get("CLUSTER") or "auto"
    if wanted not in CHOICES:
        raise ClusterError(f"CLUSTER={wanted} is unknown; choose one of {', '.join(CHOICES)}", exit_code=2)
    if wanted == "current":
        return wanted
    record = records.load(name)
    if record is not None:
        if wanted not in ("auto", record.backend):
            raise ClusterError(
                f"CLUSTER={wanted}, but the cluster {name!r} was made with {record.backend}: take that one down first"
            )
        return record.backend
    if wanted != "auto":
        return wanted
    return "kind" if docker.answers() else "processes"


def _valid(name: str) -> str:
    # It becomes a node's name and part of paths; kind asks for the same.
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name):
        raise ClusterError(f"--name {name!r}: use lower-case letters, digits and dashes, 40 at most", exit_code=2)
    return name


def _up(backend: str, name: str, with_node: bool) -> None:
    if backend == "current":
        own_context.up()
    elif backend == "kind":
        kind.up(name, with_node)
    else:
        upstream.up(name, with_node)


def _down(backend: str, name: str) -> None:
    if backend == "current":
        own_context.down()
    elif backend == "kind":
        kind.down(name)
    else:
        upstream.down(name)


def _status(backend: str, name: str) -> int:
    if backend == "current":
        return own_context.status()
    return kind.status(name) if backend == "kind" else upstream.status(name)


def _load(backend: str, name: str, names: Sequence[str]) -> None:
    if backend == "current":
        own_context.load(names)
    elif backend == "kind":
        kind.load(name, names)
    else:
        upstream.load(name, names)


def _name_before_kubectl(argv: Sequence[str]) -> tuple[str, list[str] | None]:
    """`kubectl [--name NAME] words...`: the cluster's name and kubectl's words; None for any other verb."""
    if not argv or argv[0] != "kubectl":
        return "", None
    words = list(argv[1:])
    name = "modelmill"
    if words[:1] == ["--name"] and len(words) > 1:
        name, words = words[1], words[2:]
    elif words and words[0].startswith("--name="):
        name, words = words[0][len("--name=") :], words[1:]
    return _valid(name), words


def _kubectl(name: str, words: list[str]) -> int:
    if choose_backend(name) == "current":
        os.execv(own_context.kubectl(), ["kubectl", *words])  # noqa: S606
    files = ClusterPaths(name)
    if not files.kubeconfig.exists():
        raise ClusterError(f"the cluster {name!r} is not up; start it with: hack/cluster up --name {name}", exit_code=3)
    program = ensure_kubectl()
    sys.stdout.flush()
    # Becomes kubectl, so that signals, the terminal and the exit code are its own.
    os.execve(program, ["kubectl", *words], {**os.environ, "KUBECONFIG": str(files.kubeconfig)})  # noqa: S606
