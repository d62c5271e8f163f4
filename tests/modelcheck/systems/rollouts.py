"""Rollouts besides the plain canary: copies first, an approval that is withdrawn meanwhile, Prometheus, and silence."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from modelcheck.cluster import Live, Move, move
from modelcheck.objects import AHEAD, LONG_AGO, NOW, uid
from modelcheck.systems.canary import FAIL, FEW, PASS, CanarySystem, spec, told
from modelcheck.systems.modeldeployment import KIND, NAME
from modelmill.core import conditions, queries, rollout
from modelmill.core.actions import ANNOTATION
from modelmill.core.plan import Measurement, Observed, SetStatus, Write
from modelmill.core.queries import Answer
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, Manifest, dig
from modelmill.core.serving import VERSION_LABEL

_PROMETHEUS = "prometheus"
INSIDE, OUTSIDE, SILENT = "inside", "outside", "silent"
_ANSWERS = {INSIDE: Answer(100.0), OUTSIDE: Answer(1.0), SILENT: Answer(None, queries.UNREACHABLE)}
# A step of time is a day: a deadline that is nearer ends every rollout before its evidence is there.
_NEVER = "100000h"
# What a person holds, or has to look at first.
_HELD = ("Paused", "NothingToCompareWith")


def rollouts() -> tuple[CanarySystem, ...]:
    return CopiesSystem(), WithdrawnSystem(), QueriesSystem(), EndingSystem()


class _Patient(CanarySystem):
    longest_pause = timedelta(days=10_000)


class CopiesSystem(_Patient):
    """Copies first, and then a share of the requests, or all of them at once."""

    verdicts = (PASS, FAIL, FEW)

    def __init__(self) -> None:
        analysis = {"minRequests": 1, "deadline": _NEVER, "agreement": {"min": "0.9"}}
        steps = [{"shadow": "5m"}, {"weight": 50, "hold": "5m"}]
        canary = spec(1, None, steps=steps, analysis=analysis)
        at_once = spec(1, None, strategy="BlueGreen", steps=steps[:1], analysis=analysis)
        super().__init__("copies", (canary, at_once), ())

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        now = told(after)
        candidate = dig(after.get(KIND, NAME), "status", "candidate")
        if now is not None and now.shadow and now.weight:
            return "copies and requests are sent at once"
        if isinstance(write, SetStatus) and _agreement(candidate) == "Hold" and (dig(candidate, "weight") or 0) > 0:
            asked = str(dig(before.get(KIND, NAME), "metadata", "annotations", ANNOTATION))
            if not asked.startswith("promote@") and not dig(before.get(KIND, NAME), "status", "candidate", "weight"):
                return "it gets requests, and nobody knows whether it predicts the same"
        return super().unsafe(write, before, after)


def _agreement(candidate: Manifest | None) -> str | None:
    gates = dig(candidate, "evidence") or ()
    return next((gate["verdict"] for gate in gates if gate["gate"] == "agreement"), None)


class WithdrawnSystem(_Patient):
    """The approval of what comes up is withdrawn in the middle, and given again."""

    def __init__(self) -> None:
        more = ("the window says pass", "version 2 is withdrawn")
        canary = spec(1, None, analysis={"minRequests": 1, "deadline": _NEVER})
        super().__init__("canary and withdrawal", (canary,), more, withdrawn=True)

    def moves(self, live: Live) -> Iterator[Move]:
        for found in super().moves(live):
            if "asks for undo" not in found.story:  # that somebody goes back to what is older is another story
                yield found

    def untrue(self, live: Live) -> str | None:
        routed = told(live)
        if routed is not None and routed.weight + routed.shadow > 0:
            known = _version_of(live, rollout.revision_in(routed.epoch))
            # What has taken over goes on serving: requests that still come to the old pods are its own.
            taken_over = dig(live.get(KIND, NAME), "status", "candidate") is None
            if known is not None and not conditions.is_true(known, "Ready") and not taken_over:
                return "a version that was withdrawn gets requests"
        return super().untrue(live)


def _version_of(live: Live, revision: str) -> Manifest | None:
    found = live.get("Deployment", f"{NAME}-{revision}")
    number = dig(found, "metadata", "labels", VERSION_LABEL)
    return live.get("ModelVersion", f"{NAME}-{number}") if number is not None else None


class QueriesSystem(_Patient):
    """Prometheus says what it likes, or nothing: its answer is another Pod's message, and always a new one."""

    def __init__(self) -> None:
        query = {"name": "revenue", "query": "revenue", "min": "90", "failures": 2}
        steps = [{"weight": 5, "hold": "5m"}, {"weight": 50, "hold": "5m"}]
        analysis = {"minRequests": 1, "deadline": _NEVER, "prometheus": [query]}
        super().__init__("canary and Prometheus", (spec(1, None, steps=steps, analysis=analysis),), ())

    def start(self) -> list[Manifest]:
        return [*super().start(), _says(OUTSIDE)]

    def heard(self, observed: Observed) -> Observed:
        for key, found in observed.related.items():
            for pod in found if key.kind == "Pod" else ():
                if pod["metadata"]["name"] == _PROMETHEUS:
                    asked = queries.asked_of(observed.object, observed.settings)
                    answer = Measurement(_ANSWERS[pod["status"]["message"]], NOW)
                    answers = dict.fromkeys(asked.queries, answer) if asked is not None else {}
                    return super().heard(replace(observed, answers=answers))
        return super().heard(observed)

    def moves(self, live: Live) -> Iterator[Move]:
        yield from super().moves(live)
        for word in _ANSWERS:
            if _said(live) != word:
                yield move(f"Prometheus says {word}", _says(word))

    def help(self, live: Live) -> Iterator[Move]:
        yield from super().help(live)
        # Not before it was heard to be outside: so the search starts in the middle of that, too.
        if _said(live) != INSIDE and dig(live.get(KIND, NAME), "status", "candidate", "prometheus"):
            yield move("Prometheus says inside", _says(INSIDE))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        found = super().unsafe(write, before, after)
        if found is not None or not isinstance(write, SetStatus):
            return found
        was, now = (dig(live.get(KIND, NAME), "status", "candidate") for live in (before, after))
        asked = str(dig(before.get(KIND, NAME), "metadata", "annotations", ANNOTATION))
        rises = 0 < (dig(was, "weight") or 0) < (dig(now, "weight") or 0) and dig(was, "epoch") == dig(now, "epoch")
        if rises and not asked.startswith("promote@"):
            said = [query["verdict"] for query in now.get("prometheus", ())]
            if said != ["Promote"]:
                return "the weight rises though Prometheus does not say so"
        back = dig(after.get(KIND, NAME), "status", "rolledBack")
        if dig(back, "reason") == "PrometheusAgainst" and dig(before.get(KIND, NAME), "status", "rolledBack") is None:
            counted = [(query.get("failures"), query.get("countedAt")) for query in dig(was, "prometheus") or ()]
            if counted not in ([(1, LONG_AGO)], [(1, AHEAD)]):
                return "it is rolled back for one answer, or for two of one interval"
        return None


def _says(word: str) -> Manifest:
    labels = {**MANAGED_BY, OWNER_LABEL: uid(KIND, NAME)}
    metadata = {"name": _PROMETHEUS, "uid": uid("Pod", _PROMETHEUS), "labels": labels}
    return {"kind": "Pod", "metadata": metadata, "status": {"message": word}}


def _said(live: Live) -> Any:
    return dig(live.get("Pod", _PROMETHEUS), "status", "message")


class EndingSystem(CanarySystem):
    """Nobody holds it, and whatever else happens or does not, it comes to an end."""

    def __init__(self) -> None:
        steps = [{"weight": 5, "hold": "5m"}]
        analysis = {"minRequests": 1, "deadline": "9m", "onInconclusive": "Rollback"}
        settings = {"steps": steps, "analysis": analysis}
        super().__init__("every rollout ends", (spec(1, None, **settings), spec(1, 1, **settings)), ())

    def help(self, live: Live) -> Iterator[Move]:
        """Everything but requests: nobody sends any."""
        for found in super().help(live):
            if not found.story.startswith("the window says"):
                yield found

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        reason = (conditions.find(present or {}, "Ready") or {}).get("reason")
        if dig(present, "status", "candidate", "epoch") and reason not in _HELD:
            return f"a rollout that nobody holds does not end: {reason}"
        return super().unreached(live)
