"""The sources of what is built from Go modules: manifests of others are applied as they publish them."""

import subprocess
from pathlib import Path


def folder_of(name: str, module: str) -> Path:
    """Where a module lies that hack/go/NAME requires, downloaded where it is not yet."""
    folder = Path(__file__).parents[1] / "hack/go" / name
    subprocess.run(["go", "mod", "download", module], cwd=folder, check=True)
    command = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    return Path(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip())
