"""A known recipe: what it made before is the answer, and nothing is trained.

The operator names what earlier trainings on this data made; whether one of them is by this very recipe is known here
only, where the architecture and the libraries are.  Only what tells how good the model is is read of the artifact:
whether it is whole is asked when its version is verified.
"""

from collections.abc import Sequence
from typing import Any

from modelmill_contracts import digest, evaluation, folder, report
from modelmill_contracts import task as contract
from modelmill_contracts.artifact import MANIFEST, MAX_MANIFEST, Manifest
from modelmill_contracts.evaluation import Evaluation
from modelmill_contracts.folder import ArtifactError
from modelmill_contracts.report import Metric, Report, TrainingResult
from modelmill_contracts.store import Store, StoreError, artifact_key
from modelmill_contracts.task import TrainingTask
from modelmill_trainer import artifact, folds, slicing
from modelmill_trainer.log import say


def answer(task: TrainingTask, recipe: dict[str, Any], metrics: Sequence[str]) -> Report | None:
    """The report of what this recipe, with these metrics, made before; None where it is to be trained.

    StoreError where the store does not answer now; an artifact that cannot be used any more is made anew.
    """
    wanted = digest.of_json(recipe)
    for known in task.known:
        if known.recipe != wanted:
            continue
        try:
            return _report(task, known, metrics)
        except (StoreError, ArtifactError, ValueError) as error:
            if isinstance(error, StoreError) and error.retryable:
                raise
            say("what this recipe made before cannot be used", artifact=known.artifact, error=str(error))
    return None


def _report(task: TrainingTask, known: contract.Known, metrics: Sequence[str]) -> Report:
    store = Store(task.store)
    prefix = artifact_key(known.artifact)
    manifest = folder.read_manifest(store.get(f"{prefix}/{MANIFEST}", MAX_MANIFEST), known.artifact)
    if digest.of_json(manifest.recipe) != known.recipe:
        raise ArtifactError("RecipeDiffers", "its manifest has another recipe than its version says")
    evaluated = evaluation.decode(folder.read(store, known.artifact, manifest, evaluation.RESULTS))
    result = TrainingResult(
        recipe=known.recipe,
        artifact=known.artifact,
        uri=f"{task.store.uri.rstrip('/')}/{prefix}",
        runtime=manifest.runtime,
        metrics=_metrics(evaluated, manifest, metrics),
        test_rows=evaluated.rows,
        cpu_seconds=artifact.cpu_seconds(),
        slices=slicing.worst(evaluated.slices, list(metrics)),
        files=artifact.digests(manifest.files),
        folds=folds.of(evaluated.folds, task.stopping),
        model_bytes=artifact.model_bytes(manifest.files, manifest.runtime),
        known=True,
    )
    say("known recipe", artifact=known.artifact)
    message = f"nothing was trained: artifact {known.artifact} was made by this very recipe"
    return Report(True, "RecipeKnown", message, result=report.fitting(result))


def _metrics(evaluated: Evaluation, manifest: Manifest, names: Sequence[str]) -> tuple[Metric, ...]:
    """As the training itself reported them."""
    return folds.summary(evaluated.folds, names) or tuple(Metric(name, manifest.metrics[name]) for name in names)
