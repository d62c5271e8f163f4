"""Workers: whether this process trains alone or is one of several pods, and what a training may ask of the others.

Pod 0 trains: it fetches, fits, evaluates and publishes, and spreads what scikit-learn can do in parallel over all pods.
The others do what they are given (see `cluster`), or, beside a user's container, nothing at all: theirs talk to each
other by themselves.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from modelmill_contracts import environment
from modelmill_contracts.report import Report

Parallel = Callable[[], AbstractContextManager[None]]
"""Within it scikit-learn's own parallelism goes wherever there are workers."""


@dataclass(frozen=True)
class Place:
    """One pod of several that train together."""

    count: int
    index: int
    scheduler: str  # host:port of pod 0's
    port: int  # where this one's worker listens
    secret: bytes  # what the pods of this training know, and nobody else

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "Place | None":
        """The place that the environment gives; None where there is only one pod."""
        count = int(variables.get(environment.WORKERS, "1"))
        if count == 1:
            return None
        known = (environment.JOB_UID, environment.STORE_SECRET_KEY, environment.GOOGLE_KEY, environment.AZURE_KEY)
        return cls(
            count,
            int(variables[environment.INDEX]),
            variables.get(environment.SCHEDULER, ""),
            int(variables.get(environment.WORKER_PORT_VARIABLE, environment.WORKER_PORT)),
            "\n".join(variables.get(name, "") for name in known).encode(),
        )


class Workers(Protocol):
    """Who works on a training."""

    def parallel(self) -> AbstractContextManager[None]:
        """See `Parallel`."""

    def cpu_seconds(self) -> float:
        """CPU time that processes besides this one have taken so far."""


class Alone:
    """This process, and no other."""

    def parallel(self) -> AbstractContextManager[None]:
        """As it is."""
        return nullcontext()

    def cpu_seconds(self) -> float:
        """None: there are no others."""
        return 0.0


def beside(place: Place) -> Report:
    """What is left to do after a user's container in a pod that is not pod 0: the model is pod 0's to publish."""
    message = f"the container of worker {place.index} is done; worker 0 publishes the model"
    return Report(True, "WorkDone", message)
