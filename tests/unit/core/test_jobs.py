"""Jobs: what became of one is read from it, its pods and its events, whatever of them is seen."""

from datetime import timedelta
from typing import Any

import pytest
from world import World, trained, training_spec, with_dataset, with_store

from modelmill.core.plan import SetStatus
from modelmill_contracts import report

GONE = "ReportLost: the pod went away before it could report; trying again"
SOON = " (tried again within 1 min)"  # it may heal by itself
LATER = " (tried again within 10 min)"  # only somebody's change can help


def trying() -> World:
    """A Workspace whose Job runs."""
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    return world


def ready(world: World) -> str:
    world.reconcile("Workspace", "default")
    return world.told("Workspace", "default")[0].removeprefix("Ready ")


def add_pod(world: World, name: str, said: report.Report, created: str) -> None:
    world.end_job("default-preflight", said)
    pod = world.objects.pop(("Pod", "default-preflight-x"))
    world.objects["Pod", name] = {**pod, "metadata": {**pod["metadata"], "name": name, "creationTimestamp": created}}


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_a_job_is_judged_by_its_newest_pod(first: str, second: str) -> None:
    world = trying()
    add_pod(world, first, report.Report(False, "StoreUnreachable", "no answer"), "2026-01-01T00:00:00Z")
    add_pod(world, second, report.Report(False, "StoreRefused", "check the Secret"), "2026-01-01T00:00:09Z")
    assert ready(world) == f"False StoreRefused: check the Secret{LATER}"


def test_of_two_pods_of_one_second_the_same_one_counts_every_time() -> None:
    world = trying()
    for name, reason in (("b", "StoreRefused"), ("a", "StoreUnreachable")):
        add_pod(world, name, report.Report(False, reason, "check it"), "2026-01-01T00:00:00Z")
    assert ready(world) == f"False StoreRefused: check it{LATER}"


def test_a_pod_of_another_job_says_nothing_of_this_one() -> None:
    world = trying()
    world.end_job("default-preflight", report.Report(False, "StoreRefused", "check the Secret"))
    world.objects["Pod", "default-preflight-x"]["metadata"]["ownerReferences"][0]["uid"] = "former"
    assert ready(world) == f"False {GONE}"


def test_a_job_that_is_about_to_succeed_has_not_ended() -> None:
    world = trying()
    job = world.get("Job", "default-preflight")
    met = {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    not_yet = {"type": "Complete", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    world.objects["Job", "default-preflight"] = {**job, "status": {"conditions": [met, not_yet]}}
    assert ready(world) == "False PreflightRunning: the store is being tried"


@pytest.mark.parametrize("ok", [True, False])
def test_a_report_that_never_comes_is_waited_for_ten_seconds_and_then_asked_for_again(ok: bool) -> None:
    world = trying()
    world.end_job("default-preflight", report.Report(ok, "StoreWorks"))
    world.remove("Pod", "default-preflight-x")
    world.wait(4)
    plan = world.reconcile("Workspace", "default")
    assert world.told("Workspace", "default")[0] == f"Ready False {GONE}"
    assert plan.requeue_after == timedelta(seconds=6)
    world.wait(6)
    uid = world.get("Job", "default-preflight")["metadata"]["uid"]
    assert world.deletes("Workspace", "default") == [("Job", "default-preflight", uid)]


def test_a_clock_that_was_set_back_does_not_prolong_a_pause() -> None:
    world = trying()
    world.end_job("default-preflight", None, exit_reason="OOMKilled")
    world.wait(-3600)
    assert world.reconcile("Workspace", "default").requeue_after == timedelta(seconds=5)


SERVICE_ACCOUNT = "create that service account, or name another in spec.identity.serviceAccountName of the Workspace"


def refuse_pods(world: World, name: str, message: str, uid: str | None = None, **more: Any) -> None:
    owner = uid or world.get("Job", "default-preflight")["metadata"]["uid"]
    involved = {"kind": "Job", "name": "default-preflight", "uid": owner}
    world.put("Event", name, reason="FailedCreate", message=message, involvedObject=involved, **more)


def test_the_newest_refusal_of_a_pod_is_the_one_that_is_told() -> None:
    world = trying()
    refuse_pods(world, "a", "exceeded quota: old", lastTimestamp="2026-01-01T00:00:01Z")
    refuse_pods(world, "b", "exceeded quota: new", lastTimestamp="2026-01-01T00:00:09Z")
    refuse_pods(world, "c", "exceeded quota: without a time", lastTimestamp=None)
    assert ready(world) == (
        "False PodCreationRefused: the namespace does not let the pod be made: exceeded quota: new; raise the quota, or"
        " ask for less in resources"
    )


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('pods "a-" is forbidden: error looking up service account a/b: serviceaccount "b" not found', SERVICE_ACCOUNT),
        ("pods is forbidden: failed quota: small: must specify limits.cpu", "raise the quota, or ask for less in"),
        ("maximum memory usage per Container is 1Gi, but limit is 2Gi", "ask for what the LimitRange allows in"),
        ('violates PodSecurity "restricted:latest": no', "label the namespace with a Pod Security level"),
        ('admission webhook "a" denied the request: no', "ask who runs the platform which policy or webhook"),
    ],
)
def test_what_to_do_about_a_refusal_depends_on_what_refuses(message: str, advice: str) -> None:
    world = trying()
    refuse_pods(world, "a", f"Error creating: {message}")
    assert f"be made: Error creating: {message}; {advice}" in ready(world)


def test_what_to_do_about_a_job_that_takes_too_long_depends_on_its_kind() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec())
    world.put("Dataset", "slow", spec={"source": {"uri": "s3://lake/a.csv"}})
    world.settle()
    for kind, name, job, field in (
        ("TrainingJob", "lr", "lr-train", "spec.limits.timeout"),
        ("Dataset", "slow", "slow-data", "spec.resources"),
    ):
        world.end_job(job, None, reason="DeadlineExceeded")
        world.remove("Pod", f"{job}-x")
        world.reconcile(kind, name)
        (message,) = {line.partition(": ")[2] for line in world.told(kind, name) if " True TimedOut: " in line}
        assert message.startswith("it did not end in time; ")
        assert field in message
        assert ("limits.timeout" in message) == (kind == "TrainingJob")


@pytest.mark.parametrize(
    ("reason", "text", "advice"),
    [
        ("CreateContainerConfigError", 'secret "lake" not found', "create what is missing (a Secret for s3 has"),
        ("CreateContainerConfigError", "couldn't find key accountName in Secret a/lake", "add that key to it"),
        ("RunContainerError", 'exec: "train": executable file not found in $PATH', "mend what it says: the image, its"),
    ],
)
def test_what_to_do_about_a_container_that_is_not_made_depends_on_why(reason: str, text: str, advice: str) -> None:
    world = trying()
    waiting = {"name": "trainer", "state": {"waiting": {"reason": reason, "message": text}}}
    world.pod_of_job("default-preflight", containerStatuses=[waiting])
    assert f"cannot be created: {text}; {advice}" in ready(world)


def test_a_refusal_for_a_former_job_of_that_name_is_over() -> None:
    world = trying()
    refuse_pods(world, "a", "exceeded quota: small", uid="former")
    assert ready(world) == "False PreflightRunning: the store is being tried"


def test_a_refusal_is_over_when_there_is_a_pod() -> None:
    world = trying()
    refuse_pods(world, "a", "exceeded quota: small")
    world.pod_of_job("default-preflight")
    assert ready(world) == "False PreflightRunning: the store is being tried"


@pytest.mark.parametrize("before", ["nothing", "a timeout", "a name that was taken"])
def test_a_job_that_ran_out_of_time_says_so_unless_something_kept_it(before: str) -> None:
    world = trying()
    late = "it did not end in time; look whether the store, or MLflow, answers, and how fast"
    if before == "a timeout":
        world.end_job("default-preflight", None, reason="DeadlineExceeded")
        world.remove("Pod", "default-preflight-x")
        world.reconcile("Workspace", "default")
        world.wait(5)
        world.reconcile("Workspace", "default")
    elif before == "a name that was taken":
        mine = world.objects.pop(("Job", "default-preflight"))
        world.put("Job", "default-preflight", spec={}, status={})
        assert ready(world).startswith("False NameConflict")
        world.objects["Job", "default-preflight"] = mine  # the operator ended before it said so
    world.end_job("default-preflight", None, reason="DeadlineExceeded")
    world.remove("Pod", "default-preflight-x")
    told = [w.status for w in world.plan("Workspace", "default").writes if isinstance(w, SetStatus)]
    assert {status["conditions"][0]["reason"] for status in told} <= {"TimedOut"}  # not even for a moment
    assert ready(world) == f"False TimedOut: {late}{SOON}"


@pytest.mark.parametrize("quota", ["raised", "used up again"])
def test_a_timeout_is_not_put_down_to_a_quota_that_was_raised_before_the_pod_ran(quota: str) -> None:
    world = trying()
    refuse_pods(world, "a", "exceeded quota: small")
    assert ready(world).startswith("False PodCreationRefused")
    world.pod_of_job("default-preflight")  # the Event stays for an hour
    assert ready(world).startswith("False PreflightRunning")
    if quota == "used up again":
        world.remove("Pod", "default-preflight-x")
        assert ready(world).startswith("False PodCreationRefused")
    world.end_job("default-preflight", None, reason="DeadlineExceeded")
    world.get("Job", "default-preflight")["status"]["failed"] = 1
    world.remove("Pod", "default-preflight-x")
    assert ready(world).startswith(f"False {'TimedOut' if quota == 'raised' else 'PodCreationRefused'}: ")


NOT_PULLED = "ImagePullFailed: the image of container trainer cannot be pulled (ErrImagePull: no route)"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("ErrImagePull", f"{NOT_PULLED}; check its name, that the registry answers, and the pull secret"),
        ("CreateContainerConfigError", "ContainerConfigInvalid: container trainer cannot be created: no route; "),
        ("Unschedulable", "Unschedulable: no node takes the pod: no route; "),
        ("FailedCreate", "PodCreationRefused: the namespace does not let the pod be made: no route; "),
    ],
)
def test_what_kept_a_pod_from_starting_is_told_when_the_time_is_over(reason: str, told: str) -> None:
    world = trying()
    why = {"reason": reason, "message": "no route"}
    match reason:
        case "FailedCreate":
            refuse_pods(world, "a", "no route")
        case "Unschedulable":
            scheduled = [{"type": "PodScheduled", "status": "False", **why}]
            world.pod_of_job("default-preflight", phase="Pending", conditions=scheduled)
        case _:
            world.pod_of_job("default-preflight", containerStatuses=[{"name": "trainer", "state": {"waiting": why}}])
    kept = ready(world)
    assert kept.startswith(f"False {told}")
    world.wait(300)
    world.end_job("default-preflight", None, reason="DeadlineExceeded")
    world.remove(
        "Event" if reason == "FailedCreate" else "Pod", "a" if reason == "FailedCreate" else "default-preflight-x"
    )
    assert ready(world) == f"{kept}{SOON}"


@pytest.mark.parametrize("first", ["StoreRefused", "TimedOut"])
def test_what_keeps_the_next_try_from_starting_is_told_instead_of_the_former_failure(first: str) -> None:
    world = trying()
    refused = None if first == "TimedOut" else report.Report(False, first, "check the Secret")
    world.end_job(
        "default-preflight", refused, reason="DeadlineExceeded" if refused is None else "BackoffLimitExceeded"
    )
    if refused is None:
        world.remove("Pod", "default-preflight-x")
    assert ready(world).startswith(f"False {first}: ")
    since = world.get("Workspace", "default")["status"]["conditions"][0]["lastTransitionTime"]
    world.wait(600)
    world.reconcile("Workspace", "default")  # the Job is deleted, and made anew
    waiting = {"reason": "ErrImagePull", "message": "no route"}
    world.pod_of_job("default-preflight", containerStatuses=[{"name": "trainer", "state": {"waiting": waiting}}])
    kept = ready(world)
    assert kept.startswith("False ImagePullFailed: ")
    world.end_job("default-preflight", None, reason="DeadlineExceeded")
    world.remove("Pod", "default-preflight-x")
    for _ in range(2):  # what is said of it does not grow
        assert ready(world) == f"{kept}{SOON}"
    assert world.get("Workspace", "default")["status"]["conditions"][0]["lastTransitionTime"] == since


def test_a_try_that_takes_too_long_has_not_failed_as_the_one_before_it() -> None:
    world = trying()
    world.end_job("default-preflight", report.Report(False, "StoreRefused", "check the Secret"))
    assert ready(world).startswith("False StoreRefused")
    world.wait(600)
    world.reconcile("Workspace", "default")  # the Job is deleted, and made anew
    world.end_job("default-preflight", None, reason="DeadlineExceeded")
    world.remove("Pod", "default-preflight-x")
    assert ready(world).startswith("False TimedOut")


def test_a_crash_without_a_report_leaves_its_last_words() -> None:
    world = trying()
    world.end_job("default-preflight", None)
    ended = {"exitCode": 3, "message": "x" * 300 + " y\n\n  ImportError: no"}
    world.objects["Pod", "default-preflight-x"]["status"]["containerStatuses"][0]["state"]["terminated"] = ended
    words = "x" * 282 + " y ImportError: no"  # the last 300 characters, on one line
    assert ready(world) == f"False ContainerFailed: container trainer ended with exit code 3: {words}{SOON}"


def test_a_crash_without_a_word_says_how_it_ended() -> None:
    world = trying()
    world.end_job("default-preflight", None)
    ended = {"exitCode": 3}
    world.objects["Pod", "default-preflight-x"]["status"]["containerStatuses"][0]["state"]["terminated"] = ended
    assert ready(world) == f"False ContainerFailed: container trainer ended with exit code 3{SOON}"


def test_a_node_that_evicts_the_last_pod_is_named() -> None:
    world = trying()
    world.end_job("default-preflight", None)
    world.pod_of_job("default-preflight", phase="Failed", reason="Evicted", message="disk pressure")
    assert ready(world) == f"False Evicted: the node evicted the pod: disk pressure{SOON}"


@pytest.mark.parametrize("state", ["Active", "Lost", "Failed", "Succeeded", "unreadable", "its pod is gone"])
def test_which_data_a_job_has_is_known_from_the_job_even_where_the_status_was_lost(state: str) -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    said = {"Failed": report.Report(False, "FitFailed", "no"), "Lost": None}
    if state != "Active":
        world.end_job("lr-train", said.get(state, trained()))
    if state in ("Lost", "its pod is gone"):
        world.remove("Pod", "lr-train-x")
    if state == "unreadable":
        world.objects["Pod", "lr-train-x"]["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = "?"
    before = {key: world.get("TrainingJob", "lr")["status"][key] for key in ("datasetVersion", "datasetFile")}
    world.remove("Dataset", "tumours")
    del world.objects["TrainingJob", "lr"]["status"]
    world.reconcile("TrainingJob", "lr")
    status = world.get("TrainingJob", "lr")["status"]
    assert {key: status.get(key) for key in before} == before


def test_what_a_pod_reported_before_it_was_evicted_is_told() -> None:
    world = trying()
    world.end_job("default-preflight", report.Report(False, "StoreRefused", "check the Secret"))
    world.objects["Pod", "default-preflight-x"]["status"] |= {"reason": "Evicted", "message": "disk pressure"}
    assert ready(world) == f"False StoreRefused: check the Secret{LATER}"


def test_what_holds_a_pod_up_when_the_time_is_over_is_told() -> None:
    world = trying()
    world.end_job("default-preflight", None, reason="DeadlineExceeded")
    world.pod_of_job("default-preflight", conditions=[{"type": "PodScheduled", "status": "False", "message": "none"}])
    assert ready(world).startswith("False Unschedulable: no node takes the pod: none")


def test_a_report_that_cannot_be_read_is_asked_for_again() -> None:
    world = trying()
    world.end_job("default-preflight", report.Report(True, "StoreWorks"))
    ended = world.objects["Pod", "default-preflight-x"]["status"]["containerStatuses"][0]["state"]["terminated"]
    ended["message"] = "a report of tomorrow"
    assert ready(world) == (
        f"False ReportInvalid: the pod succeeded, but its report cannot be read; do the images fit together?{SOON}"
    )
    uid = world.get("Job", "default-preflight")["metadata"]["uid"]
    world.wait(5)
    assert world.deletes("Workspace", "default") == [("Job", "default-preflight", uid)]


@pytest.mark.parametrize("timeout", ["1s", "500ms"])
def test_a_run_may_have_as_little_as_a_second(timeout: str) -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(limits={"timeout": timeout}))
    world.reconcile("TrainingJob", "lr")
    assert world.get("Job", "lr-train")["spec"]["activeDeadlineSeconds"] == 1


@pytest.mark.parametrize("ended", ["with a report", "for lack of memory", "without a word"])
def test_a_pod_that_ended_is_judged_when_its_job_has_ended(ended: str) -> None:
    world = trying()
    said = report.Report(False, "StoreRefused", "check the Secret") if ended == "with a report" else None
    world.end_job("default-preflight", said, exit_reason="OOMKilled" if ended == "for lack of memory" else "")
    world.objects["Job", "default-preflight"]["status"] = {}  # perhaps it makes another pod
    assert ready(world) == "False PreflightRunning: the store is being tried"


def test_a_job_that_is_deleted_and_kept_by_a_finalizer_is_waited_for() -> None:
    world = trying()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    job = world.get("Job", "default-preflight")
    world.objects["Job", "default-preflight"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert ready(world) == "False PreflightRunning: the store is being tried"
    assert not world.plan("Workspace", "default").writes
    del world.objects["Job", "default-preflight"]
    world.reconcile("Workspace", "default")
    assert world.get("Job", "default-preflight")["metadata"]["uid"] != job["metadata"]["uid"]


def test_what_a_job_found_counts_though_somebody_deletes_it() -> None:
    world = trying()
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(("put",))))
    world.objects["Job", "default-preflight"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert ready(world).startswith("True PreflightPassed")
