"""Sources: what a Dataset's declaration asks of a Job, or why it cannot be asked.

Nothing here depends on time or on what was found before, so that equal askings have equal digests.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from modelmill.api.dataset import Captured, DatasetSpec, Derive, Refresh, Source
from modelmill.api.schema import parse_duration
from modelmill.api.workspace import WorkspaceSpec
from modelmill.core import conditions, pods, retention, schedule, workspace
from modelmill.core.conditions import Waiting
from modelmill.core.jobs import Transform
from modelmill.core.plan import Observed
from modelmill.core.pods import Resources, StoreAccess
from modelmill.core.resources import DERIVED_FIELD, YES, Manifest, dig, inputs_of
from modelmill_contracts import digest, environment, task

CYCLE = "DerivationCycle"
NO_DEPLOYMENT, NOT_CAPTURED = "ModelDeploymentNotFound", "NotCaptured"
# Why the source may not, or cannot, be read any more, whatever was read before.
REFUSED = (
    *(CYCLE, "SourceNotAllowed", "ImageNotAllowed", "IdentityExposed", "InputNotFound"),
    *(NO_DEPLOYMENT, NOT_CAPTURED),
)
_URI_SCHEMES = ("s3", "gs", "az", "https")
_DATABASE = "postgresql"
_VOLUME = "pvc"


@dataclass(frozen=True)
class Input:
    """The newest valid version of a Dataset that another one is derived from."""

    name: str
    version: str
    file: str
    modified_at: str | None


@dataclass(frozen=True)
class Asked:
    """One snapshot as it is asked for."""

    work: task.SnapshotTask  # without what changes from look to look
    store: StoreAccess
    resources: Resources  # as declared
    secret: str | None = None  # for the uri
    url: tuple[str, str] | None = None  # Secret and key
    config_map: tuple[str, str] | None = None
    claim: str | None = None
    transform: Transform | None = None
    inputs: tuple[Input, ...] = ()

    @property
    def digest(self) -> str:
        """Equal askings need one snapshot; new versions of its inputs do not make it another one."""
        # What is allowed decides whether it may be asked, not what is asked.
        work = msgspec.structs.replace(self.work, schemes=())
        rest = {
            "url": self.url,
            "claim": self.claim,
            "transform": self.transform,
            "from": tuple(i.name for i in self.inputs) or None,
            "resources": self.resources if any(values for _, values in self.resources) else None,
        }
        more = {key: value for key, value in rest.items() if value is not None}
        asked = [task.encode(work), self.store.secret, self.secret, self.config_map, *self.store.more]
        return digest.of_json([*asked, more] if more else asked)

    def of_now(self, previous: str | None, until: str = "") -> task.SnapshotTask:
        """The work with the inputs' newest versions, the profile that drift is measured against, and the end of what
        was captured.
        """
        work = msgspec.structs.replace(self.work, previous=previous)
        if work.captured is not None:
            return msgspec.structs.replace(work, captured=msgspec.structs.replace(work.captured, until=until))
        if work.derive is None:
            return work
        return msgspec.structs.replace(work, derive=task.Derivation(self.snapshot_inputs, work.derive.sql))

    @property
    def snapshot_inputs(self) -> tuple[task.SnapshotInput, ...]:
        return tuple(task.SnapshotInput(i.name, i.version, i.file) for i in self.inputs)

    @property
    def variables(self) -> list[dict[str, Any]]:
        """The environment variables with the source's credentials."""
        if self.url is not None:
            return [pods.secret_variable(environment.SOURCE_URL, *self.url)]
        return pods.secret_variables(self.secret, self.work.source_store, environment.SOURCE_PREFIX)


def claim_of(dataset: Manifest) -> str | None:
    """The PersistentVolumeClaim whose volume a Dataset is declared to be read from."""
    scheme, _, rest = (dig(dataset, "spec", "source", "uri") or "").partition("://")
    return rest.partition("/")[0] if scheme == _VOLUME else None


def deployment_of(dataset: Manifest) -> str | None:
    """The ModelDeployment whose captured rows a Dataset is declared to be."""
    name: str | None = dig(dataset, "spec", "source", "deployment", "name")
    return name


def asked(observed: Observed, spec: DatasetSpec) -> Asked | Waiting:
    """The snapshot that the declaration and the Workspace ask for, or why there can be none."""
    store = workspace.working_store(observed)
    if isinstance(store, Waiting):
        return store
    settings = workspace.settings(observed)
    assert settings is not None  # noqa: S101 - its store works
    return _not_scheduled(spec.refresh) or _asked(observed, spec, settings, store)


def _asked(observed: Observed, spec: DatasetSpec, settings: WorkspaceSpec, store: StoreAccess) -> Asked | Waiting:
    source, allowed = spec.source, settings.allow.sources
    resources = pods.declared(spec.resources)
    work = _work(spec, store, tuple(scheme for scheme in allowed if scheme in _URI_SCHEMES))
    if source.derive is not None:
        return _derived(observed, source.derive, settings, Asked(work, store, resources))
    if source.deployment is not None:
        return _captured(observed, source.deployment, Asked(work, store, resources))
    if source.sql is not None:
        if _DATABASE not in allowed:
            return _not_allowed(f"spec.source.sql reads from {_DATABASE}", allowed)
        work = msgspec.structs.replace(work, query=source.sql.query, schemes=(_DATABASE,))
        return Asked(work, store, resources, url=(source.sql.url_ref.name, source.sql.url_ref.key))
    if source.config_map_ref is not None:
        reference = source.config_map_ref
        work = msgspec.structs.replace(work, source=f"{environment.SOURCE_FOLDER}/{reference.key}")
        return Asked(work, store, resources, config_map=(reference.name, reference.key))
    uri = str(source.uri)
    scheme, _, rest = uri.partition("://")
    if scheme not in allowed:
        return _not_allowed(f"spec.source.uri has scheme {scheme}", allowed)
    if scheme == _VOLUME:
        claim, _, path = rest.partition("/")
        work = msgspec.structs.replace(work, source=f"{environment.SOURCE_FOLDER}/{path}")
        return Asked(work, store, resources, claim=claim)
    work = msgspec.structs.replace(work, source=uri, source_store=_source_store(source, store.location))
    return Asked(work, store, resources, secret=source.secret_ref.name if source.secret_ref else None)


def _not_allowed(what: str, allowed: tuple[str, ...]) -> Waiting:
    said = (
        f"{what}; Workspace {workspace.NAME} allows {', '.join(allowed) or 'none'}: add it to spec.allow.sources there,"
        " or use another"
    )
    return Waiting("SourceNotAllowed", said, stalled=True, failed=True)


def _not_scheduled(refresh: Refresh | None) -> Waiting | None:
    if refresh is None:
        return None
    try:
        schedule.parse(refresh.schedule, refresh.time_zone)
    except schedule.ScheduleError as error:
        return Waiting("ScheduleInvalid", f"spec.refresh: {error}", stalled=True, failed=True)
    return None


def _work(spec: DatasetSpec, store: StoreAccess, schemes: tuple[str, ...]) -> task.SnapshotTask:
    declared = spec.expectations
    expected = task.Expectations(
        min_rows=declared.min_rows,
        unique_key=declared.unique_key or (),
        max_null_fraction=declared.max_null_fraction,
        max_drift=declared.drift.max_effect if declared.drift else None,
    )
    work = task.SnapshotTask(
        store=store.location,
        schemes=schemes,
        columns=tuple(
            task.Column(c.name, c.type, c.nullable, c.min, c.max, tuple(c.values or ())) for c in spec.columns
        ),
        extra_columns=spec.extra_columns,
    )
    # What is the default is not written, so that a task without new wishes reads as it always did.
    return work if expected == work.expectations else msgspec.structs.replace(work, expectations=expected)


def _source_store(source: Source, store: task.StoreLocation) -> task.StoreLocation | None:
    """How a bucket that a source names is reached: as it says, else as the store is, if the scheme is the same."""
    scheme, _, rest = str(source.uri).partition("://")
    if scheme not in ("s3", "gs", "az"):
        return None
    if not store.uri.startswith(f"{scheme}://"):
        store = task.StoreLocation("")
    # A Secret of its own says the account's name itself.
    account = source.account or (None if source.secret_ref else store.account)
    endpoint = source.endpoint or store.endpoint
    region = source.region or (store.region if endpoint == store.endpoint else None)
    return task.StoreLocation(f"{scheme}://{rest.partition('/')[0]}", endpoint, region, account)


# What was captured.


def _captured(observed: Observed, wanted: Captured, plain: Asked) -> Asked | Waiting:
    """It is in the Workspace's own store, so there is nothing to allow."""
    deployment = observed.get("ModelDeployment", wanted.name)
    if deployment is None:
        said = f"there is no ModelDeployment {wanted.name} in this namespace yet; create it"
        return Waiting(NO_DEPLOYMENT, said)
    if dig(deployment, "spec", "capture") is None:
        said = (
            f'ModelDeployment {wanted.name} captures nothing; give it a spec.capture, such as {{sample: "0.1"}}: rows'
            " are kept from then on"
        )
        return Waiting(NOT_CAPTURED, said, stalled=True, failed=True)
    rows = task.CapturedRows(
        of=deployment["metadata"]["uid"],
        since=int(parse_duration(wanted.since).total_seconds()),
        labelled=wanted.labels == "Required",
        target=wanted.target,
    )
    return Asked(msgspec.structs.replace(plain.work, captured=rows), plain.store, plain.resources)


# Derivation.


def _derived(observed: Observed, derive: Derive, settings: WorkspaceSpec, plain: Asked) -> Asked | Waiting:
    forbidden = None
    if derive.container is not None:
        where = "spec.source.derive.container"
        forbidden = workspace.forbidden_image(settings, plain.store, derive.container.image, where)
    if forbidden is not None:
        return forbidden
    path = _cycle(observed)
    if path is not None:
        said = f"spec.source.derive.from leads back to itself: {' -> '.join(path)}; take one of them out"
        return Waiting(CYCLE, said, stalled=True, failed=True)
    inputs: list[Input] = []
    for reference in derive.from_:
        found = _input(observed, reference.name, plain.store)
        if isinstance(found, Waiting):
            return found
        inputs.append(found)
    known = tuple(inputs)
    if derive.container is not None:
        container = derive.container
        work = msgspec.structs.replace(plain.work, source=environment.OUTPUT_FOLDER)
        transform = Transform(container.image, container.command or (), container.args)
        return Asked(work, plain.store, plain.resources, transform=transform, inputs=known)
    work = msgspec.structs.replace(plain.work, derive=task.Derivation((), str(derive.sql)))
    return Asked(work, plain.store, plain.resources, inputs=known)


def _input(observed: Observed, name: str, store: StoreAccess) -> Input | Waiting:
    dataset = observed.get("Dataset", name)
    if dataset is None:
        return Waiting("InputNotFound", f"there is no Dataset {name} in this namespace yet; create it")
    versions = [snapshot for snapshot in retention.history(dataset) if snapshot.is_in(store)]
    if not versions:
        condition = conditions.find(dataset, "Ready")
        said = f" ({condition['reason']}: {condition['message']})" if condition else ""
        stalled = conditions.is_true(dataset, "Stalled")
        return Waiting("InputNotReady", f"Dataset {name} has no valid version{said}", stalled, failed=stalled)
    return Input(name, versions[0].version, versions[0].file, dig(dataset, "status", "modifiedAt"))


def _cycle(observed: Observed) -> tuple[str, ...] | None:
    """The path by which the Dataset is derived from itself, the shortest of them; None: it is not."""
    name = observed.subject.name
    others = observed.find("Dataset", DERIVED_FIELD, YES)
    sources = {other["metadata"]["name"]: inputs_of(other) for other in others} | {name: inputs_of(observed.object)}
    paths: list[tuple[str, ...]] = [(name,)]
    seen: set[str] = set()
    for path in paths:  # grows as it goes
        for source in sources.get(path[-1], ()):
            if source == name:
                return (*path, name)
            if source not in seen:
                seen.add(source)
                paths.append((*path, source))
    return None
