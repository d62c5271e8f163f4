"""Runs the tests against mutants: each in a process of its own, and those that can notice it until one does."""

import gc
import importlib
import mmap
import os
import pickle
import resource
import signal
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.mutation import mutants
from tests.mutation.mutants import Mutant
from tests.mutation.reach import Line, Reach, Tests, executed, members

TESTS = Path(__file__).parents[1] / "unit" / "core"
SHELL = mutants.CORE.parent / "shell"  # the cache that the tests look through
# It fails while it is watched: that takes several times as long.
_TIMED = "tests/unit/core/test_many_trials.py::test_a_look_at_a_thousand_trials_costs_little"
OPTIONS = ["-s", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", "--deselect", _TIMED, str(TESTS)]
BROKEN = 3  # how a process ends that could not even install the mutant
MEMORY = 2 << 30  # bytes, for what takes a twentieth: some mutants collect for ever
IMPORT = 10.0  # seconds of CPU, for what takes less than one


def _limit(cost: float) -> float:
    """How long a test may take that took so long without a mutant and watched, both in seconds of CPU."""
    return 1 + 5 * cost


@dataclass
class _Attempt:
    mutant: Mutant
    order: list[int]  # of the tests
    # How many of them were begun: a process that is killed leaves behind no more than this.
    begun: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 4))


class Trial:
    """A pytest plugin: instead of running the tests once, it runs them for each mutant.

    A verdict is the test that noticed the mutant, or None.  `likely` has those of earlier runs: they are tried first.
    """

    def __init__(
        self,
        suspects: Iterable[Mutant],
        likely: dict[str, str | None],
        verdict: Callable[[Mutant, str | None], None],
        processes: int = 1,
    ) -> None:
        self.suspects, self.likely, self.verdict, self.processes = deque(suspects), likely, verdict, processes
        # By function, what noticed one of its mutants, the last at the end: it is likely to notice the next one.
        self.noticed: defaultdict[str, dict[int, None]] = defaultdict(dict)
        self.orders: dict[Path, list[int]] = {}  # by module
        self.anew: dict[Path, list[pytest.Item]] = {}  # what was imported anew

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.session, self.items = session, list(session.items)
        self.numbers = {item.nodeid: number for number, item in enumerate(self.items)}
        begun = time.monotonic()
        self._watch()
        print(f"    ... what each of {len(self.items):,} tests executes: {time.monotonic() - begun:.0f} s", flush=True)
        gc.collect()
        gc.freeze()  # a process that is forked has nothing of it to look through
        running: dict[int, _Attempt] = {}
        while self.suspects or running:
            while self.suspects and len(running) < self.processes:
                mutant = self.suspects.popleft()
                attempt = _Attempt(mutant, self._order(mutant))
                if attempt.order or mutant.at_import:
                    running[self._begin(attempt)] = attempt
                else:
                    self.verdict(mutant, None)
            if running:
                process, status = os.wait()
                self._end(running.pop(process), os.waitstatus_to_exitcode(status))
        return True

    # What the tests do without mutants.

    def _watch(self) -> None:
        files = [path for folder in (mutants.CORE, SHELL, TESTS) for path in folder.rglob("*.py")]
        watched = _asked(partial(self._watched, frozenset(map(str, files))))
        by_line, at_import, self.sizes, self.costs = watched
        self.reach = Reach(files, at_import, by_line, len(self.items))

    def _watched(self, files: frozenset[str]) -> tuple[dict[Line, Tests], set[Line], list[dict[str, int]], list[float]]:
        """Which tests execute a line, and which lines are at import; how many of each file a test executes, for how
        many seconds of CPU (being watched).
        """
        by_line: dict[Line, Tests] = {}
        sizes: list[dict[str, int]] = []
        costs: list[float] = []
        for number, item in enumerate(self.items):
            begun = time.process_time()
            lines = executed(partial(_run, item), files)
            costs.append(time.process_time() - begun)
            assert not self.session.testsfailed, f"it fails without any mutant: {item.nodeid}"
            sizes.append(dict(Counter(path for path, _ in lines)))
            for line in lines:
                by_line[line] = by_line.get(line, 0) | 1 << number
        mutants.forget()
        at_import = executed(lambda: [self._imported(item.path) for item in self.items], files)
        for item in (item for path in self.anew for item in self._imported(path)):
            _run(item)
        assert not self.session.testsfailed, "tests fail that are imported anew"
        return by_line, at_import, sizes, costs

    # Which tests, in which order.

    def _order(self, mutant: Mutant) -> list[int]:
        chosen = set(members(self.reach.of(mutant.path, mutant.lines, at_import=mutant.at_import)))
        before = self.numbers.get(self.likely.get(mutant.id) or "")
        first = [before] if before is not None else []
        order = dict.fromkeys((*first, *reversed(self.noticed[mutant.subject]), *self._order_of(mutant.path)))
        return [number for number in order if number in chosen]

    def _order_of(self, path: Path) -> list[int]:
        """Those before that execute little besides this module, and of these the quick ones."""
        if path not in self.orders:
            shares = [size.get(str(path), 0) / (sum(size.values()) or 1) for size in self.sizes]
            numbers = range(len(self.items))
            self.orders[path] = sorted(numbers, key=lambda number: (-shares[number], self.costs[number]))
        return self.orders[path]

    # A mutant.

    def _begin(self, attempt: _Attempt) -> int:
        process = os.fork()
        if process:
            return process
        ended = BROKEN
        try:
            _contain()
            attempt.mutant.install()
            ended = 1  # whatever is raised from here on is the mutant's doing
            ended = int(self._is_noticed(attempt))
        finally:
            os._exit(ended)

    def _is_noticed(self, attempt: _Attempt) -> bool:
        """Whether any of the tests fails; if one does not end, this process is killed."""
        if attempt.mutant.at_import:
            signal.setitimer(signal.ITIMER_PROF, IMPORT)
            importlib.import_module(f"modelmill.core.{attempt.mutant.module}")
        functions: set[str] = set()
        for begun, number in enumerate(attempt.order, 1):
            attempt.begun[:] = begun.to_bytes(4, "little")
            items = [self.items[number]]
            if attempt.mutant.at_import:
                function = _function(items[0])
                if function in functions:
                    continue
                functions.add(function)
                signal.setitimer(signal.ITIMER_PROF, IMPORT)
                items = [item for item in self._imported(items[0].path) if _function(item) == function]
            for item in items:
                signal.setitimer(signal.ITIMER_PROF, _limit(self.costs[number]))
                _run(item)
                if self.session.testsfailed:
                    return True
        return bool(self.session.testsfailed)

    def _imported(self, path: Path) -> list[pytest.Item]:
        """The tests of a file, imported anew."""
        if path not in self.anew:
            if not self.anew:
                for file in TESTS.glob("*.py"):
                    sys.modules.pop(file.stem, None)
            folder = next(item for item in self.items if item.path == path).getparent(pytest.Module).parent
            self.anew[path] = list(self.session.genitems(pytest.Module.from_parent(folder, path=path)))
        return self.anew[path]

    def _end(self, attempt: _Attempt, ended: int) -> None:
        assert ended != BROKEN, f"not possible: {attempt.mutant}"
        begun = int.from_bytes(attempt.begun[:], "little")
        attempt.begun.close()
        if ended == 0:
            self.verdict(attempt.mutant, None)
        elif begun == 0:
            self.verdict(attempt.mutant, "import")
        else:
            number = attempt.order[begun - 1]
            noticed = self.noticed[attempt.mutant.subject]
            noticed.pop(number, None)
            noticed[number] = None
            self.verdict(attempt.mutant, self.items[number].nodeid)


def _run(item: pytest.Item) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)


def _function(item: pytest.Item) -> str:
    """A test without its parameters: a mutant may change what these are called."""
    return item.nodeid.partition("[")[0]


def _contain() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _asked(question: Callable[[], Any]) -> Any:
    """What another process answers; this one stays as it is."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        ended = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            with os.fdopen(writing, "wb") as file:
                pickle.dump(question(), file)
            ended = 0
        except AssertionError as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(ended)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    assert os.waitpid(process, 0)[1] == 0, "the tests have to pass first"
    return pickle.loads(answer)  # noqa: S301
