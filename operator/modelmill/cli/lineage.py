"""`kubectl mill lineage KIND/NAME`: what an object was made of, and what was made of it.

    Dataset versions -> TrainingJob -> ModelVersion -> ModelDeployment
    Dataset versions -> other Datasets' versions       ModelApproval

It is read from the fields that hold (spec.lineage, status), and not from labels.  What is gone by now is named all the
same, where something refers to it.
"""

import argparse
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from modelmill.api.crd import KINDS
from modelmill.api.dataset import Dataset
from modelmill.api.model import Model
from modelmill.api.modelapproval import ModelApproval
from modelmill.api.modeldeployment import ModelDeployment
from modelmill.api.modelversion import ModelVersion
from modelmill.api.schema import GROUP, Resource
from modelmill.api.trainingjob import TrainingJob
from modelmill.cli.cluster import Cluster, CommandError, ForbiddenError, Manifest
from modelmill.cli.tree import Lines, Tree, drawn

NAME = "lineage"
HELP = "Draw what an object was made of, and what was made of it."
ASKED: tuple[type[Resource], ...] = (Dataset, TrainingJob, Model, ModelVersion, ModelApproval, ModelDeployment)
_DIGITS = 16  # of a digest: as many as labels have


class Asked(NamedTuple):
    """What the user asks about; `version` is the beginning of a Dataset version's digits, or empty."""

    kind: type[Resource]
    name: str
    version: str


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "object",
        metavar="KIND/NAME",
        type=asked,
        help="such as mver/triage-7, mdep/triage, tjob/triage-forest, dset/tumours, or one version: dset/tumours@4f00",
    )


def asked(text: str) -> Asked:
    """KIND/NAME or KIND/NAME@VERSION as the user writes it; ArgumentTypeError where it is neither."""
    kind_name, slash, rest = text.partition("/")
    name, _, version = rest.partition("@")
    if not slash or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KIND/NAME, such as mver/triage-7")
    wanted = kind_name.lower().removesuffix(f".{GROUP}")
    kind = next((k for k in KINDS if wanted in (k.__name__.lower(), k.plural, k.short)), None)
    if kind is None or kind not in ASKED:
        known = ", ".join(f"{k.__name__} ({k.short})" for k in ASKED)
        raise argparse.ArgumentTypeError(f"{kind_name!r} has no lineage; ask for one of {known}")
    if version and kind is not Dataset:
        raise argparse.ArgumentTypeError(f"only a Dataset has versions by digest; leave @{version} out")
    return Asked(kind, name, version.removeprefix("sha256:"))


def run(arguments: argparse.Namespace, cluster: Cluster, lines: Lines) -> str:
    wanted: Asked = arguments.object
    found: dict[str, list[Manifest]] = {}
    unseen: list[str] = []
    for kind in ASKED:
        try:
            found[kind.__name__] = cluster.objects(kind)
        except ForbiddenError as error:
            if kind is wanted.kind:
                raise
            unseen.append(str(error))
    return "\n".join([*told(wanted, Records(found), cluster.namespace, lines), *(f"({text})" for text in unseen)])


def told(wanted: Asked, records: "Records", namespace: str, lines: Lines) -> list[str]:
    """The lineage as lines of text; CommandError where there is no such object."""
    kind = wanted.kind.__name__
    manifest = records.get(kind, wanted.name)
    if manifest is None:
        raise CommandError(_missing(wanted, records, namespace))
    if wanted.version:
        version = _the_one(wanted, records, namespace)
        title = _dataset_line(records, wanted.name, version)
        above, below = _above_data(records, wanted.name, version), _below_data(records, wanted.name, version)
    else:
        title = _LINES[kind](records, manifest)
        above, below = _ABOVE.get(kind, _nothing)(records, manifest), _BELOW.get(kind, _nothing)(records, manifest)
    result = [title]
    for heading, trees in (("made of", tuple(above)), ("made of it", tuple(below))):
        if trees:
            result += ["", *drawn(Tree(heading, trees), lines)]
    return result if len(result) > 1 else [title, "", _ALONE]


_ALONE = "nothing was made of it, and nothing is known of what it was made of"


def _the_one(wanted: Asked, records: "Records", namespace: str) -> str:
    """The one version of the Dataset that begins with the digits; CommandError where there are none or several."""
    known = records.versions(wanted.name)
    fit = [version for version in known if _digits(version).startswith(wanted.version)]
    if len(fit) == 1:
        return fit[0]
    many = f"{len(fit)} versions" if fit else "no version"
    raise CommandError(
        f"Dataset {wanted.name} in namespace {namespace} has {many} beginning with {wanted.version}; it has "
        + (", ".join(map(_short, known)) or "none")
    )


def _missing(wanted: Asked, records: "Records", namespace: str) -> str:
    kind = wanted.kind.__name__
    names = [m["metadata"]["name"] for m in records.all(kind)]
    said = f"there is no {kind} {wanted.name} in namespace {namespace}"
    near = difflib.get_close_matches(wanted.name, names, n=3, cutoff=0.5) or names[:3]
    return f"{said}; there is {', '.join(near)}" if near else f"{said}, nor any other; is it another one (-n)?"


class Records:
    """What was read, by kind."""

    def __init__(self, found: Mapping[str, Iterable[Manifest]]) -> None:
        self._found = {kind: sorted(manifests, key=_name) for kind, manifests in found.items()}

    def all(self, kind: str) -> list[Manifest]:
        return self._found.get(kind, [])

    def get(self, kind: str, name: str) -> Manifest | None:
        return next((m for m in self.all(kind) if _name(m) == name), None)

    def versions(self, dataset: str) -> list[str]:
        """The Dataset's versions, the newest first; last those that are only referred to."""
        listed = [entry["version"] for entry in self.history(dataset)]
        runs = [r["status"]["datasetVersion"] for r in self.runs(dataset) if "datasetVersion" in r.get("status", {})]
        models = [d["version"] for v in self.all("ModelVersion") if (d := _data(v)) and d["name"] == dataset]
        return list(dict.fromkeys((*listed, *sorted({*runs, *models}))))

    def history(self, dataset: str) -> list[Manifest]:
        found = self.get("Dataset", dataset) or {}
        return list(found.get("status", {}).get("history", ()))

    def runs(self, dataset: str) -> list[Manifest]:
        return [r for r in self.all("TrainingJob") if r["spec"]["data"]["datasetRef"]["name"] == dataset]

    def run_of(self, version: Manifest) -> Manifest | None:
        """The TrainingJob that made a version, where it is still there."""
        maker = _lineage(version).get("trainingJob", {})
        found = self.get("TrainingJob", maker.get("name", ""))
        return found if found is not None and found["metadata"]["uid"] == maker.get("uid") else None

    def versions_of(self, model: str) -> list[Manifest]:
        mine = [v for v in self.all("ModelVersion") if v["spec"]["modelRef"]["name"] == model]
        return sorted(mine, key=lambda v: -int(v["spec"]["version"]))


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _lineage(version: Manifest) -> Manifest:
    found: Manifest = version["spec"].get("lineage", {})
    return found


def _data(version: Manifest) -> Manifest | None:
    found: Manifest | None = _lineage(version).get("dataset")
    return found


def _digits(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _short(digest: str) -> str:
    return _digits(digest)[:_DIGITS]


# What one line says of an object.


def _condition(manifest: Manifest, type_: str) -> str:
    """The type where it is True, else the reason why not."""
    for condition in manifest.get("status", {}).get("conditions", ()):
        if condition["type"] == type_:
            return type_ if condition["status"] == "True" else str(condition["reason"])
    return "not seen yet"


def _dataset_line(records: Records, name: str, version: str) -> str:
    entry = next((e for e in records.history(name) if e["version"] == version), None)
    more = "not listed any more" if entry is None else f"{entry['rows']} rows, {entry['observedAt']}"
    return f"Dataset {name}@{_short(version)}  {more}"


def _run_line(_: Records, run: Manifest) -> str:
    metrics = "".join(f", {m['name']} {m['value']}" for m in run.get("status", {}).get("metrics", ())[:2])
    return f"TrainingJob {_name(run)}  {_condition(run, 'Succeeded')}{metrics}"


def _version_line(_: Records, version: Manifest) -> str:
    digest = version["spec"]["artifact"]["digest"]
    return f"ModelVersion {_name(version)}  {_condition(version, 'Ready')}, {_short(digest)}"


def _model_line(_: Records, model: Manifest) -> str:
    return f"Model {_name(model)}  last version {model.get('status', {}).get('lastVersion', 0)}"


def _deployment_line(_: Records, deployment: Manifest) -> str:
    stable = deployment.get("status", {}).get("stable")
    if stable is None:
        serves = "nothing"
    else:
        serves = f"version {stable['version']}" if "version" in stable else "an artifact by its uri"
    return f"ModelDeployment {_name(deployment)}  serves {serves}"


def _approval_line(_: Records, approval: Manifest) -> str:
    return f"ModelApproval {_name(approval)}  {approval['spec']['decision']} by {approval['spec']['by']}"


def _plain_dataset_line(_: Records, dataset: Manifest) -> str:
    return f"Dataset {_name(dataset)}  {_condition(dataset, 'Ready')}"


# What it was made of.


def _above_data(
    records: Records, name: str, version: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> Iterator[Tree]:
    entry = next((e for e in records.history(name) if e["version"] == version), {})
    below = seen | {(name, version)}  # contents may come back: then it was drawn already
    for source in entry.get("from", ()):
        pair = (source["name"], source["version"])
        more = tuple(_above_data(records, *pair, below)) if pair not in below else ()
        yield Tree(_dataset_line(records, *pair), more)


def _data_tree(records: Records, name: str, version: str) -> Tree:
    return Tree(_dataset_line(records, name, version), tuple(_above_data(records, name, version)))


def _above_run(records: Records, run: Manifest) -> Iterator[Tree]:
    status = run.get("status", {})
    commit = run["metadata"].get("annotations", {}).get(f"{GROUP}/git-commit")
    if commit:
        yield Tree(f"Git commit {commit}")
    if "recipe" in status:
        yield Tree(f"recipe {_short(status['recipe'])}")
    if "datasetVersion" in status:
        yield _data_tree(records, run["spec"]["data"]["datasetRef"]["name"], status["datasetVersion"])


def _above_version(records: Records, version: Manifest) -> Iterator[Tree]:
    lineage, run = _lineage(version), records.run_of(version)
    if not lineage:
        yield Tree("what somebody put into the store: the version was written by hand")
    if "gitCommit" in lineage:
        yield Tree(f"Git commit {lineage['gitCommit']}")
    if "trainingJob" in lineage:
        name = lineage["trainingJob"]["name"]
        yield Tree(_run_line(records, run) if run is not None else f"TrainingJob {name}  gone")
    if "recipe" in lineage:
        yield Tree(f"recipe {_short(lineage['recipe'])}")
    data = _data(version)
    if data is not None:
        yield _data_tree(records, data["name"], data["version"])


def _above_deployment(records: Records, deployment: Manifest) -> Iterator[Tree]:
    """The versions that it serves, brings up or can go back to."""
    for version, role in _served(records, deployment):
        yield Tree(f"{_version_line(records, version)}, {role}", tuple(_above_version(records, version)))


def _served(records: Records, deployment: Manifest) -> Iterator[tuple[Manifest, str]]:
    for version in sorted(records.all("ModelVersion"), key=lambda v: -int(v["spec"]["version"])):
        role = _role(deployment, version)
        if role is not None:
            yield version, role


def _role(deployment: Manifest, version: Manifest) -> str | None:
    """What the version is to the ModelDeployment; None: nothing."""
    status, chosen = deployment.get("status", {}), deployment["spec"]["model"]
    model, number = version["spec"]["modelRef"]["name"], version["spec"]["version"]
    digest = version["spec"]["artifact"]["digest"]
    promoted = [
        (p.get("model", chosen.get("name")), p.get("version")) == (model, number)
        or ("version" not in p and p.get("artifact", {}).get("digest") == digest)
        for p in status.get("history", ())
    ]
    if promoted and promoted[0]:
        return "serves"
    if chosen.get("name") == model and status.get("candidate", {}).get("version") == number:
        return "comes up"
    if chosen.get("name") == model and chosen.get("version") == number:
        return "is to serve"
    return "served before" if any(promoted) else None


def _above_approval(records: Records, approval: Manifest) -> Iterator[Tree]:
    name = approval["spec"]["modelVersionRef"]["name"]
    version = records.get("ModelVersion", name)
    if version is None:
        yield Tree(f"ModelVersion {name}  not there")
    else:
        yield Tree(_version_line(records, version), tuple(_above_version(records, version)))


# What was made of it.


def _below_data(
    records: Records, name: str, version: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> Iterator[Tree]:
    below = seen | {(name, version)}
    for dataset in records.all("Dataset"):
        for entry in records.history(_name(dataset)):
            if any((f["name"], f["version"]) == (name, version) for f in entry.get("from", ())):
                pair = (_name(dataset), entry["version"])
                more = tuple(_below_data(records, *pair, below)) if pair not in below else ()
                yield Tree(_dataset_line(records, *pair), more)
    for run in records.runs(name):
        if run.get("status", {}).get("datasetVersion") == version:
            yield Tree(_run_line(records, run), tuple(_below_run(records, run)))
    for made in records.all("ModelVersion"):
        data = _data(made)
        of_it = data is not None and (data["name"], data["version"]) == (name, version)
        if of_it and records.run_of(made) is None:  # else it is below its run
            yield Tree(_version_line(records, made), tuple(_below_version(records, made)))


def _below_dataset(records: Records, dataset: Manifest) -> Iterator[Tree]:
    name = _name(dataset)
    for version in records.versions(name):
        yield Tree(_dataset_line(records, name, version), tuple(_below_data(records, name, version)))


def _below_run(records: Records, run: Manifest) -> Iterator[Tree]:
    named = run.get("status", {}).get("modelVersion")
    for version in records.all("ModelVersion"):
        made = _lineage(version).get("trainingJob", {}).get("uid") == run["metadata"]["uid"]
        if made or _name(version) == named:
            yield Tree(_version_line(records, version), tuple(_below_version(records, version)))
    if named is not None and records.get("ModelVersion", named) is None:
        yield Tree(f"ModelVersion {named}  gone")


def _below_version(records: Records, version: Manifest) -> Iterator[Tree]:
    for approval in records.all("ModelApproval"):
        if approval["spec"]["modelVersionRef"]["name"] == _name(version):
            yield Tree(_approval_line(records, approval))
    for deployment in records.all("ModelDeployment"):
        role = _role(deployment, version)
        if role is not None:
            yield Tree(f"{_deployment_line(records, deployment)}; this one {role}")


def _below_model(records: Records, model: Manifest) -> Iterator[Tree]:
    for version in records.versions_of(_name(model)):
        yield Tree(_version_line(records, version), tuple(_below_version(records, version)))


def _nothing(_: Records, __: Manifest) -> Iterator[Tree]:
    return iter(())


_LINES: dict[str, Callable[[Records, Manifest], str]] = {
    "Dataset": _plain_dataset_line,
    "TrainingJob": _run_line,
    "Model": _model_line,
    "ModelVersion": _version_line,
    "ModelApproval": _approval_line,
    "ModelDeployment": _deployment_line,
}
_ABOVE: dict[str, Callable[[Records, Manifest], Iterator[Tree]]] = {
    "TrainingJob": _above_run,
    "ModelVersion": _above_version,
    "ModelApproval": _above_approval,
    "ModelDeployment": _above_deployment,
}
_BELOW: dict[str, Callable[[Records, Manifest], Iterator[Tree]]] = {
    "Dataset": _below_dataset,
    "TrainingJob": _below_run,
    "Model": _below_model,
    "ModelVersion": _below_version,
}
