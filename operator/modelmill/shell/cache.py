"""The cache: what the watches have shown of the cluster, indexed the way the core asks for it.

It also knows which of our objects depends on which keys, so that a change can be answered with the objects to
be reconciled.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from modelmill.core.controller import Controller
from modelmill.core.measurement import Asked, Source, asked_of, source_of
from modelmill.core.plan import Measurement, Observed, Settings
from modelmill.core.resources import OWNER_LABEL, TYPES, Key, Manifest, dig
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
        self._rollouts: dict[str, Asked] = {}  # by the UID of a ModelDeployment, during its steps
        self._baselines = Baselines()
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
            self._ask(key, source_of(new, self._rollouts))
        if kind == "ModelDeployment":
            self._follow_rollout(metadata["namespace"], metadata["uid"], asked_of(new))
        if old is not None and old["metadata"]["uid"] != metadata["uid"]:
            self._measured.pop(old["metadata"]["uid"], None)
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
        self._ask(key, None)
        if kind == "ModelDeployment":
            self._follow_rollout(namespace, old["metadata"]["uid"], None)
        if kind == "Pod":
            self._baselines.gone(dig(old, "metadata", "labels", OWNER_LABEL), old["metadata"]["uid"])
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

    def _follow_rollout(self, namespace: str, uid: str, asked: Asked | None) -> None:
        """Its pods are asked what they count for as long as its steps go on, from the window on that is open."""
        before = self._rollouts.get(uid)
        if asked == before:
            return
        if asked is not None:
            self._rollouts[uid] = asked
            self._baselines.opened(uid, asked.window)
        else:
            del self._rollouts[uid]
            self._baselines.closed(uid)
        if before is None or asked is None or before[:2] != asked[:2]:
            for pod in self._index.get(Key("Pod", namespace, OWNER_LABEL, uid), ()):
                self._ask(pod, source_of(self._objects[pod], self._rollouts))

    def weighed(self, deployment: Manifest, baseline: Mapping[str, Any]) -> None:
        """This status of ours was written: its next window begins with these answers of pods, by UID."""
        asked = asked_of(deployment)
        if asked is not None:
            self._baselines.weighed(deployment["metadata"]["uid"], asked.window, baseline)

    def measured(self, namespace: str, owner: str, answers: Mapping[str, Measurement]) -> set[ObjectKey]:
        """Remember what pods of the object with that UID answered, by their UIDs; who is to be reconciled for it.

        What is the same as before wakes nobody, and a pod that is gone by now is left out.
        """
        key = Key("Pod", namespace, OWNER_LABEL, owner)
        known = {self._objects[pod]["metadata"]["uid"] for pod in self._index.get(key, ())}
        news = {
            uid: answer
            for uid, answer in answers.items()
            if uid in known and (uid not in self._measured or self._measured[uid].value != answer.value)
        }
        self._measured |= news
        self._baselines.answered(owner, {uid: answer for uid, answer in answers.items() if uid in known})
        return self._wake([key]) if news else set()

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
        baseline = self._baselines.of(manifest["metadata"]["uid"])
        return Observed(manifest, related, self._settings, self.foreign(key), refused, measured, baseline)

    def _depend(self, key: ObjectKey, manifest: Manifest) -> None:
        wanted = self._controllers[key[0]].depends(manifest)
        for dependency in self._dependencies.get(key, ()):
            self._dependents[dependency].discard(key)
        for dependency in wanted:
            self._dependents[dependency].add(key)
        self._dependencies[key] = wanted

    def _keys(self, key: ObjectKey, manifest: Manifest) -> Iterable[Key]:
        kind, namespace, name = key
        yield Key(kind, namespace, "metadata.name", name)
        for field, read in TYPES[kind].fields.items():
            values = read(manifest)
            for value in (values,) if isinstance(values, str) else values or ():
                yield Key(kind, namespace, field, value)

    def _index_object(self, key: ObjectKey, manifest: Manifest) -> set[Key]:
        keys = set(self._keys(key, manifest))
        for k in keys:
            self._index[k].add(key)
        return keys

    def _unindex(self, key: ObjectKey, manifest: Manifest) -> set[Key]:
        keys = set(self._keys(key, manifest))
        for k in keys:
            self._index[k].discard(key)
            if not self._index[k]:
                del self._index[k]
        return keys

    def _wake(self, keys: Iterable[Key]) -> set[ObjectKey]:
        return {dependent for key in keys for dependent in self._dependents.get(key, ())}


def _number(manifest: Manifest) -> int:
    # Resource versions of one resource type may be compared as numbers (a promise since Kubernetes 1.35, and
    # true of every release before).
    return int(manifest["metadata"]["resourceVersion"])


def _without_version(manifest: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "resourceVersion"}
    return {**manifest, "metadata": metadata}
