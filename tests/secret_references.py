"""Every field of our kinds that names a Secret, as the CRDs say it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from live import ROOT


class SecretReference(NamedTuple):
    plural: str
    kind: str
    path: tuple[str, ...]  # of the reference; "[]" stands for the items of a list, "{}" for the values of a map

    def __str__(self) -> str:
        return f"{self.plural}.{'.'.join(self.path)}"


def secret_references() -> list[SecretReference]:
    found = []
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        definition = yaml.safe_load(path.read_text())
        if definition["kind"] != "CustomResourceDefinition":
            continue
        names = definition["spec"]["names"]
        for version in definition["spec"]["versions"]:
            spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            found += [SecretReference(names["plural"], names["kind"], where) for where in _walk(spec, ("spec",))]
    return found


def _walk(node: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, child in node.get("properties", {}).items():
        # What names a Secret says so, in its name or in the first word of its description.
        if "secret" in name.lower() or child.get("description", "").startswith("Secret "):
            yield (*path, name)
        else:
            yield from _walk(child, (*path, name))
    if "items" in node:
        yield from _walk(node["items"], (*path, "[]"))
    if isinstance(node.get("additionalProperties"), dict):
        yield from _walk(node["additionalProperties"], (*path, "{}"))
