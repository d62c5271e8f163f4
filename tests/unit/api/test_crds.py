"""The CRDs: generated, committed, and structural."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelmill.api import crd
from modelmill.core import serving, trainingjob

FOLDER = Path(__file__).parents[3] / "crds"


def test_the_committed_crds_are_what_the_models_say() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"}
    assert committed == crd.documents(), "run `make crds`"
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(committed) == listed


def nodes(node: Any, path: str = "") -> Any:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from nodes(value, f"{path}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value, f"{path}[]")


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.__name__)
def test_every_list_string_and_map_is_bounded_and_no_number_is_a_float(kind: Any) -> None:
    schema = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for part in ("spec", "status"):
        for path, node in nodes(schema[part], part):
            if not isinstance(node.get("type"), str) or "x-kubernetes-preserve-unknown-fields" in node:
                continue
            assert node["type"] != "number", path
            if node["type"] == "array":
                assert "maxItems" in node, path
                assert "x-kubernetes-list-type" in node, path
            if node["type"] == "string":
                assert {"maxLength", "enum", "format"} & set(node), path
            if "additionalProperties" in node:
                assert "maxProperties" in node, path


def properties(node: Any, path: str) -> Any:
    """Every field below a node of a schema, the fields of a list's items and of a map's values included."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from properties(child, f"{path}.{name}")
    for below, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if below in node:
            yield from properties(node[below], path + mark)


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_described_once_and_shortly(kind: Any) -> None:
    schema = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields = {}
    for part in ("spec", "status"):
        fields |= {part: schema["properties"][part], **dict(properties(schema["properties"][part], part))}
    assert not [path for path, node in fields.items() if not node.get("description")]
    # kubectl explain writes a list's description and its items' one after the other.
    below = [n[key] for n in fields.values() for key in ("items", "additionalProperties") if key in n]
    assert not [node for node in below if "description" in node]
    for path, node in fields.items():
        said = node["description"]
        assert said[0].isupper(), path
        assert said.endswith("."), path
        assert len(said) <= 240, path
        assert "  " not in said, path
        assert "\n" not in said, path


@pytest.mark.parametrize(
    ("kind", "path", "default"),
    [
        (crd.TrainingJob, ("resources",), trainingjob.RESOURCES),
        (crd.ModelDeployment, ("server", "resources"), serving.RESOURCES),
        (crd.ModelDeployment, ("server", "container"), {name: dict(of) for name, of in serving.FRONT_RESOURCES}),
    ],
)
def test_the_default_resources_are_told(kind: Any, path: tuple[str, ...], default: Any) -> None:
    node = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in path:
        node = node["properties"][name]
    quantities = [quantity for values in default.values() for quantity in values.values()]
    assert all(quantity in node["description"] for quantity in quantities), node["description"]


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.__name__)
def test_it_is_small_and_the_only_default_of_a_status_says_that_nobody_has_seen_it(kind: Any) -> None:
    definition = crd.definition(kind)
    assert len(crd.documents()[f"{kind.plural}.yaml"].encode()) < 256 * 1024
    status = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert [path for path, node in nodes(status) if "default" in node] == [""]
