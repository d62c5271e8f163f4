"""Promotion: what becomes of a search that is over: its best trial becomes a version, a page is written, trials go."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from modelmill.core import conditions, pods, retry
from modelmill.core.conditions import Condition, Waiting, false, moment, true, unknown
from modelmill.core.experiment_facts import (
    TRIAL,
    Decision,
    Ended,
    Facts,
    Promotion,
    failure,
    page_name,
    promoted_name,
    unended,
)
from modelmill.core.leaderboard import FAILED, RUNNING, Best
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import report

NOT_ASKED = unknown("Promoted", "NotAsked", "spec.promote is None: no trial becomes a version")
EXPIRED = "TrialsExpired"


def promotions_of(owned: tuple[Manifest, ...], name: str, metric: str) -> tuple[Promotion, ...]:
    found = []
    for manifest in owned:
        metadata = manifest["metadata"]
        if not metadata["name"].startswith(f"{name}-best-"):
            continue
        ended = next((t for t in ("Succeeded", "Failed") if conditions.is_true(manifest, t)), None)
        stalled = ended is None and conditions.is_true(manifest, "Stalled")
        about = conditions.find(manifest, ended or ("Stalled" if stalled else "Succeeded")) or {}
        found.append(
            Promotion(
                metadata["name"],
                metadata["uid"],
                ended or RUNNING,
                dig(manifest, "status", "modelVersion"),
                about.get("reason", ""),
                about.get("message", ""),
                bool(dig(manifest, "spec", "suspend")),
                stalled,
                dig(manifest, "status", "artifact", "digest"),
                next((m["value"] for m in dig(manifest, "status", "metrics") or () if m["name"] == metric), ""),
            )
        )
    return tuple(found)


def version_made(promoted: Promotion, best: Best | None, metric: str) -> Condition:
    """Promoted, once the version is there: it is that trial's model, unless it had to be trained again."""
    said = f"TrainingJob {promoted.name} became ModelVersion {promoted.version}"
    trial = best.trial if best is not None else None
    if trial is not None and trial.artifact is not None and promoted.artifact not in (None, trial.artifact):
        said += (
            f"; it was trained again, and gave another artifact than {trial.name}, {promoted.artifact} instead of"
            f" {trial.artifact}: its {metric} is {promoted.value or 'not known'}, and that of the trial {trial.text}"
        )
    return true("Promoted", "VersionMade", said)


def at_the_end(facts: Facts, best: Best, now: datetime, why: tuple[str, str]) -> Decision:
    """The search is over: the best one is promoted, and a page is written."""
    promotion = None
    if facts.promote:
        name = promoted_name(facts.subject.name, best.trial.number)
        promotion = next((p for p in facts.promotions if p.name == name), None)
        promoting = Waiting("Promoting", f"TrainingJob {name} makes {best.trial.name} a version of Model {facts.model}")
        if promotion is None:
            if isinstance(facts.store, Waiting):
                return Decision("Preflight", facts.store, best=best)
            if name in facts.taken:
                return Decision("Promoting", retry.name_taken(TRIAL, name), best=best, requeue_after=retry.MAX)
            return Decision("Promoting", promoting, best=best, promote=best.trial)
        if promotion.state == RUNNING:
            if promotion.stalled:
                promoting = Waiting(promotion.reason, f"TrainingJob {name}: {promotion.message}", stalled=True)
            return Decision("Promoting", promoting, best=best, promoted=promotion)
        if promotion.state == FAILED:
            said = (
                f"{best.trial.name} is the best, and TrainingJob {name} failed: {promotion.reason}:"
                f" {promotion.message}; to try again, delete it, set spec.promote to None, and back to Best"
            )
            return replace(failure(facts, "PromotionFailed", said), promoted=promotion)
    return replace(_reported(facts, best, now, why), promoted=promotion)


def _reported(facts: Facts, best: Best, now: datetime, why: tuple[str, str]) -> Decision:
    run, name = facts.page, page_name(facts.subject.name)
    ends = Decision("Succeeded", None, why, best)
    writing = Decision("Reporting", Waiting("Reporting", f"Job {name} writes a page about the search"), best=best)
    if isinstance(facts.store, Waiting) and run.state == "Absent":
        return replace(ends, page_failed=facts.store)  # the search is none the worse
    result = run.report.result if run.report is not None else None
    if run.state == "Succeeded" and isinstance(result, report.SearchPageResult):
        return replace(ends, page=result.page)
    if run.state == "Absent" and facts.page_asked:
        return replace(writing, write_page=True)
    if run.state == "Outdated":
        return replace(writing, discard=None if run.leaving else (name, run.uid))
    if run.state in ("Active", "Leaving"):
        return writing
    if run.state == "Lost":
        _, pause = retry.after_failure(run, now, None)
        return replace(writing, discard=(name, run.uid) if pause is None else None, requeue_after=pause)
    taken = retry.name_taken("Job", name) if run.state == "Foreign" else None
    trouble = run.trouble or pods.Trouble("ReportInvalid", "the Job's report is not that of a page")
    return replace(ends, page_failed=taken or Waiting(trouble.reason, f"Job {name}: {trouble.message}", failed=True))


def after_the_end(facts: Facts, ended: Ended, now: datetime) -> Decision:
    """It ended, and stays as it is but for trials whose time to live is over."""
    if not ended.expired and unended(facts):
        return Decision("Ended", delete=unended(facts))  # what an old view did not show when it ended
    if facts.ttl is None and not ended.expired:
        return Decision("Ended")
    if not ended.expired:
        left = moment(ended.at) + (facts.ttl or timedelta()) - now
        if left > timedelta():
            return Decision("Ended", requeue_after=left)
        return Decision("Ended", expire=True)
    best = dig(json.loads(facts.status), "best", "trial")
    over = tuple((trial.name, trial.uid) for trial in facts.trials if trial.name != best)
    return Decision("Ended", delete=over)


def said_since_expired(facts: Facts) -> tuple[Condition, ...]:
    """What the status says once the trials are gone: how it ended, and what was asked for too late."""
    said = {condition.type: condition for condition in facts.said}
    not_asked = said["Promoted"].reason in (NOT_ASKED.reason, EXPIRED)
    late = []
    if not_asked:
        said["Promoted"] = NOT_ASKED
    if not_asked and facts.promote:
        late.append("spec.promote became Best")
        said["Promoted"] = false("Promoted", EXPIRED, _too_late(late))
    if _would_go_on(facts, said["Succeeded"].reason):
        late.append("there are more trials to be made")
    headline = said["Succeeded"] if said["Succeeded"].status == "True" else said["Failed"]
    failed = Waiting(headline.reason, headline.message, stalled=True) if headline.type == "Failed" else None
    waiting = Waiting(EXPIRED, _too_late(late), stalled=True) if late else failed
    said |= {condition.type: condition for condition in conditions.progress(headline, waiting)}
    return tuple(said[condition.type] for condition in facts.said)


def _would_go_on(facts: Facts, reason: str) -> bool:
    trials = json.loads(facts.status).get("trials", {})
    room = trials.get("failed", 0) <= facts.max_failed and sum(trials.values()) < facts.most
    return room and reason in ("SearchEnded", "TrialsFailed")


def _too_late(what: Sequence[str]) -> str:
    return (
        f"{' and '.join(what)} after spec.trials.ttl was over: the trials are gone, and with them what the search goes"
        " on from; make another Experiment, or a TrainingJob with the parameters in status.best"
    )
