"""Searching: which trials an Experiment makes, suspends and deletes, and when there is no use in going on.

Which parameters a trial has follows from the trials before it (`search`); what comes after the last one is decided in
`promotion`.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from modelmill.core import pods, retry, search
from modelmill.core.conditions import Waiting, moment, not_ahead, timestamp
from modelmill.core.experiment_facts import (
    TRIAL,
    Decision,
    Facts,
    best_of,
    failure,
    known_up_to,
    missing_trials,
    next_trial,
    of_proposer,
    proposer_name,
    reaches,
    target,
    trial_name,
    unended,
)
from modelmill.core.leaderboard import FAILED, RUNNING, SUCCEEDED
from modelmill.core.promotion import after_the_end, at_the_end
from modelmill_contracts import report
from modelmill_contracts.space import Values

# What is wrong with the declaration, and so with every trial.  A metric that is not applicable is of one trial: whether
# an estimator gives probabilities may depend on its parameters.
_DECLARED = (
    *("ParameterUnknown", "EstimatorUnknown", "EstimatorInvalid", "MetricUnknown"),
    *("EstimatorNotAllowed", "FeatureMissing", "FeatureUnused", "FeatureNotNumeric"),
)


def decide(facts: Facts, now: datetime) -> Decision:
    if facts.ended is not None:
        return after_the_end(facts, facts.ended, now)
    began = not_ahead(facts.started, now) if facts.started is not None else None
    facts = replace(facts, started=_goes_on_since(facts, began, now))
    decision = _decide(facts, now)
    if decision.stage == "Suspended":
        return decision  # it begins anew when it goes on, as a Kubernetes Job does
    if decision.stage in ("Succeeded", "Failed") and facts.ended_before is not None:
        return replace(decision, started=began, ended=facts.ended_before)  # nothing came of what was edited
    started = facts.started or (timestamp(now) if facts.trials or decision.create else None)
    ended = timestamp(now) if decision.stage in ("Succeeded", "Failed") else None
    return replace(decision, started=started, ended=ended)


def _goes_on_since(facts: Facts, began: str | None, now: datetime) -> str | None:
    """From when on the timeout counts: what has ended, and was edited so that there is more to do, begins anew.

    One that had no more time has as much left as its timeout was raised by: what passed after its end does not count.
    """
    if began is None or facts.ended_before is None or not _next_or_running(facts):
        return began
    cut = any(c.type in ("Succeeded", "Failed") and c.reason in ("TimedOut", "PromotionFailed") for c in facts.said)
    took = moment(facts.ended_before) - moment(began) if cut else timedelta()
    return timestamp(now - max(took, timedelta()))


def _decide(facts: Facts, now: datetime) -> Decision:
    if facts.wrong is not None:
        return failure(facts, *facts.wrong)
    broken = _broken(facts)
    if broken is not None:
        return failure(facts, *broken)
    if facts.suspended:
        going_on = (
            *(t.name for t in facts.trials if t.state == RUNNING and not t.suspended),
            *_of_promotions(facts, False),
        )
        return Decision("Suspended", best=best_of(facts), suspend=going_on)
    resume = (*(t.name for t in facts.trials if t.state == RUNNING and t.suspended), *_of_promotions(facts, True))
    return replace(_search(facts, now), resume=resume)


def _of_promotions(facts: Facts, suspended: bool) -> tuple[str, ...]:
    return tuple(p.name for p in facts.promotions if p.state == RUNNING and p.suspended == suspended)


def _broken(facts: Facts) -> tuple[str, str] | None:
    """Why there is no use in going on: reason and message."""
    failed = [trial for trial in facts.trials if trial.state == FAILED]
    hopeless = next((trial for trial in failed if trial.reason in _DECLARED), None)
    if hopeless is not None:
        return hopeless.reason, f"trial {hopeless.name}: {hopeless.message}"
    if len(failed) > facts.max_failed:
        last = failed[-1]
        return "TrialsFailed", (
            f"{len(failed)} of {len(facts.trials)} trials failed, more than spec.trials.maxFailed, {facts.max_failed};"
            f" the last one, {last.name}: {last.reason}: {last.message}"
        )
    return None


def _search(facts: Facts, now: datetime) -> Decision:
    best = best_of(facts)
    left = _time_left(facts, now)
    if left is not None and left <= timedelta() and _next_or_running(facts):
        if best is None:
            said = "no trial has a result within spec.trials.timeout; raise it, or make a trial shorter"
            return failure(facts, "TimedOut", f"{said}{_last_failed(facts)}")
        if unended(facts):
            cut = Waiting("TimedOut", "spec.trials.timeout passed; trials that run are deleted")
            return Decision("Searching", cut, best=best, delete=unended(facts))
        return at_the_end(
            facts, best, now, ("TimedOut", f"spec.trials.timeout passed; the best trial is {best.trial.name}")
        )
    if not _next_or_running(facts):
        if best is None:
            said = f"none of {len(facts.trials)} trials has a result{_last_failed(facts)}"
            return failure(facts, "TrialsFailed", said)
        reached = facts.goal is not None and any(t.state == SUCCEEDED and reaches(t, facts) for t in facts.trials)
        reason = "GoalReached" if reached else "SearchEnded"
        missed = "" if reached or facts.goal is None else "; none of them reached spec.objective.goal"
        said = f"the best of {len(facts.trials)} trials is {best.trial.name}{missed}"
        return at_the_end(facts, best, now, (reason, said))
    decision = _go_on(facts, now)
    pauses = [pause for pause in (left, decision.requeue_after) if pause is not None]
    return replace(decision, best=best, requeue_after=min(pauses, default=None))


def _last_failed(facts: Facts) -> str:
    last = next((trial for trial in reversed(facts.trials) if trial.state == FAILED), None)
    return f"; the last one that failed, {last.name}: {last.reason}: {last.message}" if last is not None else ""


def _next_or_running(facts: Facts) -> bool:
    return next_trial(facts) is not None or any(trial.state == RUNNING for trial in facts.trials)


def _time_left(facts: Facts, now: datetime) -> timedelta | None:
    if facts.timeout is None or facts.started is None:
        return None
    return moment(facts.started) + facts.timeout - now


def _go_on(facts: Facts, now: datetime) -> Decision:
    """More trials are made, as many as may run and as can be chosen by now."""
    progress = _progress(facts)
    if isinstance(facts.store, Waiting):
        return Decision("Preflight", facts.store)
    if isinstance(facts.snapshot, Waiting):
        return Decision("Data", facts.snapshot)
    missing = missing_trials(facts)
    taken = next((n for n in missing[:1] if trial_name(facts.subject.name, n) in facts.taken), None)
    if taken is not None:
        name = trial_name(facts.subject.name, taken)
        return Decision("Searching", retry.name_taken(TRIAL, name), requeue_after=retry.MAX)
    room = facts.parallel - sum(trial.state == RUNNING for trial in facts.trials)
    stuck = [trial for trial in facts.trials if trial.stalled]
    if stuck:
        progress = Waiting(stuck[0].reason, f"trial {stuck[0].name}: {stuck[0].message}", stalled=True)
    create: list[tuple[int, Values]] = []
    for number in missing[: max(0, room)]:
        values = _chosen(facts, number)
        if values is None:
            break
        create.append((number, values))
    decision = Decision("Searching", progress, create=tuple(create))
    if create or room <= 0 or not missing:
        return decision
    return _proposed(facts, decision, now)


def _chosen(facts: Facts, number: int) -> Values | None:
    """The parameters of a trial; None: they cannot be known yet."""
    algorithm = facts.algorithm
    first = search.batch_of(number, algorithm, search.batch_size(facts.space, facts.parallel))
    depends_on = first - facts.parallel if _learns(facts, number) else 0
    if not known_up_to(facts, depends_on):
        return None
    if not search.by_a_pod(number, algorithm):
        return search.chosen_here(facts.space, algorithm, facts.seed, number)
    result = facts.proposer.report.result if facts.proposer.report is not None else None
    if facts.proposer.state != "Succeeded" or not isinstance(result, report.ProposalResult):
        return None
    if result.first != first or facts.asked[0] != first or number - first >= len(result.trials):
        return None
    names = (dimension.name for dimension in facts.space)
    row = result.trials[number - first]
    return tuple((name, text) for name, text in zip(names, row, strict=False) if text is not None)


def _learns(facts: Facts, number: int) -> bool:
    """Whether a trial depends on the results of others; with a goal, whether it is made does."""
    stops = search.stops(facts.algorithm, facts.early_stopping)
    return stops or facts.goal is not None or search.by_a_pod(number, facts.algorithm)


def _proposed(facts: Facts, decision: Decision, now: datetime) -> Decision:
    """A pod is to choose the next trials, where it is known by what."""
    run, name = facts.proposer, proposer_name(facts.subject.name)
    if not facts.asked[1]:
        return decision  # other trials have to end first, and wake us
    choosing = Waiting("Proposing", f"Job {name} chooses trials from {facts.asked[0]} on")
    if run.state == "Foreign":
        return replace(decision, waiting=retry.name_taken("Job", name), requeue_after=retry.MAX)
    if run.state == "Outdated":
        return replace(decision, waiting=choosing, discard=None if run.leaving else (name, run.uid))
    # Nothing shows for how long it fails, as no condition is about it alone: it is not tried in a hurry.
    said = Waiting("", "") if facts.not_proposed is None else facts.not_proposed
    failing = retry.Failing(said, now - retry.PATIENCE)
    if run.state in ("Absent", "Active", "Leaving"):
        before = failing if facts.not_proposed is not None else None
        return replace(decision, waiting=retry.under_way(run, before, choosing), propose=run.state == "Absent")
    if run.state == "Succeeded" or (run.report is not None and not run.report.retryable):
        trouble = run.trouble or pods.Trouble("ReportInvalid", "the Job's report is not that of a proposal")
        return failure(facts, "ProposalFailed", f"Job {name}: {trouble.reason}: {trouble.message}")
    waiting, pause = retry.after_failure(run, now, failing)
    if run.trouble is not None:
        waiting = replace(waiting, message=f"{of_proposer(name)}{waiting.message.removeprefix(of_proposer(name))}")
    return replace(decision, waiting=waiting, discard=(name, run.uid) if pause is None else None, requeue_after=pause)


def _progress(facts: Facts) -> Waiting:
    running = sum(trial.state == RUNNING for trial in facts.trials)
    ended = len(facts.trials) - running
    return Waiting("Searching", f"{ended} of {target(facts)} trials have ended, {running} run or wait for their turn")
