"""The way to a candidate: nobody is sent to it whom it does not know, and it is not taken away under anybody's feet."""

from datetime import UTC, datetime, timedelta
from typing import Any

from modelmill.api.rollout import Rollout
from modelmill.core import routing
from modelmill.core.plan import Apply, Delete, Settings, Subject
from modelmill.core.revisions import Running
from modelmill.core.rollout import Progress
from modelmill.core.routing import Paths, Routing, Told
from modelmill_contracts import routes

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SUBJECT = Subject("triage", "team-a", "uid", 1, Settings("trainer:1", "server:1"))
OLD, NEW = "0000000a", "0000000b"
CANDIDATE = Running(NEW, f"triage-{NEW}", "uid-b", 2, 1, 1, 1, "2026-01-01T00:00:00Z", None)


def begun(at: str) -> Progress:
    return Progress(
        f"{NEW}-5c1f0a9b-{at}", 1, "Running", started_at=at, step_at=at, windows=0, weighed_at=at, requests=0,
        failures=0, states=(), prometheus=(), passed=(),
    )  # fmt: skip


PROGRESS = begun("2026-01-01T11:00:00Z")


def told(revision: str, weight: int, shadow: int = 0) -> Told:
    epoch = f"{revision}-5c1f0a9b-2026-01-01T10:00:00Z"
    text = routes.encode(routes.Routes(epoch=epoch, host="triage-candidate", port=80, weight=weight, shadow=shadow))
    return Told("uid-told", text.decode(), epoch, weight, shadow, "2026-01-01T10:00:00Z")


def next_writes(paths: Paths, **changes: Any) -> tuple[tuple[Any, ...], timedelta | None]:
    given: dict[str, Any] = {
        "committed": PROGRESS, "goes_on": PROGRESS, "candidate": CANDIDATE, "least": 1, "serves": "0000000c",
        "drained": True, "now": NOW, **changes,
    }  # fmt: skip
    return routing.next_writes(SUBJECT, "ModelDeployment", paths, Rollout(strategy="Canary"), **given)


def way(revision: str) -> Routing:
    return Routing("uid-way", revision, current=True)


def test_pods_are_told_to_stop_before_the_way_leads_elsewhere() -> None:
    before = told(OLD, 25)
    ((write,), again) = next_writes(Paths(way(OLD), before))
    assert again is None
    assert isinstance(write, Apply)
    assert (write.manifest["kind"], write.uid) == ("ConfigMap", "uid-told")
    found = routes.decode(write.manifest["data"][routes.FILE].encode())
    assert (found.epoch, found.weight, found.shadow) == (before.epoch, 0, 0)
    ((write,), _) = next_writes(Paths(way(OLD), told(OLD, 0)))
    assert (write.manifest["kind"], write.uid) == ("Service", "uid-way")


def test_the_way_goes_only_when_pods_are_told_of_no_candidate() -> None:
    ((write,), again) = next_writes(Paths(way(NEW)), goes_on=None)
    assert again is None
    assert isinstance(write, Delete)
    assert (write.kind, write.name, write.uid) == ("Service", "triage-candidate", "uid-way")
    (guard,) = write.guards
    assert (guard.kind, guard.name) == ("ConfigMap", "triage-routes")
    assert guard.holds(None)
    assert not guard.holds({"metadata": {"uid": "uid-told"}, "data": {}})


def test_there_is_no_way_where_any_of_what_it_takes_is_missing() -> None:
    another = begun("2026-01-01T11:30:00Z")
    for missing in ({"committed": None}, {"goes_on": None}, {"candidate": None}, {"goes_on": another}):
        assert next_writes(Paths(), **missing) == ((), None)
    ((made,), _) = next_writes(Paths())
    assert made.manifest["kind"] == "Service"
