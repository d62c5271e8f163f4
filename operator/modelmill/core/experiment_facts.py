"""What an Experiment is decided from, what is decided, and what follows from the trials that there are.

Facts are made in `experiment`, and decided from in `searching` and, where the search is over, `promotion`.
"""

from dataclasses import dataclass
from datetime import timedelta

from modelmill.core import jobs, leaderboard
from modelmill.core.conditions import Condition, Waiting
from modelmill.core.leaderboard import RUNNING, SUCCEEDED, Best, Trial
from modelmill.core.plan import Subject, Unedited
from modelmill.core.pods import StoreAccess
from modelmill.core.training_data import Snapshot
from modelmill_contracts.space import Space, Values

KIND = "Experiment"
TRIAL = "TrainingJob"


@dataclass(frozen=True)
class Promotion:
    """The TrainingJob that makes the best trial a version, as far as it is."""

    name: str
    uid: str
    state: str
    version: str | None
    reason: str
    message: str
    suspended: bool
    stalled: bool
    artifact: str | None  # digest
    value: str  # of the objective, as it was reported; "": it was not


@dataclass(frozen=True)
class Ended:
    """How the search ended before, by this very spec: what a status says stays said."""

    at: str
    expired: bool


@dataclass(frozen=True)
class Facts:
    subject: Subject
    declared: tuple[Unedited, ...]
    space: Space
    wrong: tuple[str, str] | None  # with the declaration: reason and message
    template: str  # the spec of a trial as JSON, without parameters: hashable
    model: str | None
    metric: str
    maximize: bool
    goal: float | None
    algorithm: str
    early_stopping: str
    seed: int
    folds: int  # of the cross-validation; 0: none
    most: int
    parallel: int
    max_failed: int
    ttl: timedelta | None
    timeout: timedelta | None
    promote: bool
    suspended: bool
    store: StoreAccess | Waiting
    snapshot: Snapshot | Waiting  # pinned, or what would be pinned now
    trials: tuple[Trial, ...]  # by number
    promotions: tuple[Promotion, ...]
    taken: frozenset[str]  # names of TrainingJobs that are somebody else's
    proposer: jobs.Run
    asked: tuple[int, str]  # the batch that the next trial is of, and the digest of what a pod would be asked for it
    not_proposed: Waiting | None  # what the status says of a Job that failed to, and is tried again
    page: jobs.Run
    page_asked: str
    commit: str | None
    started: str | None
    ended_before: str | None  # when the status said that it had ended
    ended: Ended | None
    said: tuple[Condition, ...]  # what the status says
    status: str  # the same without conditions, as JSON


@dataclass(frozen=True)
class Decision:
    stage: str  # Ended, Suspended, Preflight, Data, Searching, Promoting, Reporting, Succeeded, Failed
    waiting: Waiting | None = None
    why: tuple[str, str] = ("", "")  # reason and message of an end
    best: Best | None = None
    create: tuple[tuple[int, Values], ...] = ()
    suspend: tuple[str, ...] = ()  # names
    resume: tuple[str, ...] = ()
    delete: tuple[tuple[str, str], ...] = ()  # name, UID
    propose: bool = False
    promote: Trial | None = None
    write_page: bool = False
    discard: tuple[str, str] | None = None  # a Job: name, UID
    promoted: Promotion | None = None
    page: str | None = None  # digest
    page_failed: Waiting | None = None
    expire: bool = False
    started: str | None = None
    ended: str | None = None
    requeue_after: timedelta | None = None


def trial_name(name: str, number: int) -> str:
    return f"{name}-{number}"


def promoted_name(name: str, number: int) -> str:
    return f"{name}-best-{number}"


def proposer_name(name: str) -> str:
    return f"{name}-propose"


def of_proposer(job: str) -> str:
    """How what is said of the Job that chooses trials begins."""
    return f"Job {job}: "


def page_name(name: str) -> str:
    return f"{name}-page"


def best_of(facts: Facts) -> Best | None:
    """The best trial; where there is a goal, and trials reach it, of those alone: a smaller model is no excuse."""
    order = leaderboard.ranked(facts.trials, maximize=facts.maximize)
    enough = [trial for trial in order if reaches(trial, facts)] if facts.goal is not None else []
    return leaderboard.best(enough or order, facts.folds)


def target(facts: Facts) -> int:
    """How many trials there are to be: all, or those that are chosen without what has reached the goal."""
    if facts.goal is None:
        return facts.most
    reached = (t.number for t in facts.trials if t.state == SUCCEEDED and reaches(t, facts))
    first = min(reached, default=None)
    return facts.most if first is None else min(facts.most, first + facts.parallel - 1)


def reaches(trial: Trial, facts: Facts) -> bool:
    value, goal = trial.value, facts.goal
    assert value is not None and goal is not None  # noqa: S101, PT018 - it succeeded, and there is a goal
    return value >= goal if facts.maximize else value <= goal


def missing_trials(facts: Facts) -> list[int]:
    """The trials that are not there, in order."""
    there = {trial.number for trial in facts.trials}
    return [number for number in range(1, target(facts) + 1) if number not in there]


def next_trial(facts: Facts) -> int | None:
    """The first trial that is not there; None: all are."""
    return next(iter(missing_trials(facts)), None)


def known_up_to(facts: Facts, number: int) -> bool:
    """Whether trial 1 to this one have ended."""
    ended = sum(trial.number <= number and trial.state != RUNNING for trial in facts.trials)
    return ended >= number


def counted(facts: Facts, first: int) -> list[Trial]:
    """The trials whose results a batch that begins there is chosen by."""
    return [trial for trial in facts.trials if trial.number <= first - facts.parallel]


def unended(facts: Facts) -> tuple[tuple[str, str], ...]:
    return tuple((trial.name, trial.uid) for trial in facts.trials if trial.state == RUNNING)


def failure(facts: Facts, reason: str, message: str) -> Decision:
    return Decision(
        "Failed", Waiting(reason, message, stalled=True), (reason, message), best_of(facts), delete=unended(facts)
    )
