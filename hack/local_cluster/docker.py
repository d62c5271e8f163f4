"""Whether Docker answers: it decides between kind and processes, and between docker and buildah."""

from __future__ import annotations

import functools

from local_cluster.commands import find, run


@functools.cache
def answers() -> bool:
    # The client alone is no use: what counts is a daemon that this user may talk to.
    return find("docker") is not None and run(["docker", "info"], check=False, timeout=20).returncode == 0
