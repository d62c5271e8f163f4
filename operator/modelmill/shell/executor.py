"""The executor: carries out a plan, write by write, and shows the cache what came of it."""

import asyncio
import logging
from collections.abc import Callable
from itertools import groupby

from modelmill.api.schema import API_VERSION
from modelmill.core.plan import (
    Apply,
    Create,
    Delete,
    Guards,
    Listed,
    NoPods,
    Observed,
    Plan,
    Record,
    SetStatus,
    Write,
    is_former,
    is_owned,
)
from modelmill.core.pods import INDEX_LABEL
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, TYPES, Manifest, ResourceType
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.events import Recorder
from modelmill.shell.lease import Fence
from modelmill.shell.watch import Wake

logger = logging.getLogger(__name__)

_JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"  # on the pods of a Job, by Kubernetes


Hindered = Callable[[str, str | None], None]  # kind, why


class Stale(Exception):  # noqa: N818 - not an error: the world moved on, look again
    """What the plan was made from is no longer so."""


class Executor:
    """Writes to the API server for whoever holds the lease."""

    def __init__(
        self, api: Api, cache: Cache, fence: Fence, wake: Wake, events: Recorder, hindered: Hindered = lambda *_: None
    ) -> None:
        """`hindered` is told why no status of a kind can be written, or (None) that one was."""
        self._api = api
        self._hindered = hindered
        self._cache = cache
        self._fence = fence
        self._wake = wake
        self._events = events

    async def carry_out(self, key: ObjectKey, observed: Observed, plan: Plan) -> None:
        """The writes planned from that snapshot, in order; neighbouring creates and applies at the same time.

        Raises ApiError or Stale at the first write that fails: the rest is planned anew.
        """
        for together, writes in groupby(plan.writes, key=lambda w: isinstance(w, Create | Apply)):
            if not together:
                for write in writes:
                    await self._write(key, observed, write)
                continue
            results = await asyncio.gather(*(self._write(key, observed, w) for w in writes), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _write(self, key: ObjectKey, observed: Observed, write: Write) -> None:
        async with self._fence.writing():
            match write:
                case Create():
                    await self._create(key, observed.object, write)
                case Apply():
                    await self._apply(key, observed, write)
                case Delete():
                    await self._delete(key, write)
                case SetStatus():
                    await self._set_status(key, observed.object, write)
                case Record():
                    self._events.record(key, observed.object, write)

    def _remember_refused(self, key: ObjectKey, kind: str, name: str, message: str) -> None:
        if self._cache.set_refused(key, kind, name, message):
            # The rest of the plan would say that the child is on its way.
            raise Stale(f"{kind} {name} is refused: {message}")

    def _accepted(self, key: ObjectKey, kind: str, name: str) -> None:
        if self._cache.set_refused(key, kind, name, None):
            self._wake({key})

    async def _create(self, key: ObjectKey, owner: Manifest, write: Create) -> None:
        resource = TYPES[write.manifest["kind"]]
        namespace, name = write.manifest["metadata"]["namespace"], write.manifest["metadata"]["name"]
        await self._check(key, write.guards)
        try:
            made = await self._api.create(resource, write.manifest)
        except ApiError as error:
            if _refused(error):
                self._remember_refused(key, resource.kind, name, error.message)
                return
            if error.code != 409:
                raise
            found = await self._api.get(resource, namespace, name)
            if found is None:
                raise Stale(f"{resource.kind} {name} went away") from error
            if resource.owned and is_former(found, owner["metadata"]["name"], owner["metadata"]["uid"]):
                raise Stale(f"{resource.kind} {name} of a former {key[0]} is being cleaned up") from error
            if resource.owned and not is_owned(found, owner["metadata"]["uid"]):
                if self._cache.set_foreign(key, resource.kind, name, taken=True):
                    raise Stale(f"{resource.kind} {name} is somebody else's") from error
                return
            if resource.owned and found["metadata"].get("deletionTimestamp"):
                self._wake(self._cache.store(resource.kind, found))
                raise Stale(f"{resource.kind} {name} is being cleaned up") from error
            if resource.owned and (lost := _lost_labels(found, owner["metadata"]["uid"])):
                await self._label(key, resource, found, lost)
            made = found
        self._accepted(key, resource.kind, name)
        self._wake(self._cache.store(resource.kind, made))

    async def _label(self, key: ObjectKey, resource: ResourceType, child: Manifest, labels: dict[str, str]) -> None:
        """Give a child of ours back the labels by which it is seen and found; the rest of the plan did not know it."""
        name = child["metadata"]["name"]
        try:
            mended = await self._api.label(resource, child, labels)
        except ApiError as error:
            if _refused(error):
                self._remember_refused(key, resource.kind, name, error.message)
            elif error.code not in (404, 409):
                raise
        else:
            self._wake(self._cache.store(resource.kind, mended))
        raise Stale(f"{resource.kind} {name} had lost {', '.join(labels)}")

    async def _apply(self, key: ObjectKey, observed: Observed, write: Apply) -> None:
        resource = TYPES[write.manifest["kind"]]
        await self._check(key, write.guards)
        metadata = {**write.manifest["metadata"], "uid": write.uid}
        if write.unchanged:
            metadata["resourceVersion"] = observed.version_of(resource.kind, metadata["name"])
        try:
            applied = await self._api.apply(resource, {**write.manifest, "metadata": metadata})
        except ApiError as error:
            if _refused(error):
                self._remember_refused(key, resource.kind, metadata["name"], error.message)
                return
            if error.code in (404, 409):
                raise Stale(f"{resource.kind} {metadata['name']} is not the one it was") from error
            raise
        self._accepted(key, resource.kind, metadata["name"])
        self._wake(self._cache.store(resource.kind, applied))

    async def _delete(self, key: ObjectKey, write: Delete) -> None:
        await self._check(key, write.guards)
        left = await self._api.delete(TYPES[write.kind], key[1], write.name, write.uid)
        if left is not None:
            self._wake(self._cache.store(write.kind, left))  # a finalizer keeps it for a while
        else:
            self._wake(self._cache.remove(write.kind, key[1], write.name, write.uid))

    async def _check(self, key: ObjectKey, guards: Guards) -> None:
        read: dict[tuple[str, str], Manifest | None] = {}  # two guards may ask for the same object
        for guard in guards:
            if isinstance(guard, NoPods):
                which = f",{INDEX_LABEL}={guard.index}" if guard.index is not None else ""
                holds = not await self._api.any(TYPES["Pod"], key[1], f"{_JOB_UID_LABEL}={guard.job}{which}")
            elif isinstance(guard, Listed):
                holds = guard.holds(await self._api.every(TYPES[guard.kind], key[1]))
            else:
                name = (guard.kind, guard.name)
                if name not in read:
                    read[name] = await self._api.get(TYPES[guard.kind], key[1], guard.name)
                holds = guard.holds(read[name])
            if not holds:
                raise Stale(f"no longer so: {guard.meaning}")
        if guards:
            self._fence.check()  # they took their time

    async def _set_status(self, key: ObjectKey, owner: Manifest, write: SetStatus) -> None:
        kind, namespace, name = key
        # What was decided from an old version of the object must not replace what was said of a newer one.
        same = {field: owner["metadata"][field] for field in ("uid", "resourceVersion")}
        manifest = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, **same},
            "status": write.status,
        }
        try:
            applied = await self._api.apply(TYPES[kind], manifest, "status")
        except ApiError as error:
            if error.code == 404:
                # No watch told: without it here, its children would be made again for as long as none does.
                self._wake(self._cache.remove(kind, namespace, name, owner["metadata"]["uid"]))
            if error.code in (404, 409):
                raise Stale(f"{kind} {name} is not the one it was") from error
            self._hindered(kind, _why_unwritable(error, TYPES[kind].plural))
            raise
        self._hindered(kind, None)
        self._wake(self._cache.store(kind, applied))
        if write.baseline is not None:
            self._cache.weighed(applied, write.baseline)


def _lost_labels(child: Manifest, owner: str) -> dict[str, str]:
    """The labels that a child of this owner should be seen and found by, and is not."""
    if child.get("kind") == "Job":
        return {}  # found by its name, and listed now and then; the operator may change none
    wanted = {**MANAGED_BY, OWNER_LABEL: owner}
    found = child["metadata"].get("labels") or {}
    return {label: value for label, value in wanted.items() if found.get(label) != value}


def _refused(error: ApiError) -> bool:
    """Whether the API server does not want this object: a quota, its own validation, or whoever admits objects.

    An admission webhook chooses its code, 400 if it says none; one that does not answer is an internal error.
    """
    if error.namespace_goes or error.code in (401, 404, 408, 409, 429):
        return False
    return 400 <= error.code < 500 or (error.code == 500 and "webhook" in error.message)


def _why_unwritable(error: ApiError, plural: str) -> str | None:
    """Why no status of this kind can be written, where it is not for the moment only."""
    if error.code == 403 and not error.namespace_goes:
        return f"the operator's role lacks patch on {plural}/status: {error.message}"
    if "not declared in schema" in error.message:
        return f"the CRD of {plural} is older than the operator, update the CRDs: {error.message}"
    return None
