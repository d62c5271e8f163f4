"""Automation: how much of a use case goes on by itself, found by what is wired up.

    level 0    somebody applies a TrainingJob, and decides on what comes of it
    level 1    a Pipeline with a trigger makes versions by itself: on a schedule, on new data, on drift
    level 2    and what it makes is tested, serves by itself, is rolled out on evidence, and all of that is declared in
               Git, from where it gets into the cluster by itself

The levels are those of "MLOps: Continuous delivery and automation pipelines in machine learning" (Google, 2020).  Each
step of the ladder below is there or not; the first one that is not is the next step.  Who manages an object is told by
what Argo CD and Flux put on it: the former's annotation (its default since 3.0), the latter's labels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from modelmill.api.rollout import MANUAL
from modelmill.api.usecase import UseCaseSpec
from modelmill.core.resources import Manifest, dig, trained_by_stage

_ARGO_CD = "argocd.argoproj.io/tracking-id"  # an annotation
_FLUX = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name")  # labels
_TRIGGERS = ("schedule", "newVersionOf", "onCondition")  # that start a run without a person


@dataclass(frozen=True)
class Wiring:
    """What there is for a use case, by name."""

    triggers: tuple[tuple[str, tuple[str, ...]], ...]  # Pipelines that train it, and what starts them
    suspended: tuple[str, ...]  # Pipelines that would train it by themselves if they were not suspended
    without_version: tuple[str, ...]  # searches that begin by themselves, and make no version
    models: tuple[str, ...]
    tested: tuple[str, ...]  # Models whose versions must pass something
    approved_by_hand: tuple[str, ...]  # kind/name of who asks a person to approve
    deployments: tuple[str, ...]
    newest: tuple[str, ...]  # ModelDeployments that serve the newest Ready version
    by_evidence: tuple[str, ...]  # ModelDeployments that are rolled out on evidence
    held: tuple[str, ...]  # fields of theirs by which each rollout waits for a person
    in_git: tuple[tuple[str, str], ...]  # kind/name, and who manages it
    by_hand: tuple[str, ...]  # kind/name of what nobody manages


@dataclass(frozen=True)
class Level:
    number: int
    evidence: tuple[str, ...]
    next: str | None


def observe(
    spec: UseCaseSpec, models: tuple[Manifest, ...], deployments: tuple[Manifest, ...], pipelines: tuple[Manifest, ...]
) -> Wiring:
    metrics = any(requirement.metric is not None for requirement in spec.requirements)
    declared = [("pipeline", p) for p in pipelines] + [("model", m) for m in models]
    declared += [("modeldeployment", d) for d in deployments]
    names = _names(models)
    triggered = [(p, triggers) for p in pipelines if (triggers := _triggers(p))]
    makers = [(p, triggers) for p, triggers in triggered if any(_makes(stage, names) for stage in _stages(p))]
    managed = [(f"{kind}/{_name(manifest)}", _manager(manifest)) for kind, manifest in declared]
    return Wiring(
        triggers=tuple((_name(p), triggers) for p, triggers in makers if not dig(p, "spec", "suspend")),
        suspended=_names(p for p, _ in makers if dig(p, "spec", "suspend")),
        without_version=tuple(
            f"stage {stage['name']} of Pipeline {_name(p)}"
            for p, _ in triggered
            if not dig(p, "spec", "suspend")
            for stage in _stages(p)
            if trained_by_stage(stage) in names and not _makes(stage, names)
        ),
        models=names,
        tested=_names(m for m in models if metrics or dig(m, "spec", "tests")),
        approved_by_hand=(
            *(f"model/{_name(m)}" for m in models if dig(m, "spec", "approval") == "Manual"),
            *(f"pipeline/{_name(p)}" for p in pipelines if any(s.get("approve") == "Manual" for s in _stages(p))),
        ),
        deployments=_names(deployments),
        newest=_names(d for d in deployments if dig(d, "spec", "model", "version") is None),
        by_evidence=_names(
            d for d in deployments if dig(d, "spec", "rollout", "strategy") not in (None, "RollingUpdate", "Shadow")
        ),
        held=tuple(
            f"spec.rollout.steps[{number}].hold of ModelDeployment {_name(d)}"
            for d in deployments
            for number, step in enumerate(dig(d, "spec", "rollout", "steps") or ())
            if step.get("hold") == MANUAL
        ),
        in_git=tuple((name, manager) for name, manager in managed if manager is not None),
        by_hand=tuple(name for name, manager in managed if manager is None),
    )


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _names(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    return tuple(_name(manifest) for manifest in manifests)


def _stages(pipeline: Manifest) -> tuple[Manifest, ...]:
    return tuple(dig(pipeline, "spec", "stages") or ())


def _makes(stage: Manifest, models: tuple[str, ...]) -> bool:
    """Whether versions of one of these Models come of it: of a search, where its best trial becomes one."""
    promotes = "experiment" not in stage or dig(stage, "experiment", "spec", "promote") == "Best"
    return promotes and trained_by_stage(stage) in models


def _triggers(pipeline: Manifest) -> tuple[str, ...]:
    """What starts it without a person."""
    return tuple(
        f"{trigger['name']} ({kind})"
        for trigger in dig(pipeline, "spec", "triggers") or ()
        for kind in _TRIGGERS
        if kind in trigger
    )


def _manager(manifest: Manifest) -> str | None:
    annotations, labels = (dig(manifest, "metadata", what) or {} for what in ("annotations", "labels"))
    if _ARGO_CD in annotations:
        return "Argo CD"
    return "Flux" if any(label in labels for label in _FLUX) else None


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: the level that it belongs to, what shows that it is there, and else what to do."""

    level: int
    shown: str | None
    missing: str


def _trains_by_itself(wiring: Wiring) -> Rung:
    shown = "; ".join(f"Pipeline {name} trains on {', '.join(triggers)}" for name, triggers in wiring.triggers)
    missing = (
        "give a Pipeline a stage that trains a Model of this use case, and a trigger: schedule, newVersionOf or"
        " onCondition"
    )
    if wiring.without_version:
        searches = ", ".join(wiring.without_version)
        missing = f"let the best trial become a version, by promote: Best in the experiment of {searches}"
    if wiring.suspended:
        missing = f"take spec.suspend out of Pipeline {', '.join(wiring.suspended)}"
    return Rung(1, shown or None, missing)


def _is_tested(wiring: Wiring) -> Rung:
    untested = [name for name in wiring.models if name not in wiring.tested]
    missing = f"require a metric here, or give {', '.join(untested) or 'its Model'} spec.tests"
    shown = f"versions of {', '.join(wiring.tested)} must pass tests" if wiring.models and not untested else None
    return Rung(2, shown, missing)


def _is_approved_by_itself(wiring: Wiring) -> Rung:
    by_hand = ", ".join(wiring.approved_by_hand)
    shown = "versions that pass need no approval" if wiring.models and not by_hand else None
    return Rung(2, shown, f"{by_hand} asks a person to approve: Automatic leaves that to the tests")


def _serves_by_itself(wiring: Wiring) -> Rung:
    pinned = [name for name in wiring.deployments if name not in wiring.newest]
    shown = f"{', '.join(wiring.newest)} serves the newest Ready version" if wiring.newest and not pinned else None
    missing = f"take spec.model.version out of ModelDeployment {', '.join(pinned)}"
    return Rung(2, shown, missing if pinned else "serve its Model by a ModelDeployment")


def _is_rolled_out_on_evidence(wiring: Wiring) -> Rung:
    at_once = [name for name in wiring.deployments if name not in wiring.by_evidence]
    shown = f"{', '.join(wiring.by_evidence)} is rolled out on evidence" if wiring.by_evidence and not at_once else None
    missing = f"give ModelDeployment {', '.join(at_once)} the spec.rollout.strategy Canary or BlueGreen"
    if not at_once and wiring.held:
        shown = None
        missing = f"a person is in each rollout: {', '.join(wiring.held)} is Manual; give it a time, such as 5m"
    return Rung(2, shown, missing)


def _is_in_git(wiring: Wiring) -> Rung:
    managers = ", ".join(sorted({manager for _, manager in wiring.in_git}))
    names = ", ".join(name for name, _ in wiring.in_git)
    shown = f"{managers} applies {names}" if wiring.in_git and not wiring.by_hand else None
    return Rung(2, shown, f"let Argo CD or Flux apply {', '.join(wiring.by_hand)} from Git")


_LADDER: tuple[Callable[[Wiring], Rung], ...] = (
    _trains_by_itself, _is_tested, _is_approved_by_itself, _serves_by_itself, _is_rolled_out_on_evidence, _is_in_git,
)  # fmt: skip


def level(wiring: Wiring) -> Level:
    """The highest level of which nothing is missing; what shows it, and what the next one takes."""
    rungs = [rung(wiring) for rung in _LADDER]
    missing = next((rung for rung in rungs if rung.shown is None), None)
    evidence = tuple(rung.shown[:256] for rung in rungs if rung.shown is not None)
    if missing is None:
        return Level(2, evidence, None)
    return Level(missing.level - 1, evidence, f"to level {missing.level}: {missing.missing}"[:512])
