"""Trials: what an Experiment makes, as manifests and tasks, and what must hold while it does."""

import json
from datetime import timedelta
from typing import Any

from modelmill.api.schema import API_VERSION, GROUP, LONGEST_DECIMAL, ResourceRequirements
from modelmill.core import conditions, jobs, known, lineage, pods, search
from modelmill.core.conditions import has_ended
from modelmill.core.experiment_facts import KIND, TRIAL, Facts, counted, promoted_name, trial_name
from modelmill.core.leaderboard import RUNNING, STOPPED, SUCCEEDED, Best, Trial
from modelmill.core.plan import Apply, Guard, Listed, Subject, is_owned
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import EXPERIMENT_LABEL, MANAGED_BY, OWNER_LABEL, TRIAL_LABEL, Manifest, dig
from modelmill_contracts import task
from modelmill_contracts.space import Space, Values

PARAMETERS_ANNOTATION = f"{GROUP}/parameters"  # of a trial: in short, for people
TIMEOUT = timedelta(minutes=15)  # of a pod of ours
RESOURCES = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}


def _metadata(facts: Facts, name: str, labels: dict[str, str], annotations: dict[str, str]) -> dict[str, Any]:
    subject = facts.subject
    commit = {lineage.COMMIT_ANNOTATION: facts.commit} if facts.commit is not None else {}
    return {
        "name": name,
        "namespace": subject.namespace,
        "labels": {**MANAGED_BY, OWNER_LABEL: subject.uid, EXPERIMENT_LABEL: subject.name, **labels},
        "annotations": {**annotations, **commit},
        "ownerReferences": [subject.reference(KIND)],
    }


def _spec(facts: Facts, values: Values, version: str) -> dict[str, Any]:
    """The template with these parameters, on the pinned data; the objective is what is measured first."""
    spec = search.with_values(json.loads(facts.template), values)
    spec["data"] = {**spec["data"], "version": version}
    evaluation = spec.get("evaluation") or {}
    metrics = [facts.metric, *(metric for metric in evaluation.get("metrics", ()) if metric != facts.metric)]
    spec["evaluation"] = {**evaluation, "metrics": metrics[:32]}
    return spec


def trial_manifest(facts: Facts, number: int, values: Values, version: str, like: str | None) -> Manifest:
    spec = _spec(facts, values, version)
    for without in ("modelRef", "reproduce"):  # a trial is tracked, and becomes no version
        spec.pop(without, None)
    if search.stops(facts.algorithm, facts.early_stopping):
        spec["evaluation"]["stopping"] = _stopping(facts, number)
    annotations = {PARAMETERS_ANNOTATION: search.short(values), **({known.LIKE_ANNOTATION: like} if like else {})}
    labels = {TRIAL_LABEL: str(number), **({lineage.MODEL_LABEL: facts.model} if facts.model is not None else {})}
    metadata = _metadata(facts, trial_name(facts.subject.name, number), labels, annotations)
    return {"apiVersion": API_VERSION, "kind": TRIAL, "metadata": metadata, "spec": spec}


def _stopping(facts: Facts, number: int) -> dict[str, Any]:
    first = search.batch_of(number, facts.algorithm, search.batch_size(facts.space, facts.parallel))
    others = [trial.folds for trial in counted(facts, first) if trial.folds]
    found = search.bounds(facts.algorithm, others, facts.folds, maximize=facts.maximize)
    bounds = [{"folds": folds, "value": search.decimal(value)} for folds, value in sorted(found.items())]
    return {
        "metric": facts.metric,
        "direction": "Maximize" if facts.maximize else "Minimize",
        # An error of 1e-30, or of 1e40, has more digits than a decimal of the API: it stops nothing.
        "bounds": [bound for bound in bounds if len(str(bound["value"])) <= LONGEST_DECIMAL],
    }


def promoted_manifest(facts: Facts, trial: Trial, version: str) -> Manifest:
    """The same training with the template's Model: its pod finds that it is known, and trains nothing."""
    annotations = {PARAMETERS_ANNOTATION: search.short(trial.values), known.LIKE_ANNOTATION: trial.name}
    name = promoted_name(facts.subject.name, trial.number)
    metadata = _metadata(facts, name, {}, annotations)
    return {
        "apiVersion": API_VERSION,
        "kind": TRIAL,
        "metadata": metadata,
        "spec": _spec(facts, trial.values, version),
    }


def _row(space: Space, values: Values) -> tuple[str | None, ...]:
    chosen = dict(values)
    return tuple(chosen.get(dimension.name) for dimension in space)


def proposal(facts: Facts, first: int) -> task.ProposalTask:
    return task.ProposalTask(
        algorithm=facts.algorithm,
        seed=facts.seed,
        maximize=facts.maximize,
        space=facts.space,
        first=first,
        count=search.batch_size(facts.space, facts.parallel),
        trials=tuple(_outcome(facts, trial, first) for trial in facts.trials if trial.number < first),
    )


def _outcome(facts: Facts, trial: Trial, first: int) -> task.TrialOutcome:
    row = _row(facts.space, trial.values)
    if trial.number > first - facts.parallel:
        return task.TrialOutcome(row, RUNNING)
    value = trial.value if trial.state in (SUCCEEDED, STOPPED) else None
    return task.TrialOutcome(row, trial.state, value, len(trial.folds) if trial.state == STOPPED else 0)


def page_task(facts: Facts, best: Best | None) -> task.SearchPageTask:
    return task.SearchPageTask(
        store=task.StoreLocation(""),
        name=facts.subject.name,
        metric=facts.metric,
        maximize=facts.maximize,
        algorithm=facts.algorithm,
        space=facts.space,
        trials=tuple(_placed(facts.space, trial) for trial in facts.trials),
        best=best.trial.number if best is not None else None,
        why=best.why if best is not None else "",
    )


def _placed(space: Space, trial: Trial) -> task.PlacedTrial:
    stddev = float(trial.stddev) if trial.stddev is not None else None
    return task.PlacedTrial(trial.number, trial.state, _row(space, trial.values), trial.value, stddev, trial.cost)


def job_manifest(
    facts: Facts, name: str, asked: str, work: task.Task, store: StoreAccess, annotations: dict[str, str] | None = None
) -> Manifest:
    return jobs.render(
        facts.subject,
        KIND,
        name,
        asked,
        work,
        store,
        limits=pods.resources(ResourceRequirements(), RESOURCES),
        timeout=TIMEOUT,
        retries=2,
        annotations=annotations,
    )


def has_not_ended(subject: Subject) -> Guard:
    """What ended is not begun anew with an old view of it."""

    def holds(live: Manifest | None) -> bool:
        if live is None or live["metadata"]["uid"] != subject.uid or dig(live, "status", "expired"):
            return False
        return not any(conditions.is_true(live, type_) for type_ in ("Succeeded", "Failed"))

    return Guard(KIND, subject.name, holds, f"{KIND} {subject.name} has not ended")


def has_room(subject: Subject, parallel: int, names: frozenset[str]) -> Listed:
    """Trials of these names are no more than may run: one that was deleted may have been made again meanwhile."""
    promoted = promoted_name(subject.name, 0)[:-1]

    def holds(live: tuple[Manifest, ...]) -> bool:
        others = (job for job in live if is_owned(job, subject.uid) and job["metadata"]["name"] not in names)
        running = sum(not has_ended(job) and not job["metadata"]["name"].startswith(promoted) for job in others)
        return running + len(names) <= parallel

    return Listed(TRIAL, holds, f"{KIND} {subject.name} has room for {len(names)} more trials")


def still_runs(name: str) -> Guard:
    """What a trial found in the meantime is not thrown away."""

    def holds(live: Manifest | None) -> bool:
        return live is None or not has_ended(live)

    return Guard(TRIAL, name, holds, f"{TRIAL} {name} has not ended")


def has_expired(subject: Subject) -> Guard:
    def holds(live: Manifest | None) -> bool:
        return live is not None and live["metadata"]["uid"] == subject.uid and bool(dig(live, "status", "expired"))

    return Guard(KIND, subject.name, holds, f"the trials of {KIND} {subject.name} have outlived their time")


def suspending(subject: Subject, name: str, suspend: bool, uid: str) -> Apply:
    metadata = {"name": name, "namespace": subject.namespace}
    return Apply({"apiVersion": API_VERSION, "kind": TRIAL, "metadata": metadata, "spec": {"suspend": suspend}}, uid)
