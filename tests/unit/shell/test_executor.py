"""The executor: what the API server says of one write is remembered for the next plan."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from answering import answering

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Apply, Create, Delete, Guard, Listed, NoPods, Plan, Record, SetStatus, Settings
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache
from modelmill.shell.events import Recorder
from modelmill.shell.executor import Executor, Stale
from modelmill.shell.lease import Fence, clock

KEY = ("Model", "team-a", "triage")
DEPLOYMENT = ("ModelDeployment", "team-a", "triage")
METADATA = {"name": "triage", "namespace": "team-a", "uid": "u", "resourceVersion": "1", "generation": 1}


class Faults:
    """An API server with nothing but refusals, except what a test has it answer to a method."""

    def __init__(self) -> None:
        self.code, self.message = 404, "no"
        self.answers = dict[str, dict[str, Any]]()
        self.codes = dict[str, int]()  # of a method, where it is not `code`
        self.asked = list[tuple[str, Any]]()  # method and body

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, await request.json() if request.can_read_body else None))
        if request.method in self.answers:
            return web.json_response(self.answers[request.method])
        return web.json_response(
            {"kind": "Status", "message": self.message}, status=self.codes.get(request.method, self.code)
        )


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def api(faults: Faults) -> AsyncIterator[Api]:
    async with answering(faults.answer) as server, Api(server, lambda *_: None) as made:
        yield made


@pytest.fixture
def cache() -> Cache:
    cache = Cache(CONTROLLERS, Settings("trainer:1", "server:1"))
    cache.store("Model", {"metadata": METADATA})
    cache.store("ModelDeployment", {"metadata": METADATA, "spec": {"model": {"name": "triage"}}})
    return cache


async def test_an_object_that_flaps_has_events_up_to_a_bound(api: Api, cache: Cache, faults: Faults) -> None:
    faults.answers["POST"] = {}
    flapping = [Record("Warning", "NoPodReady", "no pod is ready")] * 40
    await carried_out(api, cache, DEPLOYMENT, *flapping)
    assert len(faults.asked) == 25


async def carried_out(
    api: Api, cache: Cache, key: tuple[str, str, str], *writes: Any, times: int = 1
) -> dict[str, str | None]:
    """Whose statuses cannot be written, and why, after so many plans with these writes."""
    fence, hindered = Fence(), dict[str, str | None]()
    fence.renewed(clock() + 1000)
    events = Recorder(api, fence, "test")
    executor = Executor(api, cache, fence, lambda _: None, events, hindered.__setitem__)
    for _ in range(times):
        observed = cache.observe(key)
        assert observed is not None
        with contextlib.suppress(Stale, ApiError):
            await executor.carry_out(key, observed, Plan(writes))
    await events.flush()
    return hindered


def refused(cache: Cache) -> tuple[tuple[str, str, str], ...]:
    """What the API server refuses of the ModelDeployment's children."""
    observed = cache.observe(DEPLOYMENT)
    assert observed is not None
    return observed.refused


STATUS = SetStatus({"conditions": []})
CHILD = Create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "triage", "namespace": "team-a"}})


async def test_a_status_that_forgets_a_child_waits_until_that_is_read_to_be_gone(
    api: Api, cache: Cache, faults: Faults
) -> None:
    gone = Guard("HTTPRoute", "triage", lambda live: live is None, "HTTPRoute triage is gone")
    status = SetStatus({"conditions": []}, guards=(gone,))
    faults.answers["GET"] = {"metadata": METADATA}
    faults.answers["PATCH"] = {"metadata": METADATA, "spec": {"model": {"name": "triage"}}}
    await carried_out(api, cache, DEPLOYMENT, status)
    assert [method for method, _ in faults.asked] == ["GET"]
    del faults.answers["GET"]
    for faults.code in (404, 403):  # gone; or not ours to read, so that none can be ours
        faults.asked.clear()
        await carried_out(api, cache, DEPLOYMENT, status)
        assert [method for method, _ in faults.asked] == ["GET", "PATCH"]


async def test_an_object_that_is_gone_is_forgotten_though_no_watch_told(api: Api, cache: Cache) -> None:
    await carried_out(api, cache, KEY, STATUS)
    assert cache.observe(KEY) is None


@pytest.mark.parametrize(
    ("code", "message", "remembered"),
    [
        (400, 'admission webhook "x" denied the request', True),
        (403, "exceeded quota", True),
        (413, "a policy's own reason", True),
        (422, "Service is invalid", True),
        (500, 'Internal error occurred: failed calling webhook "x"', True),
        (500, "etcdserver: leader changed", False),
        (429, "too many requests", False),
        (503, "the server is starting", False),
    ],
)
async def test_who_refuses_a_child_is_remembered(
    api: Api, cache: Cache, faults: Faults, code: int, message: str, remembered: bool
) -> None:
    faults.code, faults.message = code, message
    await carried_out(api, cache, DEPLOYMENT, CHILD)
    assert refused(cache) == ((("Service", "triage", message),) if remembered else ())


GUARDS = [
    Guard("Service", "triage", lambda _: True, "the Service selects it"),
    NoPods("j", "no pod is left"),
    Listed("ModelDeployment", lambda _: True, "no ModelDeployment needs it"),
]


@pytest.mark.parametrize("method", ["DELETE", "GET"])
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: type(guard).__name__)
async def test_a_deletion_that_is_refused_keeps_no_status_from_being_written(
    api: Api, cache: Cache, faults: Faults, method: str, guard: Any
) -> None:
    faults.answers = {
        "GET": {"metadata": {"resourceVersion": "7"}, "items": []},
        "DELETE": {"kind": "Status"},
        "PATCH": {"metadata": {**METADATA, "resourceVersion": "2"}},
    }
    del faults.answers[method]
    faults.code, faults.message = 403, "the role lacks it"
    faults.answers["POST"] = {}
    deletion = Delete("Deployment", "triage-1", "d", (guard,))
    plan = (deletion, Record("Normal", "Deleted", ""), STATUS, Record("Normal", "Said", ""))
    await carried_out(api, cache, DEPLOYMENT, *plan)
    assert "PATCH" not in [asked for asked, _ in faults.asked]  # the status that is planned does not know it yet
    ((kind, name, message),) = refused(cache)
    assert (kind, name) == ("Deployment", "triage-1")
    assert message.endswith("the role lacks it")
    assert (guard.meaning in message) == (method == "GET")
    await carried_out(api, cache, DEPLOYMENT, *plan)
    assert [asked for asked, _ in faults.asked if asked in (method, "PATCH")] == [method, method, "PATCH"]
    assert [body["reason"] for asked, body in faults.asked if asked == "POST"] == ["Said"]
    faults.answers[method] = {"kind": "Status", "metadata": {"resourceVersion": "7"}, "items": []}
    await carried_out(api, cache, DEPLOYMENT, deletion)
    assert refused(cache) == ()


async def test_a_name_whose_holder_may_not_be_seen_is_refused(api: Api, cache: Cache, faults: Faults) -> None:
    faults.codes = {"POST": 409, "GET": 403}
    await carried_out(api, cache, DEPLOYMENT, CHILD)
    assert refused(cache) == (("Service", "triage", "it cannot be seen whether the one of that name is ours: no"),)


async def test_what_only_hurries_is_gone_without_and_that_is_said_once(
    api: Api, cache: Cache, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.codes, faults.message = {"PATCH": 403}, "the role lacks patch on pods"
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": n, "namespace": "team-a"}} for n in "ab"]
    faults.answers["POST"] = {}
    touches = (Apply(pod, "p", spared=True) for pod in pods)
    await carried_out(api, cache, DEPLOYMENT, *touches, Record("Normal", "Said", ""), times=2)
    assert [method for method, _ in faults.asked] == ["PATCH"] * 4 + ["POST"] * 2
    assert refused(cache) == ()
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("Pod a may not be changed; nothing waits for it")
    assert said.endswith("the role lacks patch on pods")


@pytest.mark.parametrize(
    ("code", "message", "why"),
    [
        (403, "no", "the operator's role lacks patch on models/status: no"),
        (
            500,
            ".status.x: field not declared in schema",
            "the CRD of models is older than the operator, update the CRDs: .status.x: field not declared in schema",
        ),
        (503, "later", None),
    ],
)
async def test_a_kind_whose_status_cannot_be_written_is_named(
    api: Api, cache: Cache, faults: Faults, code: int, message: str, why: str | None
) -> None:
    faults.code, faults.message = code, message
    assert await carried_out(api, cache, KEY, STATUS) == {"Model": why}


OWNER = {"apiVersion": "modelmill.dev/v1alpha1", "kind": "ModelDeployment", "name": "triage", "uid": "u"}
LABELS = {"app.kubernetes.io/managed-by": "modelmill", "modelmill.dev/owner-uid": "u"}


def child(version: int, **metadata: Any) -> dict[str, Any]:
    """A Deployment of the ModelDeployment."""
    owners = [{**OWNER, "controller": True}]
    known = {"name": "triage-1", "namespace": "team-a", "uid": "d", "labels": LABELS, "ownerReferences": owners}
    return {"metadata": {**known, "resourceVersion": str(version), **metadata}, "spec": {"replicas": 0}, "status": {}}


def children(cache: Cache) -> list[Any]:
    """When each Deployment that is seen was deleted."""
    return [deployment["metadata"].get("deletionTimestamp") for deployment in cache.objects("Deployment")]


DELETED = "2026-01-01T00:00:00Z"
REMOVAL = Delete("Deployment", "triage-1", "d")


async def test_what_was_deleted_is_gone(api: Api, cache: Cache, faults: Faults) -> None:
    cache.store("Deployment", child(5))
    faults.answers["DELETE"] = {"kind": "Status", "metadata": {}, "status": "Success"}
    await carried_out(api, cache, DEPLOYMENT, REMOVAL)
    assert children(cache) == []


async def test_what_was_deleted_and_a_finalizer_keeps_is_still_seen(api: Api, cache: Cache, faults: Faults) -> None:
    cache.store("Deployment", child(5))
    faults.answers["DELETE"] = child(6, deletionTimestamp=DELETED)
    await carried_out(api, cache, DEPLOYMENT, REMOVAL)
    assert children(cache) == [DELETED]


async def test_a_name_that_a_child_still_has_while_it_is_cleaned_up_is_not_taken_for_the_new_one(
    api: Api, cache: Cache, faults: Faults
) -> None:
    faults.code = 409
    faults.answers["GET"] = child(6, deletionTimestamp=DELETED)
    again = Create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": child(1)["metadata"]})
    await carried_out(api, cache, DEPLOYMENT, again, STATUS)
    assert children(cache) == [DELETED]
    assert [method for method, _ in faults.asked] == ["POST", "GET"]  # no status says that it is there


AGAIN = Create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": child(1)["metadata"]})


@pytest.mark.parametrize("left", [{}, {"modelmill.dev/owner-uid": "u"}, {**LABELS, "modelmill.dev/owner-uid": "v"}])
async def test_a_child_that_lost_a_label_by_which_it_is_seen_gets_it_back(
    api: Api, cache: Cache, faults: Faults, left: dict[str, str]
) -> None:
    faults.code = 409
    faults.answers |= {"GET": child(6, labels=left), "PATCH": child(7)}
    await carried_out(api, cache, DEPLOYMENT, AGAIN, STATUS)
    patch = {"uid": "d", "resourceVersion": "6", "labels": LABELS.items() - left.items()}
    assert [method for method, _ in faults.asked] == ["POST", "GET", "PATCH"]  # the status would not tell of it
    sent = faults.asked[-1][1]["metadata"]
    assert {**sent, "labels": sent["labels"].items()} == patch
    observed = cache.observe(DEPLOYMENT)
    assert observed is not None
    assert observed.find("Deployment", "modelmill.dev/owner-uid", "u")


async def test_a_child_that_may_not_get_its_label_back_is_refused(api: Api, cache: Cache, faults: Faults) -> None:
    faults.code, faults.message = 409, "a policy forbids it"
    faults.answers["GET"] = child(6, labels={})
    faults.codes["PATCH"] = 403
    await carried_out(api, cache, DEPLOYMENT, AGAIN)
    assert refused(cache) == (("Deployment", "triage-1", "a policy forbids it"),)
    await carried_out(api, cache, DEPLOYMENT, AGAIN, STATUS)
    assert faults.asked[-1][1]["kind"] == "ModelDeployment"  # the status says so, instead of waiting for it


async def test_a_child_with_its_labels_is_left_as_it_is(api: Api, cache: Cache, faults: Faults) -> None:
    faults.code = 409
    faults.answers["GET"] = child(6)
    await carried_out(api, cache, DEPLOYMENT, AGAIN)
    assert [method for method, _ in faults.asked] == ["POST", "GET"]
    assert children(cache) == [None]


async def test_a_long_event_has_as_many_bytes_as_the_api_server_takes(api: Api, cache: Cache, faults: Faults) -> None:
    faults.answers["POST"] = {}
    await carried_out(api, cache, DEPLOYMENT, Record("Normal", "Serving", "x" + "\u00e4" * 1000))
    assert faults.asked[-1][1]["note"] == "x" + "\u00e4" * 511


@pytest.mark.parametrize("others", [0, 1])
async def test_what_everybody_says_is_read_fresh_before_a_write(
    api: Api, cache: Cache, faults: Faults, others: int
) -> None:
    item = {"metadata": {"name": "triage", "managedFields": ["what nobody reads"]}, "spec": {"model": {"version": 1}}}
    faults.answers = {"GET": {"metadata": {"resourceVersion": "7"}, "items": [item] * others}, "DELETE": {}}
    seen = list[Any]()

    def nobody(found: tuple[Any, ...]) -> bool:
        seen.extend(found)
        return not found

    guard = Listed("ModelDeployment", nobody, "no ModelDeployment needs triage-1")
    await carried_out(api, cache, KEY, Delete("ModelVersion", "triage-1", "u", (guard,)))
    assert [method for method, _ in faults.asked] == ["GET", *(["DELETE"] if not others else [])]
    assert seen == [{"metadata": {"name": "triage"}, "spec": {"model": {"version": 1}}, "status": {}}] * others
