"""The executor: carries out a plan, write by write, and shows the cache what came of it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby

from modelmill.api.schema import API_VERSION
from modelmill.core.plan import (
    AnyGuard,
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
    target,
)
from modelmill.core.pods import INDEX_LABEL
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, TYPES, Manifest, ResourceType
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.events import Recorder
from modelmill.shell.lease import Fence
from modelmill.shell.logs import about
from modelmill.shell.watch import Wake

logger = logging.getLogger(__name__)

_JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"  # on the pods of a Job, by Kubernetes


Hindered = Callable[[str, str | None], None]  # kind, why


class Stale(Exception):  # noqa: N818 - not an error: the world moved on, look again
    """What the plan was made from is no longer so."""


class Refused(Exception):  # noqa: N818 - the API server's decision: the rest of the plan may go on
    """The API server does not want a write, or does not let it be seen whether it may be made; the message says why."""


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
        self._spared: set[tuple[str, str]] = set()  # namespaces and kinds in which one goes on without a write

    async def carry_out(self, key: ObjectKey, observed: Observed, plan: Plan) -> None:
        """The writes planned from that snapshot, in order; neighbouring creates and applies at the same time.

        Raises ApiError or Stale at the first write that fails: the rest is planned anew.  One that is known to be
        refused is tried, and the plan goes on: it says so in the status.
        """
        done = True
        for together, writes in groupby(plan.writes, key=lambda w: isinstance(w, Create | Apply)):
            if not together:
                for write in writes:
                    if done or not isinstance(write, Record):  # an Event is about the write before it
                        done = await self._write(key, observed, write)
                continue
            results = await asyncio.gather(*(self._write(key, observed, w) for w in writes), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            done = all(results)

    async def _write(self, key: ObjectKey, observed: Observed, write: Write) -> bool:
        """Make one write; False where it is refused, and was before."""
        async with self._fence.writing():
            match write:
                case SetStatus():
                    await self._set_status(key, observed.object, write)
                case Record():
                    self._events.record(key, observed.object, write)
                case _:
                    return await self._write_child(key, observed, write)
        return True

    async def _write_child(self, key: ObjectKey, observed: Observed, write: Create | Apply | Delete) -> bool:
        kind, name = target(write)
        try:
            match write:
                case Create():
                    await self._create(key, observed.object, write)
                case Apply():
                    await self._apply(key, observed, write)
                case Delete():
                    await self._delete(key, write)
        except Refused as refused:
            if isinstance(write, Apply) and write.spared:
                self._go_on_without(key, write, refused)
                return True
            if self._cache.set_refused(key, kind, name, str(refused)):
                # The rest of the plan would say that the child is on its way.
                raise Stale(f"{kind} {name} is refused: {refused}") from refused
            return False
        if self._cache.set_refused(key, kind, name, None):
            self._wake({key})
        return True

    def _go_on_without(self, key: ObjectKey, write: Apply, refused: Refused) -> None:
        """Say so once in a namespace: it is tried again with every plan."""
        kind, name = target(write)
        if (key[1], kind) not in self._spared:
            self._spared.add((key[1], kind))
            said = "%s %s may not be changed; nothing waits for it, only what it hurries takes longer: %s"
            logger.warning(said, kind, name, refused, extra=about(key))

    async def _create(self, key: ObjectKey, owner: Manifest, write: Create) -> None:
        resource = TYPES[write.manifest["kind"]]
        namespace, name = write.manifest["metadata"]["namespace"], write.manifest["metadata"]["name"]
        await self._check(key, write.guards)
        try:
            made = await self._api.create(resource, write.manifest)
        except ApiError as error:
            if _refused(error):
                raise Refused(error.message) from error
            if error.code != 409:
                raise
            with _seeing("the one of that name is ours"):
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
                await self._label(resource, found, lost)
            made = found
        self._wake(self._cache.store(resource.kind, made))

    async def _label(self, resource: ResourceType, child: Manifest, labels: dict[str, str]) -> None:
        """Give a child of ours back the labels by which it is seen and found; the rest of the plan did not know it."""
        name = child["metadata"]["name"]
        try:
            mended = await self._api.label(resource, child, labels)
        except ApiError as error:
            if _refused(error):
                raise Refused(error.message) from error
            if error.code not in (404, 409):
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
                raise Refused(error.message) from error
            if error.code in (404, 409):
                raise Stale(f"{resource.kind} {metadata['name']} is not the one it was") from error
            raise
        self._wake(self._cache.store(resource.kind, applied))

    async def _delete(self, key: ObjectKey, write: Delete) -> None:
        await self._check(key, write.guards)
        try:
            left = await self._api.delete(TYPES[write.kind], key[1], write.name, write.uid)
        except ApiError as error:
            if _refused(error):
                raise Refused(error.message) from error
            raise
        if left is not None:
            self._wake(self._cache.store(write.kind, left))  # a finalizer keeps it for a while
        else:
            self._wake(self._cache.remove(write.kind, key[1], write.name, write.uid))

    async def _check(self, key: ObjectKey, guards: Guards) -> None:
        read: dict[tuple[str, str], Manifest | None] = {}  # two guards may ask for the same object
        for guard in guards:
            with _seeing(guard.meaning):
                holds = await self._holds(key, guard, read)
            if not holds:
                raise Stale(f"no longer so: {guard.meaning}")
        if guards:
            self._fence.check()  # they took their time

    async def _holds(self, key: ObjectKey, guard: AnyGuard, read: dict[tuple[str, str], Manifest | None]) -> bool:
        if isinstance(guard, NoPods):
            which = f",{INDEX_LABEL}={guard.index}" if guard.index is not None else ""
            return not await self._api.any(TYPES["Pod"], key[1], f"{_JOB_UID_LABEL}={guard.job}{which}")
        if isinstance(guard, Listed):
            return guard.holds(await self._api.every(TYPES[guard.kind], key[1]))
        name = (guard.kind, guard.name)
        if name not in read:
            read[name] = await self._api.get(TYPES[guard.kind], key[1], guard.name)
        return guard.holds(read[name])

    async def _set_status(self, key: ObjectKey, owner: Manifest, write: SetStatus) -> None:
        kind, namespace, name = key
        with suppress(Refused):  # who may not read whether something is left has made nothing
            await self._check(key, write.guards)
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
        if kind == "ModelDeployment":
            self._cache.weighed(applied, write)


@contextmanager
def _seeing(what: str) -> Iterator[None]:
    """Refused, where it may not be read whether this is so."""
    try:
        yield
    except ApiError as error:
        if error.code != 403 or error.namespace_goes:
            raise
        raise Refused(f"it cannot be seen whether {what}: {error.message}") from error


def _lost_labels(child: Manifest, owner: str) -> dict[str, str]:
    """The labels that a child of this owner should be seen and found by, and is not."""
    if child.get("kind") == "Job":
        return {}  # found by its name, and listed now and then; the operator may change none
    wanted = {**MANAGED_BY, OWNER_LABEL: owner}
    found = child["metadata"].get("labels") or {}
    return {label: value for label, value in wanted.items() if found.get(label) != value}


def _refused(error: ApiError) -> bool:
    """Whether the API server does not want this write: rights, a quota, its own validation, or whoever admits objects.

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
