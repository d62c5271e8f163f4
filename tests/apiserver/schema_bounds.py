"""Every bound of the committed CRDs, and for each the values that lie just inside and just outside of it.

A bound is one keyword of one node of a schema.  Its values are minimal changes of an object that is good (see
schema_examples); nothing here asks a server.
"""

import copy
import functools
import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from schema_examples import OBJECTS, TEXTS

from live import ROOT

Location = tuple[str | int, ...]  # in an object: ("spec", "columns", 0, "name")
Node = dict[str, Any]
GONE: Any = object()  # as a value: the field is taken away

# What is no bound: it describes, or it is walked into, or it has a table of its own (the CEL rules).
_NO_BOUNDS = {
    *("description", "default", "properties", "items", "additionalProperties"),
    *("x-kubernetes-validations", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-map-keys"),
}
# Inside of these there is no value in particular: every good object is.
WITHOUT_BOUNDARY = ("type", "required", "x-kubernetes-list-type")
_INT64 = 2**63 - 1
# Where a kind has another one's spec as its template.  What stands there word for word is asked of the original.
_TEMPLATES = {
    ("Experiment", "spec.template.spec"): ("TrainingJob", "spec"),
    ("Pipeline", "spec.stages[].trainingJob.spec"): ("TrainingJob", "spec"),
    ("Pipeline", "spec.stages[].experiment.spec"): ("Experiment", "spec"),
}


@functools.cache
def crds() -> dict[str, Node]:
    """The committed CRDs by kind."""
    found = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    return {crd["spec"]["names"]["kind"]: crd for crd in found if crd["kind"] == "CustomResourceDefinition"}


@functools.cache
def schema(kind: str) -> Node:
    (version,) = crds()[kind]["spec"]["versions"]
    root: Node = version["schema"]["openAPIV3Schema"]
    return root


def nodes(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every node of a schema by its path: spec.columns[].name; the values of a map as spec.resources.limits{}."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}" if path else name)
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], path + "{}")


class Bound(NamedTuple):
    kind: str
    path: str
    keyword: str
    limit: Any
    node: Node

    @property
    def part(self) -> str:
        """spec, status or metadata."""
        return self.path.partition(".")[0]

    def __str__(self) -> str:
        limit = f" {self.limit}" if self.keyword in ("required", "format") else ""
        return f"{self.kind} {self.path} {self.keyword}{limit}"


class Change(NamedTuple):
    """One value put into one of a kind's good objects."""

    kind: str
    example: int
    location: Location
    value: Any

    def document(self, of: Node | None = None) -> Node:
        """The good object, or another one of its kind, with the change."""
        document = copy.deepcopy(of or OBJECTS[self.kind][self.example])
        *parents, last = self.location
        parent: Any = document
        for key in parents:
            parent = parent[key]
        if self.value is GONE:
            del parent[last]
        else:
            parent[last] = self.value
        return document

    def settled(self) -> Node | None:
        """The document with what has to follow from the change: a ModelVersion's name.  None: nothing can follow."""
        document = self.document()
        if self.kind != "ModelVersion":
            return document
        spec = document["spec"]
        if self.location == ("metadata", "name"):
            model, _, number = self.value.rpartition("-")
            if not model or not number.isdigit():
                return None
            spec["modelRef"]["name"], spec["version"] = model, int(number)
        document["metadata"]["name"] = f"{spec['modelRef']['name']}-{spec['version']}"
        return document

    @property
    def field(self) -> str:
        """The location as the API server writes it: spec.columns[0].name."""
        text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.location)
        return text.removeprefix(".")


def bounds(kind: str) -> Iterator[Bound]:
    """The bounds of a kind.  The types of apiVersion, kind and metadata are the API server's own matter."""
    for path, node in nodes(schema(kind)):
        if path in ("", "apiVersion", "kind", "metadata") or is_copied(kind, path, node):
            continue
        for keyword, limit in node.items():
            if keyword in _NO_BOUNDS or (path == "metadata.name" and keyword == "type"):
                continue
            if keyword == "required":
                yield from (Bound(kind, path, keyword, name, node) for name in limit)
            elif (keyword, limit) != ("x-kubernetes-list-type", "atomic"):
                yield Bound(kind, path, keyword, limit, node)
    yield from (Bound(kind, "", "required", name, schema(kind)) for name in schema(kind).get("required", ()))


def is_copied(kind: str, path: str, node: Node) -> bool:
    """Whether the node is, with all that is below it, the one that another kind has at the same place of its spec."""
    for (of, template), (original, spec) in _TEMPLATES.items():
        rest = path.removeprefix(template)
        if of == kind and rest != path and node == _by_path(original).get(spec + rest):
            return True
    return False


@functools.cache
def _by_path(kind: str) -> dict[str, Node]:
    return dict(nodes(schema(kind)))


def reached(kind: str, path: str) -> Iterator[Change]:
    """Where the kind's good objects have the node with this path, each with the value that is there."""
    for number, document in enumerate(OBJECTS[kind]):
        for found, location, value in _values(schema(kind), document, "", ()):
            if found == path:
                yield Change(kind, number, location, value)


def _values(node: Node, value: Any, path: str, location: Location) -> Iterator[tuple[str, Location, Any]]:
    yield path, location, value
    if "items" in node:
        for index, item in enumerate(value):
            yield from _values(node["items"], item, f"{path}[]", (*location, index))
    elif "additionalProperties" in node:
        for key, item in value.items():
            yield from _values(node["additionalProperties"], item, path + "{}", (*location, key))
    else:
        for name, child in node.get("properties", {}).items():
            if name in value:
                yield from _values(child, value[name], f"{path}.{name}" if path else name, (*location, name))


class Refusal(NamedTuple):
    """A change that breaks one bound, and what the API server has to say of it."""

    change: Change
    field: str
    words: str


def outside(bound: Bound) -> list[Refusal]:
    """Changes that break this bound."""
    here = next(reached(bound.kind, bound.path), None)
    if here is None:
        return []
    if bound.keyword == "required":
        missing = here._replace(location=(*here.location, bound.limit), value=GONE)
        return [Refusal(missing, missing.field, "Required value")]
    if bound.keyword == "x-kubernetes-list-type":  # a set, or a map: the first item once more
        twice = here._replace(value=[*here.value, here.value[0]])
        return [Refusal(twice, f"{here.field}[{len(here.value)}]", "Duplicate value")]
    return [
        Refusal(here._replace(value=value), here.field, words.format(bound.limit))
        for value, words in _beyond(bound, here.value)
    ]


def _beyond(bound: Bound, good: Any) -> list[tuple[Any, str]]:
    """Values that break the bound, with the words of the answer; {} in them is the limit."""
    limit, node = bound.limit, bound.node
    match bound.keyword:
        case "type":
            wrong: dict[str, list[Any]] = {
                "string": [7],
                "integer": [1.5, "1"],
                "boolean": ["true"],
                "object": ["{}"],
                "array": ["[]"],
            }
            # Of a text with a format, the API server names the format.
            name = node.get("format", limit) if limit == "string" else limit
            return [(value, f"must be of type {name}") for value in wrong[limit]]
        case "format" if limit == "int64":  # a larger number is no integer to the API server, whatever the format
            return [(value, "must be of type integer") for value in (_INT64 + 1, -_INT64 - 2)]
        case "enum":
            return [(value, "Unsupported value") for value in (limit[0] + "x", limit[0].swapcase(), "")]
        case "minimum":
            return [(limit - 1, "should be greater than or equal to ")]
        case "maximum":
            return [(limit + 1, "should be less than or equal to ")]
        case "pattern" | "format" | "minLength" | "maxLength":
            return _texts_beyond(bound, good)
        case "minItems":
            return [(items(node, good, limit - 1), "should have at least {} items")]
        case "maxItems":
            return [(items(node, good, limit + 1), "must have at most {} items")]
        case "maxProperties":
            more = {letters(number): next(iter(good.values())) for number in range(limit + 1 - len(good))}
            return [({**good, **more}, "must have at most {} items")]
    return []  # a keyword that is new here: its test fails until it is known how to break it


def _texts_beyond(bound: Bound, good: str) -> list[tuple[str, str]]:
    limit, node = bound.limit, bound.node
    match bound.keyword:
        case "format":
            return [(text, "must be of type {}") for text in TEXTS[limit][1]]
        case "minLength":
            return [(good[: limit - 1], "should be at least {} chars long")]
        case "maxLength":  # where the pattern has a length of its own, any text that is too long
            return [(of_length(node, limit + 1, good) or "a" * (limit + 1), "may not be more than {} ")]
    shortest, longest = node.get("minLength", 0), node.get("maxLength", _INT64)
    return [(text, "should match '{}'") for text in TEXTS[limit][1] if shortest <= len(text) <= longest]


def inside(bound: Bound) -> list[list[Change]]:
    """What must be taken just inside of this bound: for each value the changes of which one has to be good.

    One: other rules may forbid the value in some places.
    """
    places = list(reached(bound.kind, bound.path))
    values = [_within(bound, place.value) for place in places]
    by_value: list[list[Change]] = []
    for position in range(max(map(len, values), default=0)):
        changes = [p._replace(value=v[position]) for p, v in zip(places, values, strict=True) if position < len(v)]
        by_value.append(changes)
    return by_value


def _within(bound: Bound, good: Any) -> list[Any]:
    limit, node = bound.limit, bound.node
    match bound.keyword:
        case "format" if limit == "int64":
            return [node.get("maximum", _INT64), node.get("minimum", -_INT64 - 1)]
        case "format" | "pattern":
            shortest, longest = node.get("minLength", 0), node.get("maxLength", _INT64)
            return [text for text in TEXTS[limit][0] if shortest <= len(text) <= longest]
        case "enum":
            return list(limit)
        case "minLength" | "maxLength":
            text = good if len(good) == limit else of_length(node, limit, good)
            return [] if text is None else [text]
        case "minimum" | "maximum":
            return [limit]
        case "minItems" | "maxItems":
            return [items(node, good, limit)]
        case "maxProperties":
            if "x-kubernetes-validations" not in node:  # any key will do
                good = good | {letters(number): next(iter(good.values())) for number in range(limit - len(good))}
            return [good] if len(good) == limit else []
    return []


def of_length(node: Node, length: int, good: str) -> str | None:
    """A text of that length that the node's pattern or format lets in, made of one that it does; or None."""
    texts = [good, *TEXTS.get(node.get("pattern") or node.get("format", ""), ([], []))[0]]
    for text in texts:
        for start, end in itertools.combinations(range(len(text) + 1), 2):
            repeats, rest = divmod(length - len(text) + end - start, end - start)
            if rest == 0 and repeats >= 0:
                longer = text[:start] + text[start:end] * repeats + text[end:]
                if _fits(node, longer):
                    return longer
    return None


def _fits(node: Node, text: str) -> bool:
    pattern = node.get("pattern", "")
    if node.get("format") == "date-time":
        pattern = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"
    return re.search(pattern, text) is not None and ("\n" not in text or r"\n" in pattern)


def items(node: Node, good: list[Any], count: int) -> list[Any]:
    """`count` items made of the first good one, told apart where they must be."""
    if node.get("x-kubernetes-list-type") == "set":
        return [letters(number) for number in range(count)]
    made = [copy.deepcopy(good[0]) for _ in range(count)]
    for number, item in enumerate(made):
        for key in node.get("x-kubernetes-list-map-keys", ()):
            item[key] = letters(number)
    return made


def letters(number: int) -> str:
    """Three small letters for each number below 17576: part of a name under every pattern."""
    digits = []
    for _ in range(3):
        number, digit = divmod(number, 26)
        digits.append(chr(ord("a") + digit))
    return "".join(reversed(digits))


def largest(node: Node, start: str = "a") -> Any:
    """The largest value that the node lets in; a text starts with `start` where no pattern says otherwise."""
    if "enum" in node:
        return max(node["enum"], key=len)
    match node["type"]:
        case "string":
            return of_length(node, node["maxLength"], start)
        case "integer":
            return node.get("maximum", _INT64)
        case "boolean":
            return False  # in JSON, the longer one
        case "array":
            return [_item(node, letters(number)) for number in range(node["maxItems"])]
        case "object":
            return {name: largest(child) for name, child in node["properties"].items()}
    raise ValueError(f"no largest value is known of {node}")


def _item(node: Node, start: str) -> Any:
    """The largest item of a list, told apart from the others by `start`."""
    item = largest(node["items"], start)
    for key in node.get("x-kubernetes-list-map-keys", ()):
        item[key] = largest(node["items"]["properties"][key], start)
    return item
