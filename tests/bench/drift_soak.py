"""Drift on the local cluster, watched for a thousand windows of which none has any: `python -m tests.bench.drift_soak`.

Ten deployments of one model get the rows of its training in random order (examples/monitoring), and no alarm may be
raised but one in a thousand windows.  Then one feature is shifted by half a standard deviation, for all of them.
"""

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import document
from tests.bench.cluster import place
from tests.live import API_VERSION, ROOT, Kubectl, eventually

NAMESPACE = "bench-drift"
DEPLOYMENTS = [f"watched-{number}" for number in range(10)]
WINDOWS = 1_000
WINDOW, ROWS = "10s", 1_000
SHIFT = 0.5  # standard deviations
GOAL_WINDOWS = 3  # until a shift is said, after the one in which it began
EXAMPLES = ROOT / "examples/monitoring"
DATA = ROOT / "examples/breast-cancer/breast-cancer.csv"
_DETECTED = "DriftDetected"


def _replaced(text: str, changes: dict[str, str], file: Path) -> str:
    for old, new in changes.items():
        if old not in text:
            raise SystemExit(f"{file} says otherwise than {old!r}")
        text = text.replace(old, new)
    return text


def prepare(kubectl: Kubectl) -> None:
    """The model, its deployments, and a pod for each that sends rows."""
    with DATA.open() as file:
        first = [float(row[0]) for row in list(csv.reader(file))[1:]]
    added = SHIFT * statistics.pstdev(first)
    script = _replaced((EXAMPLES / "rows.py").read_text(), {"row[0] *= 1.5": f"row[0] += {added:.4f}"}, EXAMPLES)
    kubectl.run("create", "configmap", "rows", f"--from-literal=rows.py={script}")
    kubectl.apply_folder("examples/breast-cancer")
    kubectl.run("wait", "--for=condition=Ready", "mdep/triage", "--timeout=240s")
    kubectl.run("delete", "mdep", "triage")
    for name in DEPLOYMENTS:
        drift = {"window": WINDOW, "minRows": ROWS, "minEffect": "0.1", "falseDiscoveryRate": "0.05"}
        small = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
        spec = {"model": {"name": "triage"}, "monitoring": {"drift": drift}, "server": {"resources": small}}
        kubectl.apply({"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {"name": name}, "spec": spec})
        pod = (EXAMPLES / "rows.yaml").read_text()
        changes = {"triage-watched": name, "name: rows\nspec": f"name: rows-{name}\nspec", "cpu: 50m": "cpu: 20m"}
        kubectl.run("apply", "-f", "-", stdin=_replaced(pod, changes, EXAMPLES))
    for name in DEPLOYMENTS:
        kubectl.run("wait", "--for=condition=Ready", f"mdep/{name}", f"pod/rows-{name}", "--timeout=240s")


def drift_of(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    """`status.drift` of each deployment, and whether it `alarms`."""
    found = {}
    for item in kubectl.list("mdep"):
        status = item.get("status", {})
        alarms = any(c["type"] == _DETECTED and c["status"] == "True" for c in status.get("conditions", ()))
        found[item["metadata"]["name"]] = {"windows": 0, **status.get("drift", {}), "alarms": alarms}
    return found


def watch(kubectl: Kubectl, windows: int) -> Iterator[dict[str, dict[str, Any]]]:
    """What is known every two seconds until so many windows were compared."""
    said = 0
    while True:
        found = drift_of(kubectl)
        yield found
        done = sum(one["windows"] for one in found.values())
        if done >= windows:
            return
        if done >= said + 100:
            said = done
            print(f"{done} of {windows} windows", flush=True)
        time.sleep(2)


def alarms(kubectl: Kubectl) -> int:
    """How often an alarm began, by the Events."""
    events = [e for e in kubectl.list("events") if e["reason"] == _DETECTED]
    return sum(e.get("count") or (e.get("series") or {}).get("count") or 1 for e in events)


def shift(kubectl: Kubectl) -> dict[str, int]:
    """The windows of each deployment until the shift is said, that in which it began included."""
    before = {}
    for name in DEPLOYMENTS:
        before[name] = drift_of(kubectl)[name]  # of just then: the ten take seconds
        kubectl.run("exec", f"rows-{name}", "--", "touch", "/tmp/shift")
    found: dict[str, int] = {}

    def all_are_found() -> bool:
        for name, one in drift_of(kubectl).items():
            if one["alarms"] and name not in found:
                found[name] = one["windows"] - before[name]["windows"]
        return len(found) == len(DEPLOYMENTS)

    eventually(all_are_found, "drift is found everywhere", 300, lambda: str(drift_of(kubectl)))
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=WINDOWS, help="without a shift (%(default)s)")
    options = parser.parse_args([] if arguments is None else arguments)
    rows = []
    with place(NAMESPACE) as (_, kubectl):
        prepare(kubectl)
        begun = time.monotonic()
        seen = False
        for found in watch(kubectl, options.windows):
            seen = seen or any(one["alarms"] for one in found.values())
            rows += [one["window"]["rows"] for one in found.values() if "window" in one]
        minutes = (time.monotonic() - begun) / 60
        windows, false = sum(one["windows"] for one in found.values()), alarms(kubectl)
        if seen and not false:
            raise SystemExit("an alarm was seen that no Event tells of")
        until = sorted(shift(kubectl).values())
    most = windows / 1_000
    until_said = (
        f"one feature shifted by {SHIFT} standard deviations: windows until that was said, with the one in which it"
        f" began; {len(until)} deployments, min / median / max"
    )
    of_rows = f"{min(rows):,} / {statistics.median(rows):,.0f}"
    lines = (
        ("windows compared, minutes", f"{windows:,}, {minutes:.0f}", f">= {options.windows:,}",
         windows >= options.windows),
        ("rows of a window: min / median", of_rows, f">= {ROWS:,}", min(rows) >= ROWS),
        ("false alarms", str(false), f"<= {most:.1f}", false <= most),
        (
            until_said,
            f"{until[0]} / {statistics.median(until):g} / {until[-1]}",
            f"<= 1 + {GOAL_WINDOWS}",
            until[-1] <= 1 + GOAL_WINDOWS,
        ),
    )  # fmt: skip
    cells = ((*rest, "yes" if reached else "**no**") for *rest, reached in lines)
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    document.update(
        "drift-soak", f"{document.machine()}\n\n| what | measured | wanted | reached |\n|---|---|---|---|\n{table}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
