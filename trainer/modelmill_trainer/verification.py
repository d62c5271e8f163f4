"""Verification: is an artifact, by its digest, whole and unchanged, and what does it take and give?"""

import tempfile
from pathlib import Path

from modelmill_contracts import artifact, folder
from modelmill_contracts.artifact import Tensor
from modelmill_contracts.report import Report, Signed, TensorSummary, VerificationResult
from modelmill_contracts.store import Store, artifact_key
from modelmill_contracts.task import VerificationTask
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase

_LISTED_CHARACTERS = 2000  # of tensors in the report, which has 4 KiB for everything


def verify(task: VerificationTask) -> Report:
    """Fetch the artifact, check the manifest's digest and every file's; StoreError, ArtifactError."""
    try:
        expected = f"{task.store.uri.rstrip('/')}/{artifact_key(task.digest)}"
    except ValueError as error:
        raise TaskError("DigestInvalid", f"artifact.digest: {error}") from error
    if task.uri.rstrip("/") != expected:
        raise TaskError(
            "ArtifactElsewhere",
            f"artifact.uri is {task.uri}, but this store keeps that digest at {expected}: copy the artifact there,"
            " and point at it",
        )
    with tempfile.TemporaryDirectory() as name, phase("verify"):
        store = Store(task.store)
        manifest = folder.fetch(store, task.digest, Path(name))
        signed = _signed(task, store, Path(name) / artifact.MANIFEST)
    size = sum(file.size for file in manifest.files) + len(artifact.encode(manifest))
    inputs, outputs = _listed(manifest.inputs), _listed(manifest.outputs)
    message = f"{len(manifest.files) + 1} files, {size} bytes, unchanged"
    if len(inputs) < len(manifest.inputs):
        message += f"; {len(inputs)} of {len(manifest.inputs)} inputs are listed here, the manifest has all"
    result = VerificationResult(task.digest, inputs, outputs, size, signed)
    return Report(True, "Verified", message, result=result)


def _signed(task: VerificationTask, store: Store, manifest: Path) -> Signed | None:
    """Who signed the manifest that was fetched, where that is asked for; TaskError where nobody did who must have."""
    if not task.keys:
        return None
    from modelmill_trainer import signing  # noqa: PLC0415 - most do not ask, and its import takes a while

    found = signing.signed_by(store, task.digest, manifest.read_bytes(), task.keys)
    if found is None and task.signed:
        names = ", ".join(key.name for key in task.keys)
        raise TaskError(
            "SignatureMissing",
            f"none of the Workspace's keys has signed this artifact ({names}); sign it: modelmill sign {task.uri} --key"
            " KEY.pem",
        )
    return found


def _listed(tensors: tuple[Tensor, ...]) -> tuple[TensorSummary, ...]:
    """As many tensors, from the first, as fit the report."""
    listed, room = [], _LISTED_CHARACTERS
    for tensor in tensors:
        room -= len(tensor.name.encode()) + len(tensor.datatype) + 60
        if room < 0:
            break
        listed.append(TensorSummary(tensor.name, tensor.datatype, tensor.shape))
    return tuple(listed)
