"""The cache: what the watches have shown of the cluster, indexed the way the core asks for it.

It also knows which of our objects depends on which keys, so that a change can be answered with the objects to
be reconciled.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from modelmill.core import queries
from modelmill.core.controller import Controller
from modelmill.core.measurement import Asked, Source, asked_of, source_of
from modelmill.core.plan import Measurement, Observed, SetStatus, Settings
from modelmill.core.resources import OPTIONAL, OWNER_LABEL, TYPES, Key, Manifest, dig
from modelmill.shell.baselines import Baselines

ObjectKey = tuple[str, str, str]  # kind, namespace, name


class InvalidObjectError(ValueError):
    """It is JSON, but no object of that kind."""


class RestoredError(Exception):
    """The API server's data are older than what it said before: nothing that is known can be relied on."""


class Cache:
    """Objects by kind, namespace and name, as projections (see core.resources)."""

    def __init__(self, controllers: Mapping[str, Controller[Any, Any]], settings: Settings) -> None:
        self._controllers = controllers
        self._settings = settings
        self._objects: dict[ObjectKey, dict[str, Any]] = {}
        self._index: defaultdict[Key, set[ObjectKey]] = defaultdict(set)
        self._dependents: defaultdict[Key, set[ObjectKey]] = defaultdict(set)
        self._dependencies: dict[ObjectKey, tuple[Key, ...]] = {}
        self._foreign: dict[ObjectKey, set[tuple[str, str]]] = {}
        self._refused: dict[ObjectKey, dict[tuple[str, str], str]] = {}
        self._askable: dict[ObjectKey, Source] = {}  # pods; a look at all of them each second would cost too much
        self._measured: dict[str, Measurement] = {}  # by the UID of a pod that is known
        # By the UID of a ModelDeployment whose pods are asked what they count.
        self._serving: dict[str, Asked] = {}
        # Of rollouts, of drift, of service levels.
        self._baselines, self._drift_baselines, self._levels = Baselines(), Baselines(), Baselines()
        self._queries: dict[ObjectKey, queries.Asked] = {}  # what Prometheus is asked, by ModelDeployment
        self._answers: dict[ObjectKey, dict[str, Measurement]] = {}  # what it said last, by query
        self._earlier: dict[str, deque[Measurement]] = {}  # by pod: answers before the last, where the demand is asked
        self._wanted = {resource.kind: asyncio.Event() for resource in OPTIONAL}
        self._newest: dict[str, int] = {}  # resource version of each kind
        # UIDs of ours that are gone, until the kind is listed anew: a list that began before may still show them.  (A
        # child may come back with its UID, as it goes out of sight without its label.)
        self._gone: defaultdict[str, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._objects)

    def objects(self, kind: str) -> list[Manifest]:
        """All objects of a kind."""
        return [manifest for (kind_, _, _), manifest in self._objects.items() if kind_ == kind]

    def askable(self) -> list[tuple[Source, Manifest]]:
        """The pods that can be asked how they are doing, each with what it is asked."""
        return [(source, self._objects[key]) for key, source in self._askable.items()]

    def inquiries(self) -> Mapping[ObjectKey, queries.Asked]:
        """What Prometheus is to be asked, by the ModelDeployment that it is for."""
        return self._queries

    def answered(self, key: ObjectKey, answers: Mapping[str, Measurement]) -> set[ObjectKey]:
        """Remember what Prometheus said; who is to be reconciled for it.

        The same once more is news, too: it is another answer.
        """
        asked = self._queries.get(key)
        if asked is None:
            return set()
        self._answers[key] = {query: answer for query, answer in answers.items() if query in asked.queries}
        return {key}

    def newest(self, kind: str) -> int:
        """The newest resource version of that kind's objects that was seen."""
        return self._newest.get(kind, 0)

    def store(self, kind: str, manifest: Manifest) -> set[ObjectKey]:
        """Remember an object; who is to be reconciled because of it.  Older news than what is known are ignored.

        InvalidObjectError where it is none.
        """
        try:
            new = TYPES[kind].project(manifest)
            metadata, number = new["metadata"], _number(new)
            key = (kind, metadata["namespace"], metadata["name"])
            metadata["uid"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InvalidObjectError(f"this is no {kind}: {type(error).__name__}: {error}") from error
        self._newest[kind] = max(self._newest.get(kind, 0), number)
        if metadata["uid"] in self._gone[kind]:
            return set()
        old = self._objects.get(key)
        if old is not None and _number(old) >= number:
            return set()
        self._objects[key] = new
        if kind == "Pod":
            self._ask(key, source_of(new, self._serving))
        if kind == "ModelDeployment":
            self._follow(metadata["namespace"], metadata["uid"], asked_of(new))
            self._inquire(key, queries.asked_of(new, self._settings))
        if old is not None and old["metadata"]["uid"] != metadata["uid"]:
            self._measured.pop(old["metadata"]["uid"], None)
            self._earlier.pop(old["metadata"]["uid"], None)
        if old is not None and _without_version(old) == _without_version(new):
            return set()
        woken = self._wake(self._unindex(key, old) if old is not None else set())
        woken |= self._wake(self._index_object(key, new))
        if kind in self._controllers:
            self._depend(key, new)
            woken.add(key)
        return woken

    def remove(self, kind: str, namespace: str, name: str, uid: str | None = None) -> set[ObjectKey]:
        """Forget an object (of that UID, if one is given); who is to be reconciled because of it."""
        key = (kind, namespace, name)
        old = self._objects.get(key)
        if uid is not None and kind in self._controllers:
            self._gone[kind].add(uid)
        if old is None or (uid is not None and old["metadata"]["uid"] != uid):
            return set()
        del self._objects[key]
        for dependency in self._dependencies.pop(key, ()):
            self._dependents[dependency].discard(key)
            if not self._dependents[dependency]:
                del self._dependents[dependency]
        self._foreign.pop(key, None)
        self._refused.pop(key, None)
        self._measured.pop(old["metadata"]["uid"], None)
        self._earlier.pop(old["metadata"]["uid"], None)
        self._ask(key, None)
        if kind == "ModelDeployment":
            self._follow(namespace, old["metadata"]["uid"], None)
            self._inquire(key, None)
        if kind == "Pod":
            for baselines in (self._baselines, self._drift_baselines, self._levels):
                baselines.gone(dig(old, "metadata", "labels", OWNER_LABEL), old["metadata"]["uid"])
        return self._wake(self._unindex(key, old))

    def keep_only(
        self, kind: str, namespace: str | None, seen: Collection[tuple[str, str]], version: str
    ) -> set[ObjectKey]:
        """After a complete list of that resource version: forget what it did not show and what is not newer than it.

        `seen` has (namespace, name) of what it showed.
        """
        gone = [
            key
            for key, manifest in self._objects.items()
            if key[0] == kind
            and (namespace is None or key[1] == namespace)
            and (key[1], key[2]) not in seen
            and _number(manifest) <= int(version)
        ]
        woken: set[ObjectKey] = set()
        for _, namespace_, name in gone:
            woken |= self.remove(kind, namespace_, name)
        self._gone[kind].clear()
        return woken

    def _ask(self, key: ObjectKey, source: Source | None) -> None:
        if source is not None:
            self._askable[key] = source
        else:
            self._askable.pop(key, None)

    def _follow(self, namespace: str, uid: str, asked: Asked | None) -> None:
        """Its pods are asked what they count while somebody wants to know, from the windows on that are open."""
        before = self._serving.get(uid)
        if asked == before:
            return
        if asked is not None:
            self._serving[uid] = asked
        else:
            del self._serving[uid]
        for baselines, window in (
            (self._baselines, asked.window if asked is not None else None),
            (self._drift_baselines, asked.drift if asked is not None else None),
            (self._levels, asked.levels if asked is not None else None),
        ):
            if window is not None:
                baselines.opened(uid, window)
            else:
                baselines.closed(uid)
        if before is None or asked is None or before[:2] != asked[:2]:
            for pod in self._index.get(Key("Pod", namespace, OWNER_LABEL, uid), ()):
                self._ask(pod, source_of(self._objects[pod], self._serving))

    def _inquire(self, key: ObjectKey, asked: queries.Asked | None) -> None:
        if asked is not None:
            self._queries[key] = asked
        else:
            self._queries.pop(key, None)
            self._answers.pop(key, None)

    def weighed(self, deployment: Manifest, write: SetStatus) -> None:
        """This status of ours was written: the next windows begin with its answers of pods, where it has some."""
        asked, uid = asked_of(deployment), deployment["metadata"]["uid"]
        if asked is None:
            return
        for baselines, window, answers in (
            (self._baselines, asked.window, write.baseline),
            (self._drift_baselines, asked.drift, write.drift_baseline),
            (self._levels, asked.levels, write.levels),
        ):
            if window is not None and answers is not None:
                baselines.weighed(uid, window, answers)

    def measured(self, namespace: str, owner: str, answers: Mapping[str, Measurement]) -> set[ObjectKey]:
        """Remember what pods of the object with that UID answered, by their UIDs; who is to be reconciled for it.

        What is the same as before wakes nobody, nor does what is only asked for drift, whose windows last; and a pod
        that is gone by now is left out.
        """
        key = Key("Pod", namespace, OWNER_LABEL, owner)
        known = {self._objects[pod]["metadata"]["uid"] for pod in self._index.get(key, ())}
        given, asked = {uid: answer for uid, answer in answers.items() if uid in known}, self._serving.get(owner)
        if asked is not None and asked.span is not None:
            span = asked.span
            given = {uid: replace(answer, before=self._before(uid, answer, span)) for uid, answer in given.items()}
        news = {uid for uid, answer in given.items() if _differs(self._measured.get(uid), answer)}
        # Where it is what came since that counts, the same answer at another time is another one, though no news.
        self._measured |= {uid: answer for uid, answer in given.items() if uid in news or answer.before is not None}
        for baselines in (self._baselines, self._drift_baselines, self._levels):
            baselines.answered(owner, given)
        return self._wake([key]) if news and (asked is None or asked.follows) else set()

    def _before(self, pod: str, answer: Measurement, span: timedelta) -> Measurement | None:
        """The newest answer of that pod that was asked for so long before this one."""
        earlier, seconds = self._earlier.setdefault(pod, deque()), span.total_seconds()
        while len(earlier) > 1 and answer.asked - earlier[1].asked >= seconds:
            earlier.popleft()
        found = earlier[0] if earlier and answer.asked - earlier[0].asked >= seconds else None
        earlier.append(answer)
        return found

    def set_foreign(self, key: ObjectKey, kind: str, name: str, *, taken: bool) -> bool:
        """Remember whether a child's name is taken by somebody else's object; whether that is new."""
        entry, known = (kind, name), self._foreign.get(key, set())
        changed = (entry in known) != taken
        known = known | {entry} if taken else known - {entry}
        if known and key in self._objects:
            self._foreign[key] = known
        else:
            self._foreign.pop(key, None)
        return changed

    def set_refused(self, key: ObjectKey, kind: str, name: str, message: str | None) -> bool:
        """Remember why the API server refuses a child, or (None) that it does not.

        Whether that is new: other words for a refusal that is known are not.
        """
        entry, known = (kind, name), self._refused.get(key, {})
        changed = (entry in known) != (message is not None)
        known = {k: v for k, v in known.items() if k != entry} | ({entry: message} if message is not None else {})
        if known and key in self._objects:
            self._refused[key] = known
        else:
            self._refused.pop(key, None)
        return changed

    def foreign(self, key: ObjectKey) -> frozenset[tuple[str, str]]:
        """(kind, name) of children whose names were found taken."""
        return frozenset(self._foreign.get(key, ()))

    def observe(self, key: ObjectKey) -> Observed | None:
        """The snapshot for a reconcile, or None where the object is gone."""
        manifest = self._objects.get(key)
        if manifest is None:
            return None
        related = {
            dependency: tuple(self._objects[k] for k in sorted(self._index.get(dependency, ())))
            for dependency in self._dependencies[key]
        }
        refused = tuple((kind, name, text) for (kind, name), text in sorted(self._refused.get(key, {}).items()))
        pods = (pod["metadata"]["uid"] for k, found in related.items() if k.kind == "Pod" for pod in found)
        measured = {uid: self._measured[uid] for uid in pods if uid in self._measured} if self._measured else {}
        uid = manifest["metadata"]["uid"]
        return Observed(
            manifest,
            related,
            self._settings,
            self.foreign(key),
            refused,
            measured,
            baseline=self._baselines.of(uid),
            drift_baseline=self._drift_baselines.of(uid),
            drift_seconds=self._drift_baselines.seconds(uid),
            levels=self._levels.of(uid),
            answers=self._answers.get(key, {}),
        )

    def _depend(self, key: ObjectKey, manifest: Manifest) -> None:
        wanted = self._controllers[key[0]].depends(manifest)
        for dependency in self._dependencies.get(key, ()):
            self._dependents[dependency].discard(key)
        for dependency in wanted:
            self._dependents[dependency].add(key)
            if dependency.kind in self._wanted:
                self._wanted[dependency.kind].set()
        self._dependencies[key] = wanted

    async def wanted(self, kind: str) -> None:
        """Return once any object depends on that optional kind."""
        await self._wanted[kind].wait()

    def dependents(self, kind: str) -> set[ObjectKey]:
        """Who depends on any object of that kind."""
        return {dependent for key, found in self._dependents.items() if key.kind == kind for dependent in found}

    def _index_object(self, key: ObjectKey, manifest: Manifest) -> set[Key]:
        keys = set(keys_of(key[0], manifest))
        for k in keys:
            self._index[k].add(key)
        return keys

    def _unindex(self, key: ObjectKey, manifest: Manifest) -> set[Key]:
        keys = set(keys_of(key[0], manifest))
        for k in keys:
            self._index[k].discard(key)
            if not self._index[k]:
                del self._index[k]
        return keys

    def _wake(self, keys: Iterable[Key]) -> set[ObjectKey]:
        return {dependent for key in keys for dependent in self._dependents.get(key, ())}


def keys_of(kind: str, manifest: Manifest) -> Iterator[Key]:
    """By what an object is found, once it is projected."""
    namespace = manifest["metadata"]["namespace"]
    yield Key(kind, namespace, "metadata.name", manifest["metadata"]["name"])
    for field, read in TYPES[kind].fields.items():
        values = read(manifest)
        for value in (values,) if isinstance(values, str) else values or ():
            yield Key(kind, namespace, field, value)


def _differs(known: Measurement | None, answer: Measurement) -> bool:
    """Whether an answer says something new, or what came since the one before it."""
    if known is None or known.value != answer.value:
        return True
    before, since = (m.before.value if m.before is not None else None for m in (known, answer))
    return bool(before != since)


def _number(manifest: Manifest) -> int:
    # Resource versions of one resource type may be compared as numbers (a promise since Kubernetes 1.35, and
    # true of every release before).
    return int(manifest["metadata"]["resourceVersion"])


def _without_version(manifest: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "resourceVersion"}
    return {**manifest, "metadata": metadata}
