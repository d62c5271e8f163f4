"""Running other programs: quietly, with their output in the message when they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Union

from local_cluster.console import ClusterError

Argument = Union[str, Path]

# A plain user's PATH (and that of cron or CI) often lacks the folders where Debian puts iptables, runc and
# ipset.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])


def find(program: str) -> str | None:
    return shutil.which(program, path=search_path())


def run(
    argv: Sequence[Argument],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. A failure is a ClusterError with the last lines that it wrote."""
    words = [str(word) for word in argv]
    environment = {**os.environ, "PATH": search_path(), **(env or {})}
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            env=environment,
            cwd=cwd,
            text=True,
            errors="replace",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise ClusterError(f"the program {words[0]!r} is not installed") from None
    except subprocess.TimeoutExpired:
        if check:
            raise ClusterError(f"`{' '.join(words[:4])} ...` did not answer within {timeout:.0f} s") from None
        return subprocess.CompletedProcess(words, 124, "", "timed out")
    if check and done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ClusterError(f"`{' '.join(words[:6])}` ended with code {done.returncode}:\n{tail}")
    return done
