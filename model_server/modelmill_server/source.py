"""What a person names on the command line, as an artifact folder: a folder, a bare ONNX file, or a URI."""

import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modelmill_contracts import artifact, digest, onnx_signature
from modelmill_contracts.artifact import File, Manifest
from modelmill_contracts.folder import ArtifactError
from modelmill_contracts.task import StoreLocation
from modelmill_server.errors import NotServableError

_ARTIFACT = re.compile(r"(?P<store>.+)/artifacts/sha256-(?P<hex>[0-9a-f]{64})/?")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_ENDPOINT, _REGION = "AWS_ENDPOINT_URL", "AWS_REGION"  # as the AWS tools call them


def is_uri(source: str) -> bool:
    return "://" in source


def name_of(source: str) -> str:
    """A model's name made of where it lies."""
    if _ARTIFACT.fullmatch(source):
        return "model"  # a digest is no name
    path = Path(unquote(urlsplit(source).path) if is_uri(source) else source).resolve()
    name = path.parent.name if path.name == artifact.ONNX else path.stem if path.suffix == ".onnx" else path.name
    return _NOT_IN_NAMES.sub("-", name)[:253].strip("._-") or "model"


def prepare(source: str, expected: str | None, place: Path) -> tuple[Path, str | None]:
    """The artifact folder, and the digest that it must have where one is known.

    What is not in a folder already is brought into the empty `place`.  Raises ArtifactError,
    NotServableError or OSError.
    """
    if is_uri(source):
        if urlsplit(source).scheme != "file":
            return _fetched(source, expected, place)
        if _ARTIFACT.fullmatch(source):
            expected = expected or _digest_in(source)
        source = unquote(urlsplit(source).path)
    path = Path(source)
    if path.is_dir() and not (path / artifact.MANIFEST).exists() and (path / artifact.ONNX).is_file():
        path = path / artifact.ONNX
    if path.is_dir() or (not path.exists() and path.suffix != ".onnx"):
        return path, expected  # who serves says what is wrong with it
    if expected is not None:
        raise NotServableError("DigestUnknown", f"{path.name} has no manifest that --digest could be compared with")
    return _wrapped(path, place), None


def _digest_in(source: str) -> str:
    found = _ARTIFACT.fullmatch(source)
    if found is None:
        raise ArtifactError(
            "UriMismatch", f"{source} is no artifact: it must end in /artifacts/sha256-... as ModelVersions say it"
        )
    return f"{digest.ALGORITHM}:{found['hex']}"


def _fetched(source: str, expected: str | None, place: Path) -> tuple[Path, str]:
    from modelmill_contracts.store import StoreError  # noqa: PLC0415 - its client takes a while to import
    from modelmill_server import fetch  # noqa: PLC0415

    expected = expected or _digest_in(source)
    location = StoreLocation(source.partition("/artifacts/")[0], os.environ.get(_ENDPOINT), os.environ.get(_REGION))
    try:
        fetch.fetch(location, source, expected, place)
    except StoreError as error:
        raise NotServableError(error.reason, str(error)) from error
    return place, expected


def _wrapped(path: Path, place: Path) -> Path:
    """A folder with a manifest that says what the graph itself says."""
    if path.suffix != ".onnx":
        raise NotServableError(
            "ModelUnknown",
            f"{path.name} is neither an artifact folder nor an .onnx file; a pickle is never loaded here: make an"
            " artifact of it with modelmill pack",
        )
    import onnxruntime  # noqa: PLC0415 - takes a while to import

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    place.mkdir(parents=True, exist_ok=True)
    file = place / artifact.ONNX
    try:
        # A copy: whoever overwrites the file in place must not change what is served, nor what a worker loads later.
        shutil.copyfile(path, file)
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        inputs = onnx_signature.tensors(session.get_inputs())
        outputs = onnx_signature.tensors(session.get_outputs())
    except ValueError as error:
        raise NotServableError("ModelInvalid", f"{path.name}: {error}, or use modelmill pack") from error
    except OSError:
        raise
    except Exception as error:
        raise NotServableError(
            "ModelInvalid",
            f"onnxruntime {onnxruntime.__version__} cannot load {path.name}: {error}; weights have to be in the same"
            " file",
        ) from error
    listed = (File(file.name, digest.of_file(file), file.stat().st_size),)
    manifest = Manifest("onnx", listed, inputs, outputs)
    (place / artifact.MANIFEST).write_bytes(artifact.encode(manifest))
    return place
