"""Seeded bugs: the core's unit tests have to notice every mutant that is not listed as equivalent, with the reason.

python -m tests.mutation                  all; goes on where it was stopped, if nothing changed since
python -m tests.mutation --again          only those that are new, or survived last time and are not listed
python -m tests.mutation --only NAME      those of a module or of one of its functions, or of several (trainingjob
                                          progress._decimals strategies); nothing is kept of it
"""

import argparse
import gc
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.mutation import mutants
from tests.mutation.mutants import Mutant

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "unit" / "core"
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
VERDICTS = ROOT / "build" / "mutants.json"
LEAST = 0.95  # of the mutants that are not equivalent
OPTIONS = ["-s", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", str(TESTS)]
BROKEN = 3  # how a process ends that could not even install the mutant
# The file that is named after a module is the most likely to notice its mutants; of these it is another one.
TEST_OF = {
    "rollout": "test_progressive_delivery",
    "routing": "test_progressive_delivery",
    "strategies": "test_verdicts",
}
SECONDS = 20  # of CPU: a mutant that takes longer runs for ever


class Trial:
    """A pytest plugin: instead of running the tests once, it runs them for each mutant, in a process of its own."""

    def __init__(self, suspects: Iterable[Mutant], verdict: Callable[[Mutant, bool], None]) -> None:
        self.suspects, self.verdict = suspects, verdict

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        source = (mutants.CORE / "plan.py").read_text()
        unchanged = Mutant("plan", "", 0, at_import=True, before=source, mutate=lambda: source)
        for nothing in (None, unchanged):
            assert not _noticed(session, session.items, nothing), "the tests fail without any mutant"
        gc.collect()
        gc.freeze()  # a process that is forked has nothing of it to look through
        for mutant in self.suspects:
            module = mutant.module.partition(".")[0]
            first = TEST_OF.get(module, f"test_{module}")
            items = sorted(session.items, key=lambda item: item.path.stem != first)
            self.verdict(mutant, _noticed(session, items, mutant))
        return True


def _noticed(session: pytest.Session, items: list[pytest.Item], mutant: Mutant | None) -> bool:
    """Whether any of the tests fails, or does not end."""
    child = os.fork()
    if child == 0:
        ended = BROKEN
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            if mutant is not None:
                mutant.install()
            ended = 1  # whatever is raised from here on is the mutant's doing
            ended = int(_fails_anew() if mutant is not None and mutant.at_import else _fails(session, items))
        finally:
            os._exit(ended)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) != BROKEN, f"not possible: {mutant}"
    return status != 0


def _fails(session: pytest.Session, items: list[pytest.Item]) -> bool:
    for item in items:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        if session.testsfailed:
            return True
    return False


def _fails_anew() -> bool:
    """The same, with the tests imported anew too."""
    for path in TESTS.glob("*.py"):
        sys.modules.pop(path.stem, None)
    return pytest.main(["-x", *OPTIONS]) != 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--again", action="store_true", help="those that are new, or survived and are not listed")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="a module of the core, or MODULE.FUNCTION"
    )
    asked = parser.parse_args(arguments)
    only = frozenset(asked.only)
    begun = time.monotonic()
    modules = {name.partition(".")[0] for name in only}
    files = sorted(mutants.CORE.rglob("*.py"))
    paths = [path for path in files if not only or mutants.name_of(path).partition(".")[0] in modules]
    found = [mutants.of_module(path) for path in paths]
    everything = [mutant for of_file, _ in found for mutant in of_file if _is_asked(mutant.change, only)]
    print(f"{len(everything):,} mutants; {sum(left for _, left in found)} that only change a sentence are left out")
    again = asked.again
    state = _state()
    verdicts = {} if only else _known(None if again else state)
    if again:
        state = ""  # what was noticed by other tests is no result of a whole run
        listed = _listed()
        known = [mutant for mutant in everything if mutant.id in verdicts]
        verdicts = {m.id: verdicts[m.id] for m in known if verdicts[m.id] or m.change in listed}
    suspects = [mutant for mutant in everything if mutant.id not in verdicts]

    def verdict(mutant: Mutant, noticed: bool) -> None:
        verdicts[mutant.id] = noticed
        if len(verdicts) % 50 == 0 or len(verdicts) == len(everything):
            if not only:
                VERDICTS.parent.mkdir(exist_ok=True)
                VERDICTS.write_text(json.dumps({"state": state, "verdicts": verdicts}))
            survived = sum(not noticed for noticed in verdicts.values())
            seconds = time.monotonic() - begun
            print(f"    ... {len(verdicts):,} tried, {survived} survived, {seconds:.0f} s", flush=True)

    ended = pytest.main(OPTIONS, [Trial(suspects, verdict)])
    if ended != 0:
        return int(ended)
    listed = {entry for entry in _listed() if _is_asked(entry, only)}
    return _judge([mutant for mutant in everything if not verdicts[mutant.id]], len(everything), listed)


def _is_asked(change: str, only: frozenset[str]) -> bool:
    name = change.partition("\n")[0]
    return not only or any(name == wanted or name.startswith(f"{wanted}.") for wanted in only)


def _state() -> str:
    """Everything of ours that a verdict depends on."""
    folders = (mutants.CORE.parent, ROOT / "contracts", TESTS, Path(__file__).parent)
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".yaml")]
    files += sorted((ROOT / "tests").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _known(state: str | None) -> dict[str, bool]:
    """The verdicts of a run that was stopped, or of the last one if no state is asked for."""
    if not VERDICTS.exists():
        return {}
    saved = json.loads(VERDICTS.read_text())
    return saved["verdicts"] if state in (None, saved["state"]) else {}


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
