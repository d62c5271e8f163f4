"""The CRDs: generated, committed, and structural."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelmill.api import crd

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


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.__name__)
def test_it_is_small_and_a_status_has_no_defaults(kind: Any) -> None:
    definition = crd.definition(kind)
    assert len(yaml.safe_dump(definition)) < 256 * 1024
    status = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert not [path for path, node in nodes(status) if "default" in node]
