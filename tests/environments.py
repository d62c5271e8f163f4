"""Python environments of their own, in the user's cache: for what would not go together with ours."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def environment(name: str, *packages: str, newest: tuple[int, int] | None = None) -> Path:
    """The Python of the environment of that name with these packages, which is made the first time.

    `newest` is the newest Python that they support: where this one is newer, uv brings it.
    """
    wanted = " ".join(packages)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "modelmill" / name
    python, complete = folder / "bin" / "python", folder / "packages"
    if complete.exists() and complete.read_text() == wanted:
        return python
    print(f"installing {wanted} into {folder} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    version = ".".join(map(str, newest or sys.version_info[:2]))
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "-q", "--python", version, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *packages], check=True)
    elif newest is None or sys.version_info[:2] <= newest:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    else:
        raise SystemExit(f"{name} needs Python <= {version}: install uv, which brings one")
    complete.write_text(wanted)
    return python
