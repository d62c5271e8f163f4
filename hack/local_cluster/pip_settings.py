"""The machine's own pip configuration, for the time of an image build: index, trust and time-outs, but no
local paths.

It goes into the build as a secret mount, so that an index address with a password stays out of layers and
history.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

# What has a meaning inside of a build. `find-links` and the like may name folders of this machine: those are
# left out.
KEPT = (
    "index-url",
    "extra-index-url",
    "trusted-host",
    "find-links",
    "timeout",
    "default-timeout",
    "retries",
    "proxy",
)
CERTIFICATES = "/run/secrets/ca"


def configuration_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """pip's own places in its own order; a later one overrides an earlier one."""
    named = environment.get("PIP_CONFIG_FILE", "")
    places = [
        Path("/etc/pip.conf"),
        Path("/etc/xdg/pip/pip.conf"),
        home / ".pip/pip.conf",
        home / ".config/pip/pip.conf",
    ]
    return [*places, *([Path(named)] if named else [])]


def for_build(environment: Mapping[str, str], files: list[Path], has_certificates: bool) -> str:
    """The text of a pip.conf for inside of the build; environment variables (PIP_INDEX_URL ...) win over
    files."""
    parser = configparser.RawConfigParser()
    parser.read([file for file in files if file.is_file()])
    settings = dict(parser.items("global")) if parser.has_section("global") else {}
    for variable, value in environment.items():
        if variable.startswith("PIP_"):
            settings[variable[len("PIP_") :].lower().replace("_", "-")] = value
    lines = ["[global]"]
    for name in KEPT:
        value = settings.get(name, "")
        if value and not value.startswith(("/", "~", ".", "file:")):
            lines.append(f"{name} = " + "\n    ".join(value.split()))
    if has_certificates:
        lines.append(f"cert = {CERTIFICATES}")
    return "\n".join(lines) + "\n"
