"""docs/BENCHMARKS.md, mostly: each benchmark rewrites its own section of a document, between two markers."""

import os
import platform
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / "docs" / "BENCHMARKS.md"


def update(section: str, report: str, path: Path = PATH) -> None:
    """Put `report` between the section's markers, which must be there, and print it."""
    text = path.read_text()
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    if begin not in text or end not in text:
        raise SystemExit(f"{path.name} has no markers {begin} and {end}: write what the section is about, and them")
    before, _, rest = text.partition(begin)
    path.write_text(f"{before}{begin}\n{report}\n{end}{rest.partition(end)[2]}")
    print(f"\n{report}\n\nwritten to docs/{path.name}")


def section(name: str, path: Path = PATH) -> str:
    """What stands in a section now."""
    return path.read_text().partition(f"<!-- {name}:begin -->")[2].partition(f"<!-- {name}:end -->")[0].strip()


def machine() -> str:
    """The machine in one line."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} CPUs {cpu}, Linux {platform.release()}, Python {platform.python_version()}."
