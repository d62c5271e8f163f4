"""Seeded bugs: the core's unit tests have to notice every mutant that is not listed as equivalent, with the reason.

python -m tests.mutation                  all; goes on where it was stopped, if nothing changed since
python -m tests.mutation --again          only those that are new, or survived last time and are not listed
python -m tests.mutation --only NAME      those of a module or of one of its functions, or of several (trainingjob
                                          progress._decimals strategies); nothing is kept of it
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import pytest
from tests.mutation import mutants
from tests.mutation.mutants import Mutant
from tests.mutation.trial import OPTIONS, TESTS, Trial

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
VERDICTS = ROOT / "build" / "mutation.json"
LEAST = 0.95  # of the mutants that are not equivalent
PAUSE = 5.0  # seconds after which what is known is kept


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--again", action="store_true", help="those that are new, or survived and are not listed")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="a module of the core, or MODULE.FUNCTION"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many at once (1)")
    asked = parser.parse_args(arguments)
    only = frozenset(asked.only)
    modules = {name.partition(".")[0] for name in only}
    files = sorted(mutants.CORE.rglob("*.py"))
    paths = [path for path in files if not only or mutants.name_of(path).partition(".")[0] in modules]
    found = [mutants.of_module(path) for path in paths]
    everything = [mutant for of_file, _ in found for mutant in of_file if _is_asked(mutant.subject, only)]
    print(f"{len(everything):,} mutants; {sum(left for _, left in found)} that only change a sentence are left out")
    results = Results(kept=not only)
    if asked.again:
        results.rely_on(everything, _listed())
    elif not only:
        results.go_on()
    suspects = [mutant for mutant in everything if mutant.id not in results.verdicts]
    ended = pytest.main(OPTIONS, [Trial(suspects, results.before, results.add, asked.processes)])
    results.save()
    if ended != 0:
        return int(ended)
    listed = {entry for entry in _listed() if _is_asked(entry.partition("\n")[0], only)}
    return _judge([mutant for mutant in everything if results.verdicts[mutant.id] is None], len(everything), listed)


class Results:
    """Verdicts by mutant: the test that noticed it, or None.

    A run that was stopped goes on with those of the same sources and tests.  Of others it is only known which test is
    likely to notice the mutant.
    """

    def __init__(self, *, kept: bool) -> None:
        self.kept, self.state = kept, _state()
        self.verdicts: dict[str, str | None] = {}
        self.before: dict[str, str | None] = {}  # of any state
        self._is_same = False
        if VERDICTS.exists():
            saved = json.loads(VERDICTS.read_text())
            self.before = saved["before"] | saved["verdicts"]
            self._is_same, self._saved = saved["state"] == self.state, saved["verdicts"]
        self._begun = self._at = time.monotonic()

    def go_on(self) -> None:
        self.verdicts = dict(self._saved) if self._is_same else {}

    def rely_on(self, mutants_now: list[Mutant], listed: set[str]) -> None:
        """What was noticed is noticed still, and what is listed survives: this is no result of a whole run."""
        self.state = ""
        known = [mutant for mutant in mutants_now if mutant.id in self.before]
        self.verdicts = {m.id: self.before[m.id] for m in known if self.before[m.id] or m.change in listed}

    def add(self, mutant: Mutant, noticed_by: str | None) -> None:
        self.verdicts[mutant.id] = noticed_by
        if time.monotonic() - self._at > PAUSE:
            self.save()

    def save(self) -> None:
        self._at = time.monotonic()
        survived = sum(noticed_by is None for noticed_by in self.verdicts.values())
        print(f"    ... {len(self.verdicts):,} known, {survived} survived, {self._at - self._begun:.0f} s", flush=True)
        if self.kept:
            VERDICTS.parent.mkdir(exist_ok=True)
            written = VERDICTS.with_suffix(".new")
            written.write_text(json.dumps({"state": self.state, "verdicts": self.verdicts, "before": self.before}))
            written.replace(VERDICTS)


def _is_asked(name: str, only: frozenset[str]) -> bool:
    return not only or any(name == wanted or name.startswith(f"{wanted}.") for wanted in only)


def _state() -> str:
    """Everything of ours that a verdict depends on."""
    folders = (mutants.CORE.parent, ROOT / "contracts", TESTS, Path(__file__).parent)
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".yaml")]
    files += sorted((ROOT / "tests").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _judge(survivors: list[Mutant], total: int, listed: set[str]) -> int:
    unlisted = [mutant for mutant in survivors if mutant.change not in listed]
    equivalent = len(survivors) - len(unlisted)
    stale = sorted(listed - {mutant.change for mutant in survivors})
    for mutant in unlisted:
        print(f"\nsurvived: {mutant.change}")
    for change in stale:
        print(f"\n{EQUIVALENT.name} lists what is noticed or gone: {change}")
    killed = total - len(survivors)
    rate = killed / (total - equivalent)
    print(
        f"\n{total:,} mutants: {killed:,} killed, {equivalent} equivalent, {len(unlisted)} survived;"
        f" {rate:.1%} of those that are not equivalent are killed (needed: {LEAST:.0%}, and no survivor unlisted)"
    )
    return 1 if rate < LEAST or unlisted or stale else 0


def _listed() -> set[str]:
    """The entries, each a function and the lines that change, indented; a reason is a comment above them."""
    entries: list[str] = []
    for line in EQUIVALENT.read_text().splitlines():
        if line.startswith(" "):
            entries[-1] += f"\n{line}"
        elif line and not line.startswith("#"):
            entries.append(line)
    return set(entries)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
