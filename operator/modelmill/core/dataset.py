"""Dataset: takes a checked, immutable snapshot of its source, and again whenever its declaration changes.

the store does not work          -> wait for the Workspace
no snapshot of this declaration  -> a Job; its report has the version, or what is wrong with the data
the Job failed                   -> say why; the last valid version stays; try again, as the source may have changed
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from modelmill.api.dataset import DatasetSpec
from modelmill.api.schema import ResourceRequirements
from modelmill.core import conditions, jobs, pods, retry, workspace
from modelmill.core.conditions import Condition, Waiting, false, true, unknown
from modelmill.core.controller import Controller
from modelmill.core.plan import Create, Delete, Observed, Outcome, Subject, Unedited
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import Key, Manifest
from modelmill_contracts import digest, environment, report, task

KIND = "Dataset"
RESOURCES = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
TIMEOUT = timedelta(hours=1)
MAX_PROBLEMS = 32


@dataclass(frozen=True)
class Asked:
    """One snapshot as it is asked for."""

    work: task.SnapshotTask
    store: StoreAccess
    source_secret: str | None
    config_map: tuple[str, str] | None

    @property
    def digest(self) -> str:
        """Equal askings need one snapshot."""
        # What is allowed decides whether it may be asked, not what is asked.
        work = msgspec.structs.replace(self.work, schemes=())
        return digest.of_json([task.encode(work), self.store.secret, self.source_secret, self.config_map])


@dataclass(frozen=True)
class Snapshot:
    version: str
    file: str
    rows: int
    observed_at: str


@dataclass(frozen=True)
class Facts:
    subject: Subject
    declared: tuple[Unedited, ...]
    history_limit: int
    asked: Asked | Waiting
    job: str
    run: jobs.Run
    snapshot: str | None  # digest of what was asked when the newest version was taken
    settled: bool  # the present spec's snapshot was Ready when the store was last known to work
    problems: tuple[report.Problem, ...]
    history: tuple[Snapshot, ...]  # newest first
    failing: retry.Failing | None
    valid: bool  # the last failure was not about the data


@dataclass(frozen=True)
class Decision:
    start: bool = False
    discard: bool = False
    history: tuple[Snapshot, ...] = ()
    problems: tuple[report.Problem, ...] = ()
    waiting: Waiting | None = None
    invalid: bool = False
    requeue_after: timedelta | None = None


def asked(observed: Observed, spec: DatasetSpec) -> Asked | Waiting:
    """The snapshot that the declaration and the Workspace ask for, or why there can be none."""
    store = workspace.working_store(observed)
    if isinstance(store, Waiting):
        return store
    settings = workspace.settings(observed)
    schemes = settings.allow.sources if settings else ()
    source, config_map = spec.source, None
    if source.uri is not None:
        scheme = source.uri.partition("://")[0]
        if scheme not in schemes:
            return Waiting(
                "SourceNotAllowed",
                f"spec.source.uri has scheme {scheme}; Workspace {workspace.NAME} allows {', '.join(schemes)}",
                stalled=True,
                failed=True,
            )
        where = source.uri
    else:
        reference = source.config_map_ref
        assert reference is not None  # noqa: S101 - the schema's CEL rule
        config_map = (reference.name, reference.key)
        where = f"{environment.SOURCE_FOLDER}/{reference.key}"
    columns = tuple(task.Column(c.name, c.type, c.nullable, c.min, c.max, tuple(c.values or ())) for c in spec.columns)
    work = task.SnapshotTask(
        store=store.location,
        source=where,
        source_store=source_store(where, store.location),
        schemes=schemes,
        columns=columns,
        extra_columns=spec.extra_columns,
        min_rows=spec.expectations.min_rows,
    )
    return Asked(work, store, source.secret_ref.name if source.secret_ref else None, config_map)


def source_store(source: str, store: task.StoreLocation) -> task.StoreLocation | None:
    """How a bucket that a source names is reached: where the store is reached, if the scheme is the same."""
    scheme, _, rest = source.partition("://")
    if scheme not in ("s3", "gs", "az"):
        return None
    bucket = f"{scheme}://{rest.partition('/')[0]}"
    if store.uri.startswith(f"{scheme}://"):
        return task.StoreLocation(bucket, store.endpoint, store.region)
    return task.StoreLocation(bucket)


def job_name(name: str) -> str:
    return f"{name}-data"


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata = manifest["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    return (workspace.dependency(namespace), *jobs.dependencies(namespace, metadata["uid"], job_name(name)))


def observe(observed: Observed) -> Facts:
    spec = DatasetSpec.model_validate(observed.object["spec"])
    wanted = asked(observed, spec)
    job = job_name(observed.subject.name)
    status = observed.status
    valid = conditions.find(observed.object, "Valid")
    return Facts(
        subject=observed.subject,
        declared=workspace.declared(observed, KIND),
        history_limit=spec.version_history_limit,
        asked=wanted,
        job=job,
        run=jobs.observe(observed, job, "" if isinstance(wanted, Waiting) else wanted.digest),
        snapshot=status.get("snapshot"),
        settled=conditions.is_true(observed.object, "Ready"),
        problems=tuple(
            report.Problem(p["rule"], p["message"], p.get("column"), p.get("count", 0), tuple(p.get("rows", ())))
            for p in status.get("problems", ())
        ),
        history=tuple(Snapshot(h["version"], h["file"], h["rows"], h["observedAt"]) for h in status.get("history", ())),
        failing=retry.failing(observed, "Available") or retry.failing(observed, "Valid"),
        valid=valid is None or valid["status"] != "False",
    )


def decide(facts: Facts, now: datetime) -> Decision:
    run, history = facts.run, facts.history
    if isinstance(facts.asked, Waiting):
        # Without the store nothing new can be taken; what was taken is still what was declared.
        return Decision(waiting=None if facts.settled and history else facts.asked, history=history)
    if facts.snapshot == facts.asked.digest:
        return Decision(history=history)
    if run.state == "Foreign":
        taken = retry.name_taken("Job", facts.job)
        return Decision(waiting=taken, history=history, requeue_after=retry.MAX)
    if run.state == "Succeeded" and run.report is not None:
        if isinstance(run.report.result, report.SnapshotResult):
            return Decision(history=_with(facts, run.report.result, run.ended or now))
        waiting = Waiting("ReportInvalid", "the Job's report is not that of a snapshot", stalled=True)
        return Decision(waiting=waiting, history=history)
    if run.state in ("Failed", "Lost"):
        waiting, pause = retry.after_failure(run, now, facts.failing)
        found = run.report.problems if run.report is not None else ()
        return Decision(
            waiting=waiting,
            history=history,
            problems=found[:MAX_PROBLEMS],
            invalid=bool(found),
            discard=pause is None,
            requeue_after=pause,
        )
    running = Waiting("SnapshotRunning", "the data is being read and checked")
    waiting = retry.under_way(run, facts.failing, running)
    again = facts.failing is not None
    return Decision(
        start=run.state == "Absent",
        discard=run.state == "Outdated",
        waiting=waiting,
        history=history,
        problems=facts.problems if again else (),
        invalid=again and not facts.valid,
    )


def _with(facts: Facts, result: report.SnapshotResult, ended: datetime) -> tuple[Snapshot, ...]:
    """The history with this snapshot first; content that is known keeps when it was first seen."""
    known = next((s for s in facts.history if s.version == result.version), None)
    observed_at = known.observed_at if known is not None else conditions.timestamp(ended)
    newest = Snapshot(result.version, result.file, result.rows, observed_at)
    others = tuple(s for s in facts.history if s.version != result.version)
    return (newest, *others)[: facts.history_limit]


def render(facts: Facts, decision: Decision) -> Outcome:
    newest = decision.history[0] if decision.history else None
    status: dict[str, Any] = {
        "version": newest.version if newest else None,
        "rows": newest.rows if newest else None,
        "history": [
            {"version": s.version, "file": s.file, "rows": s.rows, "observedAt": s.observed_at}
            for s in decision.history
        ]
        or None,
        "problems": [_problem(problem) for problem in decision.problems] or None,
        "snapshot": facts.asked.digest
        if isinstance(facts.asked, Asked) and decision.waiting is None
        else facts.snapshot,
    }
    ready, *more = _conditions(facts, decision, newest)
    return Outcome(
        status=status,
        conditions=(ready, *more, *conditions.progress(ready, decision.waiting)),
        headline=("Ready",),
        writes=_writes(facts, decision),
        requeue_after=decision.requeue_after,
    )


def _conditions(facts: Facts, decision: Decision, newest: Snapshot | None) -> tuple[Condition, ...]:
    waiting = decision.waiting
    if waiting is None and newest is not None:
        return (
            true("Ready", "SnapshotTaken", f"{newest.rows} rows as version {newest.version}"),
            facts.asked.condition("PreflightPassed")
            if isinstance(facts.asked, Waiting)
            else true("PreflightPassed", "StoreWorks"),
            true("Available", "SourceRead", "the source was read"),
            true("Valid", "AllChecksPassed", "every declared rule holds"),
        )
    assert waiting is not None  # noqa: S101 - done means that there is a version
    ready = false("Ready", waiting.reason, waiting.message)
    if isinstance(facts.asked, Waiting):
        return (
            ready,
            waiting.condition("PreflightPassed"),
            unknown("Available", "NotRead", "the source was not read yet"),
            unknown("Valid", "NotChecked", "the data was not checked yet"),
        )
    passed = true("PreflightPassed", "StoreWorks")
    if not waiting.failed:
        return (
            ready,
            passed,
            unknown("Available", waiting.reason, waiting.message),
            unknown("Valid", waiting.reason, waiting.message),
        )
    if decision.invalid:
        return (
            ready,
            passed,
            true("Available", "SourceRead", "the source was read"),
            false("Valid", waiting.reason, waiting.message),
        )
    return (
        ready,
        passed,
        false("Available", waiting.reason, waiting.message),
        unknown("Valid", "NotChecked", "the data was not checked yet"),
    )


def _problem(problem: report.Problem) -> dict[str, Any]:
    return {
        "rule": problem.rule,
        "message": problem.message[:512],
        "count": problem.count,
        **({"column": problem.column[:128]} if problem.column is not None else {}),
        **({"rows": list(problem.rows[:3])} if problem.rows else {}),
    }


def _writes(facts: Facts, decision: Decision) -> tuple[Create | Delete, ...]:
    if decision.discard:
        return (Delete("Job", facts.job, facts.run.uid, facts.declared),)
    if not decision.start or isinstance(facts.asked, Waiting):
        return ()
    job = jobs.render(
        facts.subject,
        KIND,
        facts.job,
        facts.asked.digest,
        facts.asked.work,
        facts.asked.store,
        limits=pods.resources(ResourceRequirements(), RESOURCES),
        timeout=TIMEOUT,
        retries=1,
        variables=pods.secret_variables(facts.asked.source_secret, environment.SOURCE_PREFIX),
        config_map=facts.asked.config_map,
    )
    return (Create(job, facts.declared),)


CONTROLLER = Controller(KIND, depends, observe, decide, render)
