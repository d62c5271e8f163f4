"""Starting: only a verified artifact is loaded, and a refusal says why where kubelet looks."""

import importlib.util
import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import artifacts
import msgspec
import pytest
from artifacts import Made
from serving import Server, serving

from modelmill_contracts import artifact, profile
from modelmill_contracts.artifact import Manifest, Tensor
from modelmill_server import model
from modelmill_server.errors import NotServableError


def refusal(folder: Path, tmp_path: Path, *options: str) -> dict[str, Any]:
    """Start a server that must not start; its report."""
    path = tmp_path / "termination-log"
    server = Server(folder, *options, variables={"MILL_REPORT": str(path)})
    try:
        assert server.wait() == 1
    finally:
        server.end()
    report: dict[str, Any] = json.loads(path.read_bytes())
    assert report["ok"] is False
    assert any(report["message"] == line["message"] for line in server.lines)
    assert not any(line["message"] == "ready" for line in server.lines)
    return report


@pytest.fixture
def copied(regression: Made, tmp_path: Path) -> Made:
    folder = tmp_path / "model"
    shutil.copytree(regression.folder, folder)
    return Made(folder, regression.digest, regression.estimator, regression.rows)


def changed(made: Made, **changes: Any) -> Made:
    """The artifact with another manifest, and the digest of that."""
    manifest = artifact.decode((made.folder / artifact.MANIFEST).read_bytes())
    manifest = msgspec.structs.replace(manifest, **changes)
    return Made(made.folder, artifacts.write(made.folder, manifest), made.estimator, made.rows)


def test_another_digest(copied: Made, tmp_path: Path) -> None:
    report = refusal(copied.folder, tmp_path, "--digest", "sha256:" + "0" * 64)
    assert report["reason"] == "DigestMismatch"
    assert "manifest.json" in report["message"]


def test_a_model_that_was_changed(copied: Made, tmp_path: Path) -> None:
    with (copied.folder / artifact.ONNX).open("ab") as file:
        file.write(b"x")
    report = refusal(copied.folder, tmp_path, "--digest", copied.digest)
    assert report["reason"] == "DigestMismatch"
    assert "model.onnx" in report["message"]


def test_a_model_behind_a_link(copied: Made, tmp_path: Path) -> None:
    (copied.folder / artifact.ONNX).rename(tmp_path / "elsewhere")
    (copied.folder / artifact.ONNX).symlink_to(tmp_path / "elsewhere")
    assert refusal(copied.folder, tmp_path, "--digest", copied.digest)["reason"] == "NotARegularFile"


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert refusal(tmp_path / "model", tmp_path)["reason"] == "FileMissing"


def test_not_a_manifest(copied: Made, tmp_path: Path) -> None:
    (copied.folder / artifact.MANIFEST).write_text("{}")
    assert refusal(copied.folder, tmp_path)["reason"] == "ManifestInvalid"


def test_a_manifest_that_names_a_file_elsewhere(copied: Made, tmp_path: Path) -> None:
    path = copied.folder / artifact.MANIFEST
    path.write_text(path.read_text().replace("model.onnx", "../model.onnx"))
    assert refusal(copied.folder, tmp_path)["reason"] == "ManifestInvalid"


@pytest.mark.parametrize("runtime", ["pickle", "joblib"])
def test_a_pickle_is_never_loaded(copied: Made, tmp_path: Path, runtime: str) -> None:
    (copied.folder / f"model.{runtime}").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    report = refusal(changed(copied, runtime=runtime).folder, tmp_path)
    assert report["reason"] == "RuntimeUnknown"
    assert "never" in report["message"]


def test_a_model_that_onnxruntime_does_not_know(copied: Made, tmp_path: Path) -> None:
    (copied.folder / artifact.ONNX).write_bytes(b"no onnx")
    assert refusal(changed(copied).folder, tmp_path)["reason"] == "ModelInvalid"


def test_weights_outside_of_the_folder_are_not_read(copied: Made, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(b"\0" * 12)
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="../secret")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 3]) for n in ("input", "predict")]
    nodes = [helper.make_node("Add", ["input", "w"], ["predict"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    onnx_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (copied.folder / artifact.ONNX).write_bytes(onnx_model.SerializeToString())
    assert refusal(changed(copied).folder, tmp_path)["reason"] == "ModelInvalid"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inputs": (Tensor("x", "FP32", (-1, 3)),)}, "ModelMismatch"),
        ({"inputs": (Tensor("input", "FP32", (-1, 4)),), "features": ()}, "WarmUpFailed"),
        ({"inputs": (Tensor("input", "FP32", (-1, 4)),)}, "ManifestInvalid"),
        ({"inputs": (Tensor("input", "FP33", (-1, 3)),)}, "ManifestInvalid"),
        ({"inputs": ()}, "ManifestInvalid"),
        ({"inputs": (Tensor("input", "FP32", (-1, 3, 3)),)}, "ManifestInvalid"),
        ({"outputs": (Tensor("predict", "INT64", (-1, 1)),)}, "ModelMismatch"),
        ({"outputs": (Tensor("predict", "FP32", (-1,)),)}, "ModelMismatch"),
        ({"outputs": (Tensor("predict_proba", "FP32", (-1, 2)),)}, "ModelMismatch"),
        ({"runtime": "skops"}, "ManifestInvalid"),
    ],
)
def test_a_manifest_that_its_model_contradicts(
    copied: Made, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    assert refusal(changed(copied, **changes).folder, tmp_path)["reason"] == reason


def test_a_profile_of_other_features_than_the_models(cancer: Made, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(cancer.folder, folder)
    path = folder / artifact.PROFILE
    known = msgspec.json.decode(path.read_bytes(), type=profile.Profile)
    first, *others = known.features
    of_texts = profile.Categorical(first.name, ("Bern",), (known.rows,))
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, features=(of_texts, *others))))
    made = changed(Made(folder, cancer.digest, cancer.estimator, cancer.rows))
    report = refusal(folder, tmp_path, "--digest", made.digest)
    assert report["reason"] == "WarmUpFailed"
    assert "train again" in report["message"]


@pytest.mark.parametrize("module", ["sklearn", "skops"])
def test_a_skops_model_where_its_packages_are_missing(
    copied: Made, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    (copied.folder / artifact.SKOPS).write_bytes(b"")
    with pytest.raises(NotServableError) as refused:
        model.load(copied.folder, changed(copied, runtime="skops").digest, "model", "1")
    assert refused.value.reason == "RuntimeMissing"
    assert f"no {module}" in str(refused.value)
    dockerfile = (Path(__file__).parents[3] / "Dockerfile").read_text()
    (image,) = re.findall(r"the image (\S+)", str(refused.value))
    assert f" AS {image}\n" in dockerfile


def test_a_skops_file_with_a_foreign_type(tmp_path: Path) -> None:
    from fractions import Fraction

    from skops import io

    folder = tmp_path / "model"
    folder.mkdir()
    io.dump({"x": Fraction(1, 2)}, folder / artifact.SKOPS)
    tensor = Tensor("input", "FP32", (-1, 3))
    manifest = Manifest("skops", (), (tensor,), (Tensor("predict", "INT64", (-1,)),))
    artifacts.write(folder, manifest)
    report = refusal(folder, tmp_path)
    assert report["reason"] == "TypeNotTrusted"
    assert "fractions.Fraction" in report["message"]


def test_a_port_that_is_taken(regression: Made, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        report = refusal(regression.folder, tmp_path, "--port", str(taken.getsockname()[1]))
    assert report["reason"] == "PortUnavailable"


def test_without_a_digest_a_folder_is_served_with_a_notice(regression: Made) -> None:
    server = Server(regression.folder)
    try:
        assert "no --digest" in server.wait_for("no --digest")["message"]
        assert server.wait_for("ready")["digest"] == ""
        assert server.ask("GET", "/v2/models/model").json["parameters"]["digest"] == ""
    finally:
        server.end()


def test_the_log_is_json_lines(regression: Made) -> None:
    with serving(regression) as server:
        ready = server.wait_for("ready")
        assert ready["digest"] == regression.digest
        assert {"time", "level", "message"} <= set(ready)
        assert all("level" in line for line in server.lines)
