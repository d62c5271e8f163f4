"""Breadth-first search of everything that can happen, and convergence from everywhere.

Safety: no write of the operator's is unsafe, nothing that exists is broken.  Convergence: from every state, once
faults stop, the operator comes to rest without writing for ever, and with the help that its surroundings give in
the end, at what is declared.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from modelcheck.cluster import NOTHING, Cluster, State, System, Weakness

_ROUNDS = 60
Came = dict[State, tuple[State, str] | None]  # from which state, and how
Passed = Callable[[State, State, str], None]


def _nobody(before: State, after: State, story: str) -> None:
    """Whoever only wants to know where it ends."""


@dataclass
class Report:
    """What was explored, and what was found."""

    system: str
    states: int = 0
    transitions: int = 0
    depth: int = 0
    complete: bool = False  # the whole reachable space
    violation: str | None = None
    story: tuple[str, ...] = ()
    seconds: float = 0.0
    resting: int = 0  # different clusters from which convergence was followed

    def line(self) -> str:
        bound = "the whole space" if self.complete else "bounded"
        verdict = self.violation or "safe, converges"
        return (
            f"{self.system:18} {self.states:9,} states {self.transitions:11,} transitions  depth {self.depth:3}"
            f"  {self.resting:7,} converged  {self.seconds:6.1f} s  {bound}: {verdict}"
        )

    def told(self) -> str:
        """The violation as a story."""
        steps = "\n".join(f"  {number:2}. {step}" for number, step in enumerate(self.story, 1))
        return f"{self.system}: {self.violation}\n{steps}"


class Explorer:
    """Explores one system."""

    def __init__(self, system: System, weakness: Weakness | None = None) -> None:
        self.cluster = Cluster(system, weakness)
        self.system = system
        self._unsafe: dict[tuple[int, tuple[int, ...]], str | None] = {}
        self._good: set[State] = set()  # at rest, and it is known that they lead to what is declared
        self._settled: dict[tuple[tuple[int, ...], tuple[int, ...]], str | None] = {}

    def explore(self, most: int = 1_000_000, progress: Callable[[str], None] = lambda _: None) -> Report:
        """Up to that many states, each with all its steps, nearest to a life without faults first.

        It ends at the first violation, so that its story has the fewest faults.
        """
        begun = monotonic()
        report = Report(self.system.name, complete=True)
        came = self._life()
        level = list(came)
        while level and report.violation is None:
            following: list[State] = []
            for state in level:
                if self._explored(state, came, following, report, most):
                    break
            level = following
            report.depth += 1
            progress(f"{self.system.name}: depth {report.depth}, {len(came):,} states")
        report.complete &= report.violation is None
        report.states, report.resting = len(came), len(self._settled)
        report.seconds = monotonic() - begun
        return report

    def _explored(self, state: State, came: Came, following: list[State], report: Report, most: int) -> bool:
        """Take every step from this state; whether that ends the search."""
        for story, after, write in self.cluster.steps(state):
            report.transitions += 1
            if write != NOTHING and (found := self._write_unsafe(write, state, after)) is not None:
                report.violation, report.story = found, (*self._story(came, state), story)
                return True
            if after not in came:
                if len(came) >= most:
                    report.complete = False
                    continue
                came[after] = (state, story)
                following.append(after)
        report.violation = None if self._goes_on(state, came) else self._stuck(state)
        if report.violation is not None:
            report.story = self._story(came, state)
        return report.violation is not None

    def _life(self) -> Came:
        """Every state of a life without faults, from which the search starts, and how it came to be.

        Faults are most interesting in the middle of things, which is too far away for a search from the beginning.
        """
        state = self.cluster.start()
        came: Came = {state: None}

        def passed(before: State, after: State, story: str) -> None:
            came.setdefault(after, (before, story))

        for story in ("", *self.system.life):
            if story:
                step = next((s for s in self.cluster.steps(state) if s[0].startswith(story)), None)
                assert step is not None, f"{self.system.name}: in its life, {story} is not possible"
                passed(state, step[1], step[0])
                state = step[1]
            state = self._follow(state, passed)[0]
        return came

    def _write_unsafe(self, write: int, before: State, after: State) -> str | None:
        key = (write, before.live)
        if key not in self._unsafe:
            planned = self.cluster.write(write)
            live, then = self.cluster.live(before), self.cluster.live(after)
            self._unsafe[key] = (
                self._others_changed(before, after)
                or self.system.unsafe(planned, live, then)
                or self.system.broken(then)
            )
        return self._unsafe[key]

    def _others_changed(self, before: State, after: State) -> str | None:
        for slot, number in self.cluster.others(before).items():
            if after.live[slot] != number:
                return f"somebody else's {self.cluster.title(slot)} is changed"
        return None

    def _story(self, came: Came, state: State) -> tuple[str, ...]:
        steps: deque[str] = deque()
        while (step := came[state]) is not None:
            state, story = step
            steps.appendleft(story)
        return tuple(steps)

    # Convergence.

    def _goes_on(self, state: State, came: Came) -> bool:
        """Whether its next write, with which convergence is followed, leads to a state that is explored anyway."""
        flying = next((controller for controller, flight in enumerate(state.flights) if flight), None)
        return flying is not None and self.cluster.next_write(state, flying) in came

    def _stuck(self, state: State) -> str | None:
        """Why the declared state is not reached from here once nothing fails any more."""
        state = self._landed(state, _nobody)
        key = (state.live, state.known)
        if key not in self._settled:
            self._settled[key] = self._follow(self.cluster.all_seen(state), _nobody)[1]
        return self._settled[key]

    def _landed(self, state: State, passed: Passed) -> State:
        """The writes that are under way are made."""
        while any(state.flights):
            controller = next(c for c, flight in enumerate(state.flights) if flight)
            before, state = state, self.cluster.next_write(state, controller)
            passed(before, state, self.cluster.next_title(before, controller))
        return state

    def _follow(self, state: State, passed: Passed) -> tuple[State, str | None]:
        """Where it comes to rest with help, and what is wrong with that.

        What has to be done every day comes to rest every day: at the latest in a state that it was in before.
        """
        followed: list[State] = []
        unhelped: set[State] = set()
        for _ in range(_ROUNDS):
            state, wrong, waits, blocked = self._rest(state, passed)
            wrong = wrong or self.system.untrue(self.cluster.live(state))
            if wrong is not None:
                return state, wrong
            if passed is _nobody and state in self._good:
                self._good.update(followed)
                return state, None
            before = state
            followed.append(before)
            helped = self.cluster.helped(state)
            if helped is not None:
                story, state = helped
            elif before not in unhelped:
                unhelped.add(before)
                story, state = "time passes", self.cluster.aged(state) if waits else state
            if before == state:
                live = self.cluster.live(state)
                wrong = self.system.broken(live) or self.system.unreached(live)
                wrong = wrong or ("it tries in vain for ever" if blocked else None)
                self._good.update(followed if wrong is None else ())
                return state, wrong
            passed(before, state, story)
        return state, "it never comes to rest, however long one helps"

    def _rest(self, state: State, passed: Passed) -> tuple[State, str | None, bool, bool]:
        """The state in which no plan changes anything, what is wrong; whether somebody waits, or tries in vain."""
        for _ in range(_ROUNDS):
            begun, waits, blocked = state, False, False
            for controller in range(len(self.cluster.own)):
                seen = self.cluster.all_seen(state)
                passed(state, seen, "the operator sees everything")
                planned, state = self.cluster.plan(seen, controller)
                if planned is None:
                    continue
                if planned.requeue_after is not None:
                    if planned.requeue_after > self.system.longest_pause:
                        return state, f"it would wait for {planned.requeue_after}", waits, blocked
                    waits = True
                if planned.flight:
                    flights = (*state.flights[:controller], planned.flight, *state.flights[controller + 1 :])
                    before, state = state, state._replace(flights=flights)
                    passed(before, state, f"the operator plans {self.cluster.title(self.cluster.own[controller])}")
                    state = self._landed(state, passed)
                    blocked = True
            state = self.cluster.all_seen(state)
            if state == begun:
                vain = blocked and not self.cluster.live(state).orphaned()  # what is being cleaned up is waited for
                return state, "at rest it tries in vain" if vain else None, waits, blocked
        return state, "it writes for ever", False, False
