"""Turns the pydantic models into CustomResourceDefinitions: `python -m modelmill.api.crd [FOLDER]`.

Pydantic's JSON schema is OpenAPI with references and `anyOf null`; a structural schema has neither.  What is
dropped here (titles, references) and added (CEL rules, list types, printer columns) is all there is between.
"""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from modelmill.api.dataset import Dataset
from modelmill.api.experiment import Experiment
from modelmill.api.model import Model
from modelmill.api.modelapproval import ModelApproval
from modelmill.api.modeldeployment import ModelDeployment
from modelmill.api.modelversion import ModelVersion
from modelmill.api.pipeline import Pipeline
from modelmill.api.pipelinerun import PipelineRun
from modelmill.api.schema import CATEGORY, GROUP, NOT_OBSERVED, VERSION, Resource, Rule, Schema
from modelmill.api.trainingjob import TrainingJob
from modelmill.api.usecase import UseCase
from modelmill.api.workspace import Workspace

KINDS: tuple[type[Resource], ...] = (
    Workspace,
    UseCase,
    Dataset,
    TrainingJob,
    Experiment,
    Model,
    ModelVersion,
    ModelApproval,
    ModelDeployment,
    Pipeline,
    PipelineRun,
)

_KEPT = (
    "type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems",
    "minProperties", "maxProperties", "default", "description", "required",
)  # fmt: skip


def definition(kind: type[Resource]) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    name = kind.__name__
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            *({"name": n, "type": t, "jsonPath": p} for n, t, p in kind.columns),
            *({"name": n, "type": t, "jsonPath": p, "priority": 1} for n, t, p in kind.wide),
        ],
        **({"selectableFields": [{"jsonPath": path} for path in kind.selectable]} if kind.selectable else {}),
        "subresources": {"status": {}} | ({"scale": kind.scale} if kind.scale else {}),
        "schema": {"openAPIV3Schema": _root(kind)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "modelmill"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": [kind.short],
                "categories": [CATEGORY],
            },
            "versions": [version],
        },
    }


def _root(kind: type[Resource]) -> dict[str, Any]:
    document = kind.model_json_schema(by_alias=True)
    schema = _structural(document, document.get("$defs", {}), kind)
    # The name is bounded so that the names of what is made for the object fit, and so that rules over it are cheap.
    name = {"type": "string", "maxLength": kind.name_length, "pattern": kind.name_pattern}
    schema["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {"name": name}},
        **schema["properties"],
    }
    schema["properties"]["status"] = {
        **_said(schema["properties"]["status"]),
        # kstatus, and with it Flux and Helm, takes an object that says nothing for one that is done.
        "default": {"observedGeneration": NOT_OBSERVED},
    }
    if kind.rules:
        schema["x-kubernetes-validations"] = [_validation(rule) for rule in kind.rules]
    return schema


def _structural(node: dict[str, Any], definitions: dict[str, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    """One schema node without references and unions with null, with the rules of the model that it describes."""
    node = _resolved(node, definitions)
    result = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        result["enum"] = [node["const"]]
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if isinstance(result.get("default"), dict):
        result["default"] = {key: value for key, value in result["default"].items() if value is not None}
    result.update({key: value for key, value in node.items() if key.startswith("x-kubernetes-") and value})
    if "x-kubernetes-preserve-unknown-fields" in result:
        return result
    if "properties" in node:
        result |= _object(node, definitions, model)
    elif isinstance(node.get("additionalProperties"), dict):
        result |= _map(node, definitions)
    if "items" in node:
        result["items"] = _undescribed(_structural(node["items"], definitions, _model_of(model)))
    return result


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The node with what it refers to in its place."""
    if "anyOf" in node:
        (kept,) = [option for option in node["anyOf"] if option.get("type") != "null"]
        node = {**kept, **{k: v for k, v in node.items() if k not in ("anyOf", "title")}}
        if node.get("default", ...) is None:
            del node["default"]
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        node = {**target, **{k: v for k, v in node.items() if k not in ("$ref", "title")}}
    return node


def _object(node: dict[str, Any], definitions: dict[str, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    fields = {(f.alias or n): f.annotation for n, f in model.model_fields.items()} if model else {}
    described = _described(model) if model else {}
    properties = {
        name: _structural({**child, **described.get(name, {})}, definitions, _model_of(fields.get(name)))
        for name, child in node["properties"].items()
    }
    result: dict[str, Any] = {"properties": properties}
    if model is not None and issubclass(model, Schema) and not issubclass(model, Resource) and model.rules:
        result["x-kubernetes-validations"] = [_validation(rule) for rule in model.rules]
    return result


@cache
def _described(model: type[BaseModel]) -> dict[str, dict[str, str]]:
    """The docstrings of a model's fields, by the fields' names in JSON."""
    said: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, Schema):
            (definition,) = ast.parse(dedent(inspect.getsource(owner))).body
            assert isinstance(definition, ast.ClassDef)  # noqa: S101 - it is the source of a class
            for field, text in pairwise(definition.body):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                        said[name] = docstring
    return {(f.alias or n): {"description": said[n]} for n, f in model.model_fields.items() if n in said}


def _validation(rule: Rule) -> dict[str, Any]:
    about = {"fieldPath": rule.field} if rule.field else {}
    if rule.found:
        values = " + ', ".join(f"{field} ' + self.{field}" for field in rule.found)
        about["messageExpression"] = f"'{rule.message}: found {values}"
    return {"rule": rule.cel, "message": rule.message, **about, "reason": rule.reason}


def _map(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    values = _structural(node["additionalProperties"], definitions, None)
    result: dict[str, Any] = {"additionalProperties": _undescribed(values)}
    keys = node.get("propertyNames", {}).get("enum")
    if keys:
        listed = ", ".join(f"'{key}'" for key in keys)
        rule = Rule(f"self.all(key, key in [{listed}])", f"keys must be among {', '.join(keys)}")
        result["x-kubernetes-validations"] = [_validation(rule)]
    return result


def _undescribed(node: dict[str, Any]) -> dict[str, Any]:
    """An item of a list, or a value of a map.

    `kubectl explain` has one page for a list and its items, and writes both descriptions on it, one after the other:
    the list's says what an item is.
    """
    return {key: value for key, value in node.items() if key != "description"}


def _said(node: Any) -> Any:
    """A status says what was found: the API server must not add to it, and what it copies of a spec has passed the
    rules there."""
    if isinstance(node, dict):
        return {key: _said(value) for key, value in node.items() if key not in ("default", "x-kubernetes-validations")}
    if isinstance(node, list):
        return [_said(value) for value in node]
    return node


def _model_of(annotation: Any) -> Any:
    """The pydantic model inside an annotation such as `tuple[Column, ...] | None`, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_of(argument)
        if found is not None:
            return found
    return None


class _PlainDumper(yaml.SafeDumper):
    """Writes everything out: an anchor in a CRD helps nobody."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def documents() -> dict[str, str]:
    """Every CRD as YAML, by file name."""
    return {
        f"{kind.plural}.yaml": "# Generated by `make crds` from operator/modelmill/api; do not edit.\n"
        + yaml.dump(definition(kind), Dumper=_PlainDumper, sort_keys=False, width=110)
        for kind in KINDS
    }


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "crds")
    for name, text in documents().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
