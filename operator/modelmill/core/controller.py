"""A kind's controller: its three pure steps, and what their answer depends on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from modelmill.core.plan import Observed, Outcome, Plan, finish
from modelmill.core.resources import Key, Manifest

Facts = TypeVar("Facts")
Decision = TypeVar("Decision")


@dataclass(frozen=True)
class Controller(Generic[Facts, Decision]):
    """How one kind is reconciled.

    `depends` names, from the object alone, every key that `observe` may look up: a change of any object under
    one of them wakes the object.
    `spared` are kinds without which it does its work, where they cannot be read: then nothing of them is there.
    """

    kind: str
    depends: Callable[[Manifest], tuple[Key, ...]]
    observe: Callable[[Observed], Facts]
    decide: Callable[[Facts, datetime], Decision]
    render: Callable[[Facts, Decision], Outcome]
    spared: frozenset[str] = frozenset()

    def reconcile(self, observed: Observed, now: datetime) -> Plan:
        """The writes that bring the object closer to what it declares; none when it is there."""
        facts = self.observe(observed)
        return finish(observed, now, self.render(facts, self.decide(facts, now)))
