"""The task of a TrainingJob: what its spec asks of the trainer, without the data, which is pinned when it starts."""

from msgspec.structs import replace

from modelmill.api.trainingjob import Container, Split, TrainingJobSpec
from modelmill.core import workspace
from modelmill.core.plan import Observed
from modelmill_contracts import environment, task


def declared(observed: Observed, spec: TrainingJobSpec) -> task.AnyTraining:
    """The training that the spec declares.  How many workers do it is no part of it: the result is the same."""
    if spec.container is not None:
        return _by_a_container(observed, spec, spec.container)
    return _by_an_estimator(observed, spec)


def _by_a_container(observed: Observed, spec: TrainingJobSpec, container: Container) -> task.OwnTrainingTask:
    env = tuple((variable.name, variable.value) for variable in container.env)
    return task.OwnTrainingTask(
        store=task.StoreLocation(""),
        version="",
        target=spec.data.target,
        container=task.OwnContainer(container.image, container.command or (), container.args, env),
        data=environment.DATA_FOLDER,
        output=environment.OUTPUT_FOLDER,
        features=spec.data.features or (),
        split=_split(spec.data.split),
        seed=spec.seed,
        metrics=spec.evaluation.metrics,
        image=observed.settings.trainer_image,
        slices=spec.evaluation.slices,
    )


def _by_an_estimator(observed: Observed, spec: TrainingJobSpec) -> task.TrainingTask:
    settings = workspace.settings(observed)
    declared = spec.estimator
    assert declared is not None  # noqa: S101 - a rule of the schema: an estimator or a container
    work = task.TrainingTask(
        store=task.StoreLocation(""),
        file="",
        version="",
        target=spec.data.target,
        estimator=task.Estimator(
            steps=tuple(task.Step(s.name, s.class_, s.params) for s in declared.steps),
            columns=tuple(
                task.ColumnGroup(g.name, g.select, tuple(task.Step(s.name, s.class_, s.params) for s in g.steps))
                for g in declared.columns
            ),
        ),
        features=spec.data.features or (),
        split=_split(spec.data.split),
        seed=spec.seed,
        metrics=spec.evaluation.metrics,
        packages=settings.allow.estimator_packages if settings else ("sklearn",),
        image=observed.settings.trainer_image,
    )
    evaluation = task.Evaluation(spec.evaluation.cross_validation or 0, spec.evaluation.slices)
    if spec.evaluation.stopping is not None:
        declared_bounds = spec.evaluation.stopping
        bounds = tuple((bound.folds, bound.value) for bound in declared_bounds.bounds)
        stopping = task.Stopping(declared_bounds.metric, declared_bounds.direction == "Maximize", bounds)
        work = replace(work, stopping=stopping)
    # What is the default is not written, so that a task without new wishes reads as it always did.
    return work if evaluation == work.evaluation else replace(work, evaluation=evaluation)


def _split(declared: Split) -> task.Split:
    """Both ways to ask for a stratified split are the same task, and so the same recipe."""
    match declared.method:
        case "Group":
            return task.Split(declared.test, group=declared.by)
        case "Time":
            return task.Split(declared.test, time=declared.by)
    return task.Split(declared.test, declared.stratify or declared.method == "Stratified")
