"""The lease: at most one operator writes.

A coordination.k8s.io Lease names the holder.  The holder renews it; a candidate takes it over when it has seen
no renewal for the lease's duration, by its own clock: wall clocks are never compared.  No write is
made when the last renewal is older than the deadline, which is shorter than the duration.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import aiohttp

from modelmill.core.resources import ResourceType
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import InvalidObjectError

logger = logging.getLogger(__name__)

LEASES = ResourceType("Lease", "coordination.k8s.io", "v1", "leases", dict, {})
# In seconds.  A standby takes over at the latest ASK + DURATION + ASK after the active one was killed.
DURATION = 12.0  # without a renewal, after which another may take over
DEADLINE = 8.0  # after the last renewal, after which nothing is written any more
PERIOD = 2.5  # between renewals
ASK = 1.0  # between a standby's looks: one read a second costs the API server next to nothing


class NotLeader(Exception):  # noqa: N818 - a state, not an error
    """The lease is not ours, or may not be ours any more."""


def clock() -> float:
    """Seconds for the holder: those for which its machine was suspended count, as it must not write after them.

    A candidate counts by the monotonic clock, which stands still meanwhile: it saw no renewal because it did not look.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Whether writing is allowed now."""

    def __init__(self) -> None:
        self._renewed: float | None = None

    @property
    def open(self) -> bool:
        return self._renewed is not None and clock() - self._renewed < DEADLINE

    @property
    def seconds_left(self) -> float:
        """Until another may hold the lease; 0 where it is not ours."""
        return max(0.0, self._renewed + DURATION - clock()) if self._renewed is not None else 0.0

    def renewed(self, at: float) -> None:
        """The lease was renewed by a request that was sent at this time of `clock`."""
        self._renewed = at

    def close(self) -> None:
        self._renewed = None

    def check(self) -> None:
        """Raise NotLeader unless the lease is ours for certain."""
        if not self.open:
            raise NotLeader("the lease was not renewed in time")

    def writing(self) -> asyncio.Timeout:
        """The time that a write has: one still under way when another may hold the lease is given up.

        Raises NotLeader unless the lease is ours for certain.
        """
        self.check()
        return asyncio.timeout(self.seconds_left)


class Elector:
    """Acquires, renews and releases the lease of one operator."""

    def __init__(self, api: Api, fence: Fence, namespace: str, name: str, identity: str) -> None:
        self._api = api
        self._fence = fence
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seen: tuple[str, float] | None = None  # the holder's last renewal, and when we saw it first
        self._renewed: dict[str, Any] | None = None  # the lease as we wrote it last, while nothing else was heard
        self.problem: str | None = None  # why nobody gets the lease until somebody mends it

    async def acquire(self) -> None:
        """Wait until the lease is ours."""
        while not await self._guarded_try():
            await asyncio.sleep(ASK)
        logger.info("this replica is active now", extra={"identity": self._identity})

    async def renew(self) -> None:
        """Renew until that fails for longer than the deadline; then return."""
        while self._fence.open:
            await asyncio.sleep(PERIOD)
            if not await self._guarded_try() and self._seen is not None:
                break  # another has it
        self._fence.close()
        logger.error("the lease is lost; this replica ends", extra={"identity": self._identity})

    async def release(self) -> None:
        """Give the lease up, so that a standby need not wait for it to run out."""
        self._fence.close()
        async with asyncio.timeout(DEADLINE / 2):
            lease = await self._get()
            if lease is None or lease["spec"].get("holderIdentity") != self._identity:
                return
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            await self._api.replace(LEASES, lease)
        logger.info("the lease is released", extra={"identity": self._identity})

    async def _guarded_try(self) -> bool:
        lease, self._renewed = self._renewed, None  # after any failure it is read anew
        try:
            async with asyncio.timeout(DEADLINE / 2):
                ours = await self._try(lease)
            self._hindered(None)
            return ours
        except ApiError as error:
            why = self._why_refused(error)
            if why is not None:
                self._hindered(why)
            elif error.code != 409:  # 409: another was faster
                logger.warning("the lease cannot be written: %s", error)
        except (aiohttp.ClientError, TimeoutError, OSError, InvalidObjectError) as error:
            logger.warning("the lease cannot be reached: %s: %s", type(error).__name__, error)
        self._seen = None
        return False

    def _why_refused(self, error: ApiError) -> str | None:
        """Why the lease cannot be had, where it is not for the moment only."""
        lease = f"the lease {self._name} in namespace {self._namespace}"
        if error.code == 403:
            return (
                f"{lease} is refused: see that the Role and the RoleBinding modelmill-operator are there, and grant"
                f" create, get and update on leases (manifests/operator/rbac.yaml): {error.message}"
            )
        if error.code == 404:
            return f"{lease} has no namespace: create it, or name another by --lease-namespace: {error.message}"
        return None

    def _hindered(self, why: str | None) -> None:
        if why is not None and self.problem is None:
            logger.warning("%s", why, extra={"identity": self._identity})
        elif why is None and self.problem is not None:
            logger.info("the lease can be had again", extra={"identity": self._identity})
        self.problem = why

    async def _get(self) -> dict[str, Any] | None:
        lease = await self._api.get(LEASES, self._namespace, self._name)
        return None if lease is None else _checked(lease)

    async def _try(self, renewed: dict[str, Any] | None) -> bool:
        """Acquire the lease, or renew it: what we wrote last needs no look, since its version decides."""
        sent = clock()
        lease = renewed or await self._get()
        if lease is None:
            await self._api.create(LEASES, self._fresh())
            self._fence.renewed(sent)
            return True
        spec = lease["spec"]
        holder = spec.get("holderIdentity")
        if holder and holder != self._identity and not self._expired(spec):
            return False
        if holder != self._identity:
            spec |= {"acquireTime": _now(), "leaseTransitions": (spec.get("leaseTransitions") or 0) + 1}
        spec |= {"holderIdentity": self._identity, "leaseDurationSeconds": int(DURATION), "renewTime": _now()}
        self._renewed = _checked(await self._api.replace(LEASES, lease))
        self._fence.renewed(sent)
        return True

    def _expired(self, spec: dict[str, Any]) -> bool:
        """Whether the holder has not renewed for the duration since we first saw this renewal."""
        renewal = f"{spec.get('holderIdentity')} {spec.get('renewTime')}"
        if self._seen is None or self._seen[0] != renewal:
            self._seen = (renewal, monotonic())
        return monotonic() - self._seen[1] > (spec.get("leaseDurationSeconds") or DURATION)

    def _fresh(self) -> dict[str, Any]:
        return {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(DURATION),
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }


def _checked(lease: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(lease.get("spec"), dict):
        raise InvalidObjectError("this is no Lease: it has no spec")
    return lease


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
