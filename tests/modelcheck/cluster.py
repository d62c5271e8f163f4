"""What can happen to a small cluster, step by step.

A state is what exists, what the operator has seen of it, the writes that it is about to make, and which of its
children's names it knows to be taken or refused.  One step is one of:

    a user, kubelet or a controller of Kubernetes changes something        (the system's `moves`)
    the operator sees the newest version of one object                     (it may see it late, never out of order)
    the operator plans an object from what it has seen                     (the shipped core)
    one write of a plan reaches the API server: it is applied, or applied and its answer lost, or it fails
    the operator is killed, and starts anew with what exists
    time passes, or the clock is set back
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from modelcheck.objects import NAMESPACE, NEW, NOW, Objects, Slot, as_text, created, earlier, later, leaving
from modelcheck.writes import comparable, plain, title
from modelmill.core import pods
from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import (
    AnyGuard,
    Apply,
    Create,
    Delete,
    Guards,
    Listed,
    NoPods,
    Observed,
    Outcome,
    Record,
    SetStatus,
    Settings,
    Unedited,
    Write,
    finish,
    is_former,
    is_owned,
)
from modelmill.core.resources import TYPES, Key, Manifest
from modelmill.shell.cache import Cache, keys_of

NOTHING = -1
TAKEN = "somebody else has one of that name"
FRESH = -1  # in place of a version that was seen: the one that exists
QUOTA = "the quota is used up"
SETTINGS = Settings("trainer:1", "server:1", tenant_label="namespace")
Known = frozenset[tuple[str, str, str]]  # (taken | refused, kind, name) of children


class State(NamedTuple):
    """Numbers by slot (live, seen) and by controller (flights, known)."""

    live: tuple[int, ...]
    seen: tuple[int, ...]
    flights: tuple[int, ...]
    known: tuple[int, ...]


Numbers = tuple[int, ...]


def _state(live: Numbers, seen: Numbers, flights: Numbers, known: Numbers) -> State:
    """A state, without the detour through Python that a NamedTuple's own constructor takes: there are millions."""
    return tuple.__new__(State, (live, seen, flights, known))


class Live:
    """What exists, as a system's rules read it."""

    def __init__(self, objects: Objects, numbers: tuple[int, ...]) -> None:
        self._objects = objects
        self._numbers = numbers

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        number = self._numbers[self._objects.slot(kind, name)]
        return self._objects.manifests[number] if number else None

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [self._objects.manifests[n] for n in self._numbers if n and self.kind_of(n) == kind]

    def everything(self) -> dict[Slot, dict[str, Any]]:
        return {self._objects.slots[self._objects.slot_of[n]]: self._objects.manifests[n] for n in self._numbers if n}

    def kind_of(self, number: int) -> str:
        return self._objects.slots[self._objects.slot_of[number]][0]

    def version(self, manifest: Manifest) -> Manifest:
        """The manifest as it would exist."""
        return self._objects.manifests[self._objects.number(manifest["kind"], manifest)]

    def uids(self) -> set[str]:
        return {self._objects.manifests[n]["metadata"]["uid"] for n in self._numbers if n}

    def orphaned(self) -> bool:
        """Whether the garbage collector has something to take."""
        uids = self.uids()
        references = (self._objects.manifests[n]["metadata"].get("ownerReferences") for n in self._numbers if n)
        return any(owners[0]["uid"] not in uids for owners in references if owners)


@dataclass(frozen=True)
class Move:
    """Something that happens outside of the operator: new versions of objects, None for one that goes."""

    story: str
    changes: tuple[tuple[Slot, Manifest | None], ...]


def move(story: str, *manifests: Manifest, gone: Iterable[Slot] = ()) -> Move:
    """A move that makes these versions, each with its `kind`."""
    made = tuple(((m["kind"], m["metadata"]["name"]), m) for m in manifests)
    return Move(story, (*made, *((slot, None) for slot in gone)))


class System:
    """A kind with its surroundings."""

    name: str
    slots: int  # how many objects there can be
    clock_goes_back = False
    views_keep_up = False  # no view, and no write that is under way, is as old as a step of time
    longest_pause = timedelta(minutes=10)  # until it is looked again by itself
    reads: frozenset[str] = frozenset()  # kinds that controllers depend on only while a status says something
    life: tuple[str, ...] = ()  # what its users do, one after the other, when nothing fails: beginnings of stories

    def controllers(self) -> list[Slot]:
        """The objects of ours that the operator reconciles."""
        raise NotImplementedError

    def start(self) -> list[Manifest]:
        """What exists at first."""
        raise NotImplementedError

    def moves(self, live: Live) -> Iterator[Move]:
        """What users and Kubernetes may do."""
        raise NotImplementedError

    def help(self, live: Live) -> Iterator[Move]:
        """What they do once nothing fails any more; the first is done."""
        raise NotImplementedError

    def heard(self, observed: Observed) -> Observed:
        """The snapshot, with what pods of it answered."""
        return observed

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        """Why this write of the operator's must not be."""
        raise NotImplementedError

    def broken(self, live: Live) -> str | None:
        """What of this must never exist."""
        return None

    def untrue(self, live: Live) -> str | None:
        """What a status says at rest, with or without help, that is not so."""
        return None

    def unreached(self, live: Live) -> str | None:
        """What is missing of the declared state, at rest and with help."""
        raise NotImplementedError


@dataclass(frozen=True)
class Planned:
    flight: int
    requeue_after: timedelta | None


@dataclass(frozen=True)
class WriteOf:
    """A write with what it must be told apart by."""

    write: Write
    controller: int
    uid: str  # of the object that it was planned for
    expects: int  # the slot that must not have changed since it was seen, or -1
    doomed: bool = False  # it has changed


Change = tuple[int, int, bool]  # slot, version or template, whether it is a template
Step = tuple[str, State, int]
Flight = tuple[bool, tuple[int, ...]]  # whether something failed, and the writes that are left


@dataclass
class Weakness:
    """What is taken away from the operator, to see who notices."""

    guards: Callable[[AnyGuard], bool] = lambda _: False  # guards that are not checked
    uid_preconditions: bool = True
    version_preconditions: bool = True
    create_only: bool = True  # False: a create takes over what exists
    memory: bool = True  # False: what was decided from facts is decided again, and compared


class Cluster:
    """The steps, with everything memoised that depends on little."""

    def __init__(self, system: System, weakness: Weakness | None = None) -> None:
        self.system = system
        self.weakness = weakness or Weakness()
        self.objects = Objects()
        self.controllers = system.controllers()
        self.own = [self.objects.slot(*slot) for slot in self.controllers]
        self._writes: list[WriteOf] = []
        self._written: list[int] = []  # the slot that each writes to
        self._told: list[str] = []  # each in words
        self._created_as: dict[int, int] = {}
        self._write_numbers: dict[str, int] = {}
        self._flights: list[Flight] = [(False, ())]
        self._flight_numbers: dict[Flight, int] = {(False, ()): 0}
        self._known: list[Known] = [frozenset()]
        self._known_numbers: dict[Known, int] = {frozenset(): 0}
        self._reading: list[tuple[Any, ...]] = [(0,)] * len(self.controllers)
        self._plans: dict[tuple[Any, ...], Planned] = {}
        self._plans_by_related: dict[tuple[Any, ...], Planned] = {}
        self._found: dict[int, tuple[Manifest, frozenset[Key]]] = {}
        self._depends: dict[int, tuple[Key, ...]] = {}
        self.differing: str | None = None  # facts that gave two outcomes
        self._rendered: dict[tuple[str, Any], Outcome] = {}
        self._moves: dict[tuple[int, ...], list[tuple[str, list[Change]]]] = {}
        self._verdicts: dict[tuple[int, tuple[int, ...]], str | None] = {}
        self._flight_mentions: dict[int, dict[int, frozenset[str]]] = {}
        self._merged: dict[tuple[int, int], int] = {}
        self._guarded: dict[tuple[int, tuple[tuple[int, ...], ...]], str | None] = {}
        self._doomed: dict[tuple[int, int], int] = {}
        self._mapped: dict[tuple[Callable[[str], str], int], int] = {}
        self._kinds = [
            {key.kind for key in CONTROLLERS[kind].depends(_empty(name))} | {kind} | system.reads
            for kind, name in self.controllers
        ]

    def start(self) -> State:
        live = [0] * self.system.slots
        for manifest in self.system.start():
            number = self.objects.number(manifest["kind"], manifest)
            live[self.objects.slot_of[number]] = number
        controllers = (0,) * len(self.controllers)
        return _state(tuple(live), (FRESH,) * self.system.slots, controllers, controllers)

    def live(self, state: State) -> Live:
        return Live(self.objects, state.live)

    def write(self, number: int) -> Write:
        return self._writes[number].write

    # What is done when nothing fails any more.

    def next_write(self, state: State, controller: int) -> State:
        """The state after the next write that is under way; what was planned with it is dropped where it is refused."""
        failed, writes = self._flights[state.flights[controller]]
        answer, applied = self._applied(state, writes[0])
        together = self._together(writes)
        if applied is None or answer == TAKEN:
            return self._flying(applied or state, controller, self._flight(True, writes[1:together]))
        left = writes[1:together] if failed else writes[1:]
        applied = self.delivered(applied, self._written[writes[0]])
        return self._flying(applied, controller, self._flight(failed, left))

    def all_seen(self, state: State) -> State:
        live, seen, flights, known = state
        return _state(live, (FRESH,) * len(seen), flights, known)

    def others(self, state: State) -> dict[int, int]:
        """Objects that are none of the operator's business, by slot: it is not even shown them."""
        return {slot: n for slot, n in enumerate(state.live) if n and not self.objects.shown[n]}

    def title(self, slot: int) -> str:
        return " ".join(self.objects.slots[slot])

    def next_title(self, state: State, controller: int) -> str:
        """The next write in words."""
        return self._told[self._flights[state.flights[controller]][1][0]]

    def helped(self, state: State) -> tuple[str, State] | None:
        """The first help that the surroundings still have to give: its story, and the state after it."""
        for moved in self.system.help(self.live(state)):
            return moved.story, self.all_seen(self._changed(state, self._numbered(moved)[1]))
        return None

    def aged(self, state: State) -> State:
        return self._map_times(later, state)

    # Steps.

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that may happen next: its story, what comes of it, and the write that it is, if it is one."""
        for story, changes in self._surroundings(state.live):
            yield story, self._changed(state, changes), NOTHING
        yield from self._operator_steps(state)
        restarted = self.restarted(state)
        if restarted != state:
            yield "the operator is killed and starts anew", restarted, NOTHING
        if not self.system.views_keep_up or not (any(state.flights) or any(s != FRESH for s in state.seen)):
            aged = self._map_times(later, state)
            if aged != state:
                yield "time passes", aged, NOTHING
        if self.system.clock_goes_back:
            back = self._map_times(earlier, state)
            if back != state:
                yield "the clock is set back by a day", back, NOTHING

    def _operator_steps(self, state: State) -> Iterator[Step]:
        for slot, seen in enumerate(state.seen):
            if seen != FRESH:
                yield f"the operator sees {self.title(slot)}", self.delivered(state, slot), NOTHING
        for controller in range(len(self.own)):
            if state.flights[controller]:
                yield from self._attempts(state, controller)
            else:
                planned = self.planned(state, controller)
                if planned is not None and planned != state:
                    yield f"the operator plans {self.title(self.own[controller])}", planned, NOTHING

    def _surroundings(self, live: tuple[int, ...]) -> list[tuple[str, list[Change]]]:
        known = self._moves.get(live)
        if known is None:
            known = self._moves[live] = [self._numbered(m) for m in self.system.moves(Live(self.objects, live))]
        return known

    def _numbered(self, moved: Move) -> tuple[str, list[Change]]:
        changes: list[Change] = []
        for (kind, name), manifest in moved.changes:
            slot = self.objects.slot(kind, name)
            if manifest is None:
                changes.append((slot, 0, False))
            elif NEW in (manifest["metadata"].get("uid"), manifest["metadata"].get("generation")):
                changes.append((slot, self.objects.template(kind, manifest), True))
            else:
                changes.append((slot, self.objects.number(kind, manifest), False))
        return moved.story, changes

    def _changed(self, state: State, changes: Iterable[Change]) -> State:
        for slot, number, template in changes:
            state = self._put(state, slot, self._named(state, slot, number) if template else number)
        return state

    def _named(self, state: State, slot: int, template: int) -> int:
        """The template's version; what is new depends on what is still mentioned."""
        mentions = self.objects.mentions
        by = [mentions[n] for n in (*state.live, *state.seen) if n > 0]
        by += [self._mentioned(f) for f in state.flights if f]
        return self.objects.named(template, frozenset().union(*[m[slot] for m in by if slot in m]))

    def _mentioned(self, flight: int) -> dict[int, frozenset[str]]:
        known = self._flight_mentions.get(flight)
        if known is None:
            result: set[str] = set()
            for number in self._flights[flight][1]:
                planned = self._writes[number]
                result.add(planned.uid)
                for guard in getattr(planned.write, "guards", ()):
                    if isinstance(guard, Unedited):
                        result |= {guard.uid, f"{self.objects.slot(guard.kind, guard.name)}@{guard.generation}"}
                if isinstance(planned.write, SetStatus):
                    result.add(f"{self.own[planned.controller]}@{planned.write.status['observedGeneration']}")
                elif isinstance(planned.write, Apply | Delete):
                    result.add(planned.write.uid)
            known = self._flight_mentions[flight] = self.objects.by_slot(frozenset(result))
        return known

    def _put(self, state: State, slot: int, number: int) -> State:
        """What exists in this slot is another version now."""
        live, seen, flights = state.live, state.seen, state.flights
        old = live[slot]
        if number == old:
            return state
        shown = self.objects.shown
        live = (*live[:slot], number, *live[slot + 1 :])
        now_seen = shown[old] if seen[slot] == FRESH else seen[slot]
        if now_seen == shown[number] and (not now_seen or not self._expected(slot)):
            now_seen = FRESH
        if seen[slot] != now_seen:
            seen = (*seen[:slot], now_seen, *seen[slot + 1 :])
        if any(flights) and self._expected(slot):
            flights = tuple(self._doom(f, slot) if f else 0 for f in flights)
        return _state(live, seen, flights, state.known)

    def _expected(self, slot: int) -> bool:
        """Whether writes may expect that this slot has not changed: then equal versions are not the same."""
        return slot in self.own or self.objects.slots[slot][0] == "Service"

    def delivered(self, state: State, slot: int) -> State:
        live, seen, flights, known = state
        return _state(live, (*seen[:slot], FRESH, *seen[slot + 1 :]), flights, known)

    def restarted(self, state: State) -> State:
        nothing = (0,) * len(self.own)
        return _state(state.live, (FRESH,) * len(state.seen), nothing, nothing)

    def _map_times(self, change: Callable[[str], str], state: State) -> State:
        mapped = self.objects.mapped(change)
        live, seen = tuple(map(mapped, state.live)), tuple(map(mapped, state.seen))
        flights = state.flights
        if any(flights):
            flights = tuple(self._map_flight(change, f) if f else 0 for f in flights)
        return _state(live, seen, flights, state.known)

    def _map_flight(self, change: Callable[[str], str], flight: int) -> int:
        known = self._mapped.get((change, flight))
        if known is None:
            failed, writes = self._flights[flight]
            known = self._mapped[change, flight] = self._flight(
                failed, tuple(self._map_write(change, self._writes[n]) for n in writes)
            )
        return known

    def _map_write(self, change: Callable[[str], str], planned: WriteOf) -> int:
        write = planned.write
        if isinstance(write, SetStatus):
            write = replace(write, status=msgspec.json.decode(change(as_text(write.status))))
        elif isinstance(write, Create | Apply) and (text := as_text(write.manifest)) != change(text):
            write = replace(write, manifest=msgspec.json.decode(change(text)))
        return self._write(replace(planned, write=write))

    # Planning.

    def planned(self, state: State, controller: int) -> State | None:
        """The state with the plan of this object, or None where there is nothing to be done."""
        plan, state = self.plan(state, controller)
        if plan is None:
            return state
        return self._flying(state, controller, plan.flight)

    def plan(self, state: State, controller: int) -> tuple[Planned | None, State]:
        """What the core plans from what was seen, and the state after the look at names that were taken."""
        state = self._looked_again(state, controller)
        shown = self.objects.shown
        view = [shown[live] if seen == FRESH else seen for live, seen in zip(state.live, state.seen, strict=True)]
        if not view[self.own[controller]]:
            return None, state
        read, expected = self._reads(controller)
        relevant, stale = read(view), expected(state.seen)
        key = (controller, relevant, state.known[controller], stale)
        planned = self._plans.get(key)
        if planned is None:
            seen = tuple(n for n in relevant if n)
            changed = tuple(slot for slot, n in enumerate(state.seen) if n != FRESH and self._expected(slot))
            planned = self._plans[key] = self._planned_by_related(controller, seen, state.known[controller], changed)
        return planned, state

    def _planned_by_related(
        self, controller: int, view: tuple[int, ...], known: int, stale: tuple[int, ...]
    ) -> Planned:
        """The plan, which depends on what is related alone: much of what there is concerns another object."""
        numbers = {self.objects.slot_of[number]: number for number in view}  # its own may be there twice
        own = numbers[self.own[controller]]
        found = [(number, self._keys_of(number)) for number in sorted(numbers.values(), key=self._name)]
        related = tuple(tuple(number for number, keys in found if key in keys) for key in self._depends_of(own))
        key = (controller, own, related, known, stale)
        planned = self._plans_by_related.get(key)
        if planned is None or not self.weakness.memory:
            observed = self._observed(controller, own, related, known)
            if not self.weakness.memory:
                cached = self._from_cache(controller, view, known)
                if observed != replace(cached, drift_seconds=0.0):
                    self.differing = f"the cache shows {cached} instead of {observed}"
            planned = self._plans_by_related[key] = self._reconcile(controller, observed, stale)
        return planned

    def _reads(self, controller: int) -> tuple[Callable[[Sequence[int]], tuple[int, ...]], ...]:
        """Of a state: what a plan for this controller depends on, and what its writes may expect to be unchanged."""
        slots = self.objects.slots
        if self._reading[controller][0] != len(slots):
            kinds = self._kinds[controller]
            read = itemgetter(*(s for s, (kind, _) in enumerate(slots) if kind in kinds), self.own[controller])
            mine = [s for s in range(len(slots)) if self._expected(s) and slots[s][0] in kinds]
            expected = itemgetter(*mine, self.own[controller])
            self._reading[controller] = (len(slots), read, expected)
        return self._reading[controller][1:]

    def _kind(self, number: int) -> str:
        return self.objects.slots[self.objects.slot_of[number]][0]

    def _looked_again(self, state: State, controller: int) -> State:
        known = self._known[state.known[controller]]
        if not known:
            return state
        kept = frozenset(
            (what, kind, name)
            for what, kind, name in known
            if what != "taken" or state.live[self.objects.slot(kind, name)]
        )
        return self._knowing(state, controller, kept)

    def _knowing(self, state: State, controller: int, known: Known) -> State:
        number = self._known_numbers.get(known)
        if number is None:
            number = self._known_numbers[known] = len(self._known)
            self._known.append(known)
        live, seen, flights, knowing = state
        return _state(live, seen, flights, (*knowing[:controller], number, *knowing[controller + 1 :]))

    def _reconcile(self, controller: int, observed: Observed, stale: tuple[int, ...]) -> Planned:
        kind, _ = self.controllers[controller]
        observed = self.system.heard(observed)
        core = CONTROLLERS[kind]
        facts = core.observe(observed)
        outcome = self._rendered.get((kind, facts))
        if outcome is None:
            outcome = self._rendered[kind, facts] = core.render(facts, core.decide(facts, NOW))
        elif not self.weakness.memory:
            again = core.render(facts, core.decide(facts, NOW))
            if comparable(again) != comparable(outcome):
                self.differing = f"{facts} gave {outcome}, and then {again}"
        plan = finish(observed, NOW, outcome)
        writes = tuple(
            self._write(self._of(write, observed.uid, controller, stale))
            for write in plan.writes
            if not isinstance(write, Record)
        )
        return Planned(self._flight(False, writes), plan.requeue_after)

    def _observed(self, controller: int, own: int, related: tuple[tuple[int, ...], ...], known: int) -> Observed:
        """What the shell's cache shows of these versions, without what keeps a cache current."""
        found = dict(
            zip(self._depends_of(own), (tuple(map(self._projected, numbers)) for numbers in related), strict=True)
        )
        children = sorted(self._known[known])
        foreign = frozenset((kind, name) for what, kind, name in children if what == "taken")
        refused = tuple((kind, name, QUOTA) for what, kind, name in children if what == "refused")
        return Observed(self._projected(own), found, SETTINGS, foreign, refused)

    def _projected(self, number: int) -> Manifest:
        """A version as the cache keeps it."""
        return self._shown(number)[0]

    def _keys_of(self, number: int) -> frozenset[Key]:
        """By what the cache finds it."""
        return self._shown(number)[1]

    def _shown(self, number: int) -> tuple[Manifest, frozenset[Key]]:
        known = self._found.get(number)
        if known is None:
            kind = self._kind(number)
            manifest = TYPES[kind].project(self.objects.manifests[number])
            known = self._found[number] = manifest, frozenset(keys_of(kind, manifest))
        return known

    def _depends_of(self, own: int) -> tuple[Key, ...]:
        known = self._depends.get(own)
        if known is None:
            known = self._depends[own] = CONTROLLERS[self._kind(own)].depends(self._projected(own))
        return known

    def _name(self, number: int) -> str:
        return self.objects.slots[self.objects.slot_of[number]][1]

    def _from_cache(self, controller: int, view: tuple[int, ...], known: int) -> Observed:
        """The same by the cache that ships."""
        kind, name = self.controllers[controller]
        key, cache = (kind, NAMESPACE, name), Cache(CONTROLLERS, SETTINGS)
        for number in view:
            cache.store(self._kind(number), self.objects.manifests[number])
        for what, child_kind, child in self._known[known]:
            if what == "taken":
                cache.set_foreign(key, child_kind, child, taken=True)
            else:
                cache.set_refused(key, child_kind, child, QUOTA)
        observed = cache.observe(key)
        assert observed is not None
        return observed

    def _of(self, write: Write, uid: str, controller: int, stale: tuple[int, ...]) -> WriteOf:
        expects = -1
        if self.weakness.version_preconditions:
            if isinstance(write, SetStatus):
                expects = self.own[controller]
            elif isinstance(write, Apply) and write.unchanged:
                expects = self.objects.slot(write.manifest["kind"], write.manifest["metadata"]["name"])
        return WriteOf(write, controller, uid, expects, expects in stale)

    def _write(self, planned: WriteOf) -> int:
        told_apart = (planned.controller, planned.uid, planned.expects, planned.doomed)
        text = as_text([type(planned.write).__name__, plain(planned.write), *told_apart])
        known = self._write_numbers.get(text)
        if known is None:
            known = self._write_numbers[text] = len(self._writes)
            self._writes.append(planned)
            self._written.append(self._slot_of(planned))
            self._told.append(title(planned.write))
        return known

    def _flight(self, failed: bool, writes: tuple[int, ...]) -> int:
        flight = (failed and bool(writes), writes)
        known = self._flight_numbers.get(flight)
        if known is None:
            known = self._flight_numbers[flight] = len(self._flights)
            self._flights.append(flight)
        return known

    def _doom(self, flight: int, slot: int) -> int:
        known = self._doomed.get((flight, slot))
        if known is None:
            failed, writes = self._flights[flight]
            doomed = tuple(
                self._write(replace(self._writes[n], doomed=True)) if self._writes[n].expects == slot else n
                for n in writes
            )
            known = self._doomed[flight, slot] = self._flight(failed, doomed)
        return known

    # Writing.

    def _attempts(self, state: State, controller: int) -> Iterator[Step]:
        failed, writes = self._flights[state.flights[controller]]
        together = self._together(writes)
        for index in range(together):
            number = writes[index]
            write = self._writes[number].write
            rest = (*writes[:index], *writes[index + 1 : together])  # of those that are sent at the same time
            carry_on = self._flight(failed, rest if failed else (*rest, *writes[together:]))
            give_up = self._flight(True, rest)
            told = self._told[number]
            answer, applied = self._applied(state, number)
            if applied is None:
                yield f"{told}: {answer}", self._flying(state, controller, give_up), NOTHING
                continue
            if answer == TAKEN:
                yield f"{told}: {answer}", self._flying(applied, controller, give_up), NOTHING
                continue
            slot = self._written[number]
            yield told, self.delivered(self._flying(applied, controller, carry_on), slot), number
            yield f"{told}, but the answer is lost", self._flying(applied, controller, give_up), number
            yield f"{told} fails", self._flying(state, controller, give_up), NOTHING
            if isinstance(write, Delete):
                kept = self._flying(self._accepted(self._leaving(state, slot), controller, slot), controller, carry_on)
                yield f"{told}, which a finalizer keeps", self.delivered(kept, slot), number
            if isinstance(write, Delete) or (isinstance(write, Create) and TYPES[write.manifest["kind"]].owned):
                entry = ("refused", *self.objects.slots[slot])
                # Where that is known, the plan says so, and goes on.
                again = entry in self._known[state.known[controller]]
                refused = self._flying(state, controller, carry_on if again else give_up)
                yield f"{told} is refused", self._add_known(refused, controller, entry), NOTHING

    def _leaving(self, state: State, slot: int) -> State:
        kind, _ = self.objects.slots[slot]
        left = leaving(kind, self.objects.manifests[state.live[slot]])
        return self._put(state, slot, self.objects.number(kind, left))

    def _merged_spec(self, existing: int, number: int, write: Apply) -> int:
        live, change = self.objects.manifests[existing], dict[str, Any]()
        for part in ("spec", "data"):
            if part in write.manifest:
                change[part] = {**(live.get(part) or {}), **write.manifest[part]}
        if (annotations := write.manifest["metadata"].get("annotations")) is not None:
            annotations = {**(live["metadata"].get("annotations") or {}), **annotations}
            change["metadata"] = {**live["metadata"], "annotations": annotations}
        return self._merge(existing, number, change)

    def _together(self, writes: tuple[int, ...]) -> int:
        """How many of the next writes are sent at the same time."""
        count = 0
        while count < len(writes) and isinstance(self._writes[writes[count]].write, Create | Apply):
            count += 1
        return count or 1

    def _flying(self, state: State, controller: int, flight: int) -> State:
        live, seen, flights, known = state
        return _state(live, seen, (*flights[:controller], flight, *flights[controller + 1 :]), known)

    def _add_known(self, state: State, controller: int, entry: tuple[str, str, str]) -> State:
        return self._knowing(state, controller, self._known[state.known[controller]] | {entry})

    def _accepted(self, state: State, controller: int, slot: int) -> State:
        """What was refused of this child is not any more."""
        known, entry = self._known[state.known[controller]], ("refused", *self.objects.slots[slot])
        return self._knowing(state, controller, known - {entry}) if entry in known else state

    def _slot_of(self, planned: WriteOf) -> int:
        match planned.write:
            case Delete(kind=kind, name=name):
                return self.objects.slot(kind, name)
            case Create(manifest=manifest) | Apply(manifest=manifest):
                return self.objects.slot(manifest["kind"], manifest["metadata"]["name"])
        return self.own[planned.controller]

    def _applied(self, state: State, number: int) -> tuple[str, State | None]:
        """What the API server makes of a write: the state after it, or what it answers instead."""
        planned, slot = self._writes[number], self._written[number]
        write, existing = planned.write, state.live[slot]
        if planned.doomed:
            return "it has changed meanwhile", None
        if isinstance(write, Create):
            return self._created(state, number, planned, slot)
        if not existing:
            return "it is gone", None
        live = self.objects.manifests[existing]
        if isinstance(write, SetStatus):
            if live["metadata"]["uid"] != planned.uid:
                return "it is another one by now", None
            broken = self._broken_guard(state, number, write.guards)
            if broken is not None:
                return f"no longer so: {broken}", None
            return "", self._put(state, slot, self._merge(existing, number, {"status": write.status}))
        assert isinstance(write, Apply | Delete)
        if self.weakness.uid_preconditions and live["metadata"]["uid"] != write.uid:
            return "it is another one by now", None
        broken = self._broken_guard(state, number, write.guards)
        if broken is not None:
            return f"no longer so: {broken}", None
        state = self._accepted(state, planned.controller, slot)
        if isinstance(write, Delete):
            return "", state if live["metadata"].get("deletionTimestamp") else self._put(state, slot, 0)
        return "", self._put(state, slot, self._merged_spec(existing, number, write))

    def _merge(self, existing: int, write: int, change: Manifest) -> int:
        known = self._merged.get((existing, write))
        if known is None:
            manifest = {**self.objects.manifests[existing], **change}
            known = self._merged[existing, write] = self.objects.number(self._kind(existing), manifest)
        return known

    def _created(self, state: State, number: int, planned: WriteOf, slot: int) -> tuple[str, State | None]:
        assert isinstance(planned.write, Create)
        controller = planned.controller
        kind, name = self.objects.slots[slot]
        existing = state.live[slot]
        broken = self._broken_guard(state, number, planned.write.guards)
        if broken is not None:
            return f"no longer so: {broken}", None
        if not existing or not self.weakness.create_only:
            state = self._put(state, slot, self._named(state, slot, self._template(planned)))
            return "", self._accepted(state, controller, slot)
        live = self.objects.manifests[existing]
        if TYPES[kind].owned and is_former(live, self.controllers[controller][1], planned.uid):
            return "one of a former object is being cleaned up", None
        if TYPES[kind].owned and not is_owned(live, planned.uid):
            if ("taken", kind, name) in self._known[state.known[controller]]:
                return "", state
            # The rest of the plan would say that it is on its way.
            return TAKEN, self._add_known(state, controller, ("taken", kind, name))
        if TYPES[kind].owned and live["metadata"].get("deletionTimestamp"):
            return "it is being cleaned up", None
        return "", state

    def _template(self, planned: WriteOf) -> int:
        known = self._created_as.get(id(planned))
        if known is None:
            assert isinstance(planned.write, Create)
            manifest = planned.write.manifest
            known = self._created_as[id(planned)] = self.objects.template(manifest["kind"], created(manifest))
        return known

    def _broken_guard(self, state: State, number: int, guards: Guards) -> str | None:
        if not guards:
            return None
        read = tuple(self._read_by(guard, state) for guard in guards)
        if (number, read) not in self._guarded:
            self._guarded[number, read] = next(
                (
                    guard.meaning
                    for guard, live in zip(guards, read, strict=True)
                    if not self.weakness.guards(guard) and not self._holds(guard, live)
                ),
                None,
            )
        return self._guarded[number, read]

    def _read_by(self, guard: AnyGuard, state: State) -> tuple[int, ...]:
        """The objects that a guard looks at."""
        if isinstance(guard, NoPods | Listed):
            return tuple(n for n in state.live if n and self._kind(n) == guard.kind)
        return (state.live[self.objects.slot(guard.kind, guard.name)],)

    def _holds(self, guard: AnyGuard, read: tuple[int, ...]) -> bool:
        manifests = self.objects.manifests
        if isinstance(guard, NoPods):
            left = [manifests[number] for number in read if is_owned(manifests[number], guard.job)]
            return all(guard.index not in (None, pods.index(pod)) for pod in left)
        if isinstance(guard, Listed):
            return guard.holds(tuple(manifests[number] for number in read))
        return guard.holds(manifests[read[0]] if read[0] else None)


def _empty(name: str) -> Manifest:
    """An object of which only the dependencies are asked: any spec has the same kinds."""
    reference = {"name": "any"}
    store = {"collect": {"enabled": True, "artifacts": True}}
    spec = {"data": {"datasetRef": reference}, "modelRef": reference, "model": reference, "store": store}
    spec |= {"expose": reference, "autoscaling": {"cpuPercent": 70}}
    spec |= {"modelVersionRef": reference, "versionHistoryLimit": 1, "workers": 2, "pipelineRef": reference}
    spec |= {"training": {"maxParallel": 1}, "requirements": [{"dataFreshness": {"datasetRef": reference}}]}
    spec |= {"useCaseRef": reference, "source": {"deployment": reference}}
    spec["template"] = {"spec": {"data": {"datasetRef": reference}}}
    return {"metadata": {"name": name, "namespace": NAMESPACE, "uid": "any"}, "spec": spec}
