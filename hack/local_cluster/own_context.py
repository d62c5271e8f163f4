"""CLUSTER=current: the cluster of the user's own kubeconfig context, which this program neither makes nor
changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from local_cluster import images
from local_cluster.commands import find, run
from local_cluster.console import ClusterError, say


def kubectl() -> str:
    found = find("kubectl")
    if found is None:
        raise ClusterError("CLUSTER=current needs a kubectl on PATH that fits your cluster")
    return found


def kubeconfig() -> Path:
    return Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")


def context() -> str:
    answer = run([kubectl(), "config", "current-context"], check=False)
    if answer.returncode != 0:
        raise ClusterError(
            "CLUSTER=current, but your kubeconfig has no current context: kubectl config use-context NAME"
        )
    return answer.stdout.strip()


def up() -> None:
    say(f"CLUSTER=current: using your context {context()!r} as it is; nothing is started.")
    if run([kubectl(), "get", "--raw=/readyz"], check=False, timeout=30).returncode != 0:
        raise ClusterError(f"the cluster of your context {context()!r} does not answer")


def down() -> None:
    say("CLUSTER=current: your own cluster is left as it is.")


def load(names: Sequence[str]) -> None:
    current = context()
    say(f"CLUSTER=current: images cannot be loaded into {current!r} from here.")
    if current.startswith("kind-"):
        for name in names:
            what = (
                f"image-archive {images.archive_of(name)}"
                if images.archive_of(name) is not None
                else f"docker-image {name}"
            )
            say(f"Load it with kind: kind load {what} --name {current[len('kind-') :]}")
    else:
        say(f"Push them to a registry that its nodes can pull from: {' '.join(names)}")


def status() -> int:
    answers = run([kubectl(), "get", "--raw=/readyz"], check=False, timeout=30).returncode == 0
    print(f"context {context()}: {'answers' if answers else 'does not answer'} (CLUSTER=current)")
    return 0 if answers else 3
