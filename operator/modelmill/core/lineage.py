"""Lineage: what a version that a TrainingJob makes is found by, both ways.

Labels are for `kubectl get -l`; digests are their first 16 hex digits there, as a label has no room for more.  The
fields of the same meaning (`spec.lineage`, and `selectable` of the kinds) are what holds: labels are anybody's to
change.
"""

import re
from collections.abc import Mapping

from modelmill.api.schema import GROUP
from modelmill.core.resources import MANAGED_BY, Manifest, dig
from modelmill_contracts import digest

MODEL_LABEL = f"{GROUP}/model"  # of a version, and of a trial: the Model that its Experiment is for
ARTIFACT_LABEL = f"{GROUP}/artifact"
TRAINING_JOB_LABEL = f"{GROUP}/training-job"
RECIPE_LABEL = f"{GROUP}/recipe"
DATASET_LABEL = f"{GROUP}/dataset"
DATASET_VERSION_LABEL = f"{GROUP}/dataset-version"
COMMIT_LABEL = f"{GROUP}/git-commit"
COMMIT_ANNOTATION = COMMIT_LABEL  # of a TrainingJob, and of its Job
_LONGEST_COMMIT_IN_A_LABEL = 40

# A commit alone, or as GitOps tools write a revision: main@sha1:4f00...
_COMMIT = re.compile(r"(?:.*[@:])?([0-9a-f]{7,64})")


def labels(
    *,
    model: str,
    artifact: str,
    training_job: str,
    recipe: str,
    dataset: tuple[str, str] | None,
    commit: str | None,
) -> dict[str, str]:
    """The labels of a version that a TrainingJob makes; `dataset` is its name and version."""
    found = {
        # What has this one goes beyond its Model's versionHistoryLimit (core/retirement.py).
        **MANAGED_BY,
        MODEL_LABEL: model,
        ARTIFACT_LABEL: digest.label_of(artifact),
        TRAINING_JOB_LABEL: training_job,
        RECIPE_LABEL: digest.label_of(recipe),
    }
    if dataset is not None:
        found |= {DATASET_LABEL: dataset[0], DATASET_VERSION_LABEL: digest.label_of(dataset[1])}
    if commit is not None:
        found[COMMIT_LABEL] = commit[:_LONGEST_COMMIT_IN_A_LABEL]
    return found


def commit_of(annotations: Mapping[str, str] | None) -> str | None:
    """The Git commit that an object's annotation names; None where it names none."""
    found = _COMMIT.fullmatch((annotations or {}).get(COMMIT_ANNOTATION, ""))
    return None if found is None else found[1]


def model_of(job: Manifest) -> str | None:
    """The name of the Model that a TrainingJob is for: a trial makes no version of it, and has a label alone."""
    name: str | None = dig(job, "spec", "modelRef", "name") or dig(job, "metadata", "labels", MODEL_LABEL)
    return name
