"""Experiment: a search over parameters; each trial is a TrainingJob that it owns.

    store works -> data is valid (its version is pinned now) -> trials, `parallel` of them at a time
        -> all have ended, a goal or the time is reached -> the best one is promoted -> a page is written -> Succeeded
        -> more have failed than may, or none has a result -> Failed

What a trial is depends on the seed and on the trials before it (see `search`), all of which are objects: an operator
that starts anew goes on with the same trials.  A trial that somebody deletes is made again for as long as the search
goes on.  An ended search goes on where its spec is edited so that there is more to do.
"""

import json
from dataclasses import replace
from typing import Any

import msgspec

from modelmill.api.experiment import ExperimentSpec
from modelmill.api.schema import GROUP, parse_duration
from modelmill.core import conditions, jobs, leaderboard, lineage, search, training_data, workspace
from modelmill.core.conditions import Condition, Waiting, false, has_ended, true, unknown
from modelmill.core.controller import Controller
from modelmill.core.experiment_facts import (
    KIND,
    TRIAL,
    Decision,
    Ended,
    Facts,
    Promotion,
    best_of,
    known_up_to,
    next_trial,
    of_proposer,
    page_name,
    proposer_name,
    trial_name,
)
from modelmill.core.leaderboard import FAILED, RUNNING, STOPPED, SUCCEEDED, Trial
from modelmill.core.plan import Create, Delete, Guards, Observed, Outcome, Write
from modelmill.core.pods import StoreAccess
from modelmill.core.promotion import NOT_ASKED, promotions_of, said_since_expired, version_made
from modelmill.core.resources import EXPERIMENT_FIELD, Key, Manifest, dig
from modelmill.core.searching import decide
from modelmill.core.training_data import Snapshot
from modelmill.core.trials import (
    has_expired,
    has_not_ended,
    has_room,
    job_manifest,
    page_task,
    promoted_manifest,
    proposal,
    still_runs,
    suspending,
    trial_manifest,
)
from modelmill_contracts import digest, task
from modelmill_contracts.space import Space, Values

BATCH_ANNOTATION = f"{GROUP}/batch"  # of a Job that chooses trials: the first one


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata, template = manifest["metadata"], manifest["spec"]["template"]["spec"]
    namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
    return tuple(
        dict.fromkeys(
            (
                workspace.dependency(namespace),
                Key("Dataset", namespace, "metadata.name", template["data"]["datasetRef"]["name"]),
                Key(TRIAL, namespace, EXPERIMENT_FIELD, uid),
                *jobs.dependencies(namespace, uid, proposer_name(name)),
                *jobs.dependencies(namespace, uid, page_name(name)),
            )
        )
    )


def observe(observed: Observed) -> Facts:
    spec = ExperimentSpec.model_validate(observed.object["spec"])
    subject, space = observed.subject, search.space_of(spec)
    declared = spec.template.spec
    owned = observed.find(TRIAL, EXPERIMENT_FIELD, observed.uid)
    trials = _trials(owned, subject.name, space, spec.objective.metric)
    store = _store(observed, spec)
    facts = Facts(
        subject=subject,
        declared=workspace.declared(observed, KIND),
        space=space,
        wrong=search.wrong(spec),
        template=json.dumps(observed.object["spec"]["template"]["spec"], sort_keys=True),
        model=declared.model_ref.name if declared.model_ref else None,
        metric=spec.objective.metric,
        maximize=spec.objective.direction == "Maximize",
        goal=float(spec.objective.goal) if spec.objective.goal is not None else None,
        algorithm=spec.search.algorithm,
        early_stopping=spec.search.early_stopping,
        seed=spec.search.seed,
        folds=declared.evaluation.cross_validation or 0,
        most=min(spec.trials.max, search.points(space, spec.search.algorithm)),
        parallel=spec.trials.parallel,
        max_failed=spec.trials.max_failed,
        ttl=parse_duration(spec.trials.ttl) if spec.trials.ttl is not None else None,
        timeout=parse_duration(spec.trials.timeout) if spec.trials.timeout is not None else None,
        promote=spec.promote == "Best",
        suspended=spec.suspend,
        store=store,
        snapshot=_snapshot(observed, spec, owned, store),
        trials=trials,
        promotions=promotions_of(owned, subject.name, spec.objective.metric),
        taken=frozenset(name for kind, name in observed.foreign if kind == TRIAL),
        proposer=jobs.Run("Absent"),
        asked=(0, ""),
        not_proposed=_not_proposed(observed),
        page=jobs.Run("Absent"),
        page_asked="",
        commit=lineage.commit_of(observed.object["metadata"].get("annotations")),
        started=observed.status.get("startedAt"),
        ended_before=observed.status.get("endedAt"),
        ended=_ended(observed),
        said=tuple(
            Condition(c["type"], c["status"], c["reason"], c.get("message", ""))
            for c in observed.status.get("conditions", ())
        ),
        status=json.dumps(
            {k: v for k, v in observed.status.items() if k not in ("conditions", "observedGeneration")}, sort_keys=True
        ),
    )
    if facts.ended is not None:
        return facts
    number = next_trial(facts)
    if number is not None and search.by_a_pod(number, facts.algorithm):
        first = search.batch_of(number, facts.algorithm, search.batch_size(space, facts.parallel))
        if known_up_to(facts, first - facts.parallel):
            asked = digest.of_bytes(task.encode(proposal(facts, first)).encode())
            run = jobs.observe(observed, proposer_name(subject.name), asked)
            facts = replace(facts, asked=(first, asked), proposer=run)
    if not any(trial.state == RUNNING for trial in trials):
        asked = digest.of_bytes(task.encode(page_task(facts, best_of(facts))).encode())
        facts = replace(facts, page_asked=asked, page=jobs.observe(observed, page_name(subject.name), asked))
    return facts


def _store(observed: Observed, spec: ExperimentSpec) -> StoreAccess | Waiting:
    settings, store = workspace.settings(observed), workspace.working_store(observed)
    container = spec.template.spec.container
    if container is None or settings is None or isinstance(store, Waiting):
        return store
    return workspace.forbidden_image(settings, store, container.image, "spec.template.spec.container") or store


def _trials(owned: tuple[Manifest, ...], name: str, space: Space, metric: str) -> tuple[Trial, ...]:
    found = []
    for manifest in owned:
        number = manifest["metadata"]["name"].removeprefix(f"{name}-")
        if number.isdecimal() and manifest["metadata"]["name"] == trial_name(name, int(number)):
            found.append(leaderboard.trial(manifest, int(number), space, metric))
    return tuple(sorted(found, key=lambda trial: trial.number))


def _snapshot(
    observed: Observed, spec: ExperimentSpec, owned: tuple[Manifest, ...], store: StoreAccess | Waiting
) -> Snapshot | Waiting:
    """The version of all trials: what the status or a trial says, else what a TrainingJob would choose now."""
    pinned = observed.status.get("datasetVersion")
    if pinned is None:
        pinned = next((v for job in owned if (v := dig(job, "spec", "data", "version")) is not None), None)
    if pinned is not None:
        return Snapshot(pinned, "")
    return training_data.choose(observed, spec.template.spec, jobs.Run("Absent"), store)


def _not_proposed(observed: Observed) -> Waiting | None:
    """What the status says of a Job that chooses trials and failed: a new spec starts afresh."""
    if not conditions.is_true(observed.object, "Stalled"):
        return None
    said = conditions.find(observed.object, "Stalled") or {}
    if not said["message"].startswith(of_proposer(proposer_name(observed.subject.name))):
        return None
    return Waiting(said["reason"], said["message"], stalled=True)


def _ended(observed: Observed) -> Ended | None:
    """How it ended, where nothing was edited since, or its trials are gone."""
    at, expired = observed.status.get("endedAt"), bool(observed.status.get("expired"))
    if at is None:
        return None
    over = any(conditions.is_true(observed.object, type_) for type_ in ("Succeeded", "Failed"))
    return Ended(at, expired) if over or (expired and has_ended(observed.object)) else None


def render(facts: Facts, decision: Decision) -> Outcome:
    if decision.stage == "Ended":
        kept = json.loads(facts.status) | ({"expired": True} if decision.expire else {})
        said = said_since_expired(facts) if facts.ended is not None and facts.ended.expired else facts.said
        return Outcome(kept, said, ("Succeeded",), _writes(facts, decision), decision.requeue_after)
    status: dict[str, Any] = {
        "startedAt": decision.started,
        "endedAt": decision.ended,
        "trials": _count(facts, decision),
        "best": leaderboard.status_of(decision.best),
        "top": leaderboard.top(leaderboard.ranked(facts.trials, maximize=facts.maximize)) or None,
        "promoted": decision.promoted.name if decision.promoted is not None else None,
        "modelVersion": decision.promoted.version if decision.promoted is not None else None,
        "report": decision.page,
    }
    if facts.trials or decision.create:
        status["datasetVersion"] = facts.snapshot.version if isinstance(facts.snapshot, Snapshot) else None
    return Outcome(
        status=status,
        conditions=_conditions(facts, decision),
        headline=("Succeeded",),
        writes=_writes(facts, decision),
        requeue_after=decision.requeue_after,
    )


def _count(facts: Facts, decision: Decision) -> dict[str, int]:
    gone = {name for name, _ in decision.delete}
    states = [trial.state for trial in facts.trials if trial.name not in gone]
    return {
        "succeeded": states.count(SUCCEEDED),
        "running": states.count(RUNNING) + len(decision.create),
        "failed": states.count(FAILED),
        "stopped": states.count(STOPPED),
    }


def _conditions(facts: Facts, decision: Decision) -> tuple[Condition, ...]:
    stage, waiting = decision.stage, decision.waiting
    if stage == "Succeeded":
        headline = true("Succeeded", *decision.why)
        return headline, false("Failed", decision.why[0]), *_rest(facts, decision), *conditions.progress(headline, None)
    if stage == "Suspended":
        said = ("Suspended", "spec.suspend is true; set it to false to go on")
        headline = unknown("Succeeded", *said)
        return headline, unknown("Failed", said[0]), *_rest(facts, decision), *conditions.progress(headline, None)
    assert waiting is not None  # noqa: S101 - every other stage waits for something
    if stage == "Failed":
        headline = true("Failed", waiting.reason, waiting.message)
        succeeded = false("Succeeded", waiting.reason, waiting.message)
        return succeeded, headline, *_rest(facts, decision), *conditions.progress(headline, waiting)
    headline = unknown("Succeeded", waiting.reason, waiting.message)
    return (
        headline,
        unknown("Failed", waiting.reason),
        *_rest(facts, decision),
        *conditions.progress(headline, waiting),
    )


def _rest(facts: Facts, decision: Decision) -> tuple[Condition, Condition]:
    """Promoted and Reported."""
    over = decision.stage in ("Succeeded", "Failed")
    promoted = decision.promoted
    if not facts.promote:
        first = NOT_ASKED
    elif promoted is not None and promoted.state == SUCCEEDED:
        first = version_made(promoted, decision.best, facts.metric)
    elif promoted is not None and promoted.state == FAILED:
        first = false("Promoted", promoted.reason, promoted.message)
    else:
        first = unknown("Promoted", decision.waiting.reason if over and decision.waiting else "Searching")
    if decision.page is not None:
        return first, true("Reported", "PageWritten", f"blobs/{decision.page.replace(':', '-')} in the store")
    if decision.page_failed is not None:
        return first, false("Reported", decision.page_failed.reason, decision.page_failed.message)
    return first, unknown("Reported", decision.waiting.reason if decision.waiting else "Suspended")


def _writes(facts: Facts, decision: Decision) -> tuple[Write, ...]:
    subject = facts.subject
    writes: list[Write] = [
        *(suspending(subject, name, True, _uid(facts, name)) for name in decision.suspend),
        *(suspending(subject, name, False, _uid(facts, name)) for name in decision.resume),
    ]
    guards: Guards = (*facts.declared, has_not_ended(subject))
    if isinstance(facts.snapshot, Snapshot):
        before: dict[Values, str] = {trial.values: trial.name for trial in reversed(facts.trials) if trial.artifact}
        version = facts.snapshot.version
        names = frozenset(trial_name(subject.name, number) for number, _ in decision.create)
        beside = (*guards, has_room(subject, facts.parallel, names))
        for number, values in decision.create:
            writes.append(
                Create(trial_manifest(facts, number, values, version, search.repeated(values, before)), beside)
            )
        if decision.promote is not None:
            writes.append(Create(promoted_manifest(facts, decision.promote, version), guards))
    if isinstance(facts.store, StoreAccess):
        if decision.propose:
            work: task.Task = proposal(facts, facts.asked[0])
            batch = {BATCH_ANNOTATION: str(facts.asked[0])}
            name = proposer_name(subject.name)
            writes.append(Create(job_manifest(facts, name, facts.asked[1], work, facts.store, batch), guards))
        if decision.write_page:
            work = msgspec.structs.replace(page_task(facts, decision.best), store=facts.store.location)
            writes.append(
                Create(job_manifest(facts, page_name(subject.name), facts.page_asked, work, facts.store), guards)
            )
    if decision.discard is not None:
        writes.append(Delete("Job", *decision.discard, facts.declared))
    for name, uid in decision.delete:
        over = facts.ended is not None and facts.ended.expired
        writes.append(
            Delete(TRIAL, name, uid, (has_expired(subject),) if over else (*facts.declared[:1], still_runs(name)))
        )
    return tuple(writes)


def _uid(facts: Facts, name: str) -> str:
    every: tuple[Trial | Promotion, ...] = (*facts.trials, *facts.promotions)
    return next(one.uid for one in every if one.name == name)


CONTROLLER = Controller(KIND, depends, observe, decide, render)
