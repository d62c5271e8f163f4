"""`modelmill`: what a person does on a machine of their own: `modelmill pack`, `modelmill sign`."""

import argparse
import os
import sys
from pathlib import Path

from modelmill_contracts import __version__, digest
from modelmill_trainer.pins import pin


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 refused (and said why), 2 wrong usage."""
    options = _parser().parse_args(arguments)
    result: int = options.run(options)
    return result


def _sign(options: argparse.Namespace) -> int:
    try:  # what the other command does not need
        from modelmill_contracts.folder import ArtifactError  # noqa: PLC0415
        from modelmill_contracts.store import ARTIFACTS, Store, StoreError  # noqa: PLC0415
        from modelmill_contracts.task import StoreLocation  # noqa: PLC0415
        from modelmill_trainer import signing  # noqa: PLC0415
        from modelmill_trainer.failure import TaskError  # noqa: PLC0415
    except ImportError as error:
        return _refuse(f"{error}: install it with pip install 'modelmill[trainer]'")
    where, _, name = options.artifact.rstrip("/").partition(f"/{ARTIFACTS}")
    expected = name.replace("-", ":", 1)
    try:
        digest.hex_of(expected)
    except ValueError:
        return _refuse(
            f"{options.artifact} is no artifact: it must end in /artifacts/sha256-... as ModelVersions say it"
        )
    location = StoreLocation(where, os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_REGION"))
    try:
        made = signing.sign(Store(location), expected, signing.read_key(options.key))
    except (TaskError, StoreError, ArtifactError) as error:
        return _refuse(str(error))
    print(f"{'signed' if made.new else 'signed before'}: {where}/{made.key}")
    return 0


def _pack(options: argparse.Namespace) -> int:
    pin(os.environ)  # before numpy is imported: the same model gives the same bytes
    try:
        from modelmill_contracts.store import artifact_key  # noqa: PLC0415
        from modelmill_trainer import packing  # noqa: PLC0415
        from modelmill_trainer.failure import TaskError  # noqa: PLC0415
    except ImportError as error:
        return _refuse(f"{error}: install it with its extra trainer (in a clone: pip install '.[trainer]')")
    if options.trusted:
        print("warning: a pickle is opened, which runs whatever code its maker put into it", file=sys.stderr)
    asked = packing.Asked(
        options.model,
        options.rows,
        options.target,
        tuple(options.text),
        options.allow_missing,
        options.trusted,
        options.evaluation,
        tuple(options.slices),
    )
    try:
        packed = packing.pack(asked, options.out)
    except TaskError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror}")
    manifest = packed.manifest
    print(f"{options.out} holds a model for {manifest.runtime}: {packed.digest}")
    if manifest.conversion is not None:
        found = manifest.conversion
        print(f"it agrees with scikit-learn on {found.rows} rows to {found.max_difference:g}")
    if manifest.evaluation is not None:
        shown = ", ".join(f"{name} {value}" for name, value in manifest.metrics.items())
        print(f"on {manifest.evaluation.of} rows of {options.evaluation}: {shown}")
    for note in manifest.notes:
        print(f"note: {note}")
    print(f"serve it: modelmill-server {options.out}")
    print(f"or upload it to a Workspace's store as {artifact_key(packed.digest)}/")
    return 0


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelmill", description="Modelmill on your own machine.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="make an artifact folder from a model file of your own")
    pack.set_defaults(run=_pack)
    pack.add_argument("model", type=Path, help=".onnx, .skops, .joblib, .pkl, or an MLflow model folder")
    pack.add_argument("--rows", type=Path, help="CSV or Parquet rows like those it was trained on")
    pack.add_argument("--out", type=Path, required=True, help="the new folder")
    pack.add_argument("--target", help="the column of the rows that is predicted, and no feature")
    pack.add_argument(
        "--evaluation",
        type=Path,
        metavar="ROWS",
        help="rows with the target that it was not trained on: a Model's tests ask them",
    )
    pack.add_argument(
        "--slice",
        dest="slices",
        action="append",
        default=[],
        metavar="COLUMN",
        help="of the evaluation rows: metrics are computed for each of its values, too",
    )
    pack.add_argument("--text", action="append", default=[], metavar="COLUMN", help="text, although it looks a number")
    pack.add_argument("--allow-missing", action="store_true", help="of an ONNX file: NaN may be sent")
    pack.add_argument(
        "--i-trust-this-pickle",
        dest="trusted",
        action="store_true",
        help="open a pickle, which runs whatever code its maker put into it",
    )
    sign = commands.add_parser("sign", help="sign a stored artifact with a private key of yours")
    sign.set_defaults(run=_sign)
    sign.add_argument("artifact", help="its URI: spec.artifact.uri of a ModelVersion")
    sign.add_argument("--key", type=Path, required=True, help="PEM: Ed25519, or ECDSA on P-256, without a password")
    return parser


if __name__ == "__main__":
    sys.exit(main())
