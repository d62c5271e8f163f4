"""Who answers during a rollout: by chance, by a key, by a header; and what is counted of it."""

import math
import socket
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from artifacts import Made
from prometheus_client.parser import text_string_to_metric_families
from serving import Server, ask, matrix
from splitting import CANDIDATE, INFER, STABLE, Stable, between, load, one_row, relay, stable, to, until

from modelmill_contracts import counters as names
from modelmill_contracts.counters import Arm, Snapshot
from modelmill_server.app import App
from modelmill_server.counters import Counters
from modelmill_server.limits import Limits
from modelmill_server.split import is_of_candidate

ARM = "modelmill-arm"


def version_of(server: Server, body: bytes, **headers: str) -> str:
    answer = server.ask("POST", INFER, body, headers)
    assert answer.status == 200, answer.json
    assert answer.json["model_version"] == answer.headers["modelmill-model-version"]
    return answer.headers["modelmill-model-version"]


def test_the_candidate_gets_its_share_and_both_arms_are_counted(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, 30))
    with load(server.port, one_row(cancer)) as callers:
        until(lambda: sum(len(caller.versions) for caller in callers) > 3000, "enough is asked")
    assert [caller.failures for caller in callers] == [[]] * len(callers)
    versions = Counter(version for caller in callers for version in caller.versions)
    seen = server.counted()
    total = versions.total()
    assert seen.stable.requests + seen.candidate.requests == total
    spread = 5 * math.sqrt(0.3 * 0.7 * total)
    assert abs(seen.candidate.requests - 0.3 * total) < spread
    # On a busy machine a few may be late, which the stable then answered.
    fell_back = sum(seen.fallbacks.values())
    assert versions == {STABLE: seen.stable.requests + fell_back, CANDIDATE: seen.candidate.requests - fell_back}
    assert versions[CANDIDATE] > 0
    assert sum(seen.candidate.compute.counts) == versions[CANDIDATE]
    assert seen.candidate.compute.total > 0
    assert (seen.stable.failures, seen.steered, seen.shadow) == (0, 0, None)
    # What the candidate answered, its own pod has counted.
    assert server.snapshot.rows == versions[STABLE]


def test_without_routes_nothing_is_counted_and_everything_is_answered_here(cancer: Made, server: Stable) -> None:
    assert version_of(server, one_row(cancer)) == STABLE
    assert server.rollout is None
    assert "modelmill_rollout" not in ask(server.metrics_port, "GET", "/metrics").body.decode()


def test_the_share_follows_the_file_within_a_second_and_counts_belong_to_an_epoch(
    cancer: Made, other: Server, server: Stable
) -> None:
    body = one_row(cancer)
    server.follow(to(other.port, 0))
    assert [version_of(server, body) for _ in range(20)] == [STABLE] * 20
    server.mounted.write(to(other.port, 100))
    began = time.monotonic()
    until(lambda: version_of(server, body) == CANDIDATE, "the candidate answers")
    assert time.monotonic() - began < 5  # half a second, and what a busy machine adds
    seen = server.counted()
    assert seen.stable.requests >= 20
    assert seen.candidate.requests >= 1
    server.follow(to(other.port, 0, epoch="90ab11c2.2"))
    seen = server.counted()
    assert (seen.stable.requests, seen.candidate.requests, seen.fallbacks) == (0, 0, {})
    server.mounted.write(None)
    until(lambda: server.rollout is None, "nothing is rolled out any more")
    assert version_of(server, body) == STABLE


@pytest.mark.parametrize("text", [b"", b"{}", b'{"version": 2}', b"[" * 100_000, b" " * 20_000])
def test_a_file_that_cannot_be_read_changes_nothing_and_is_told_once(
    cancer: Made, other: Server, server: Stable, text: bytes
) -> None:
    server.follow(to(other.port, 100))
    server.mounted.write(text)
    server.wait_for("the routes cannot be read")
    time.sleep(1.2)
    assert CANDIDATE in {version_of(server, one_row(cancer)) for _ in range(5)}
    server.follow(to(other.port, 0, epoch="next"))
    assert sum(line["message"].startswith("the routes cannot") for line in server.lines) == 1


def test_equal_keys_go_to_the_same_arm_and_stay_there_as_the_weight_rises(
    cancer: Made, other: Server, server: Stable
) -> None:
    body, users = one_row(cancer), [f"user {number}" for number in range(200)]

    def answered_by_candidate() -> set[str]:
        """Users that it answered in any of four passes: in one, it may be late for some on a busy machine."""
        found = set()
        for _ in range(4):
            found |= {user for user in users if version_of(server, body, **{"X-User-Id": user}) == CANDIDATE}
        return found

    server.follow(to(other.port, 30, sticky_header="x-user-id", window=3600))
    chosen = answered_by_candidate()
    seen = server.counted()
    # The unit is the key, with its first outcome of a window.
    assert seen.stable.requests + seen.candidate.requests == 200
    assert abs(seen.candidate.requests - 60) < 5 * math.sqrt(200 * 0.3 * 0.7)
    # By chance, four passes would have chosen three users in four.
    assert 0.5 * seen.candidate.requests < len(chosen) <= seen.candidate.requests
    server.follow(to(other.port, 60, sticky_header="x-user-id", epoch="90ab11c2.2", window=3600))
    more = answered_by_candidate()
    assert len(more) > len(chosen)
    assert len(chosen | more) <= server.counted().candidate.requests
    # Without the header: by chance.
    assert {version_of(server, body) for _ in range(60)} == {STABLE, CANDIDATE}


def test_who_names_an_arm_gets_it_and_is_in_neither(cancer: Made, other: Server, server: Stable) -> None:
    body = one_row(cancer)
    server.follow(to(other.port, 0))
    assert CANDIDATE in {version_of(server, body, **{ARM: "candidate"}) for _ in range(5)}
    server.follow(to(other.port, 100, epoch="next"))
    assert {version_of(server, body, **{ARM: "stable"}) for _ in range(5)} == {STABLE}
    seen = server.counted()
    assert (seen.stable.requests, seen.candidate.requests, seen.steered) == (0, 0, 5)
    version_of(server, body, **{ARM: "another"})  # is no arm: as if nothing was said
    assert server.counted().candidate.requests == 1


def test_who_asks_for_this_version_gets_it_and_is_in_neither_arm(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, 100))
    answer = server.ask("POST", f"/v2/models/model/versions/{STABLE}/infer", one_row(cancer))
    assert (answer.status, answer.json["model_version"]) == (200, STABLE)
    seen = server.counted()
    assert (seen.stable.requests, seen.candidate.requests, seen.steered) == (0, 0, 0)


def test_what_is_wrong_with_a_request_is_no_failure_of_anybody(other: Server, server: Stable) -> None:
    server.follow(to(other.port, 50))
    for _ in range(40):
        answer = server.ask("POST", INFER, b'{"inputs": []}')
        assert (answer.status, answer.headers["modelmill-model-version"]) == (400, STABLE)
    seen = server.counted()
    assert seen.stable.requests + seen.candidate.requests == 40
    late = sum(count for reason, count in seen.fallbacks.items() if reason != "Refused")
    assert (seen.stable.failures, seen.candidate.failures <= late) == (0, True)
    assert seen.open_breakers == 0 or late
    assert server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0


def test_who_cannot_wait_for_both_is_answered_here(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, 100))
    assert version_of(server, one_row(cancer), **{"x-request-timeout": "0.03"}) == STABLE
    assert server.counted().candidate.requests == 0
    version_of(server, one_row(cancer), **{"x-request-timeout": "60"})
    assert server.counted().candidate.requests == 1


def test_the_candidates_pods_see_the_same_routes_and_answer_themselves(cancer: Made, tmp_path: Path) -> None:
    body = one_row(cancer)
    with stable(cancer, tmp_path / "one") as server, stable(cancer, tmp_path / "two", "--version", "8") as other:
        other.follow(to(other.port, 100))
        server.follow(to(other.port, 100))
        assert [version_of(server, body) for _ in range(20)].count(CANDIDATE) > 0
        assert version_of(other, body) == CANDIDATE  # which it asks itself for, once
        # What comes from elsewhere, or from itself, names the arm: nothing goes round in a circle.
        seen = other.counted()
        assert (seen.candidate.requests, seen.stable.requests, seen.steered > 0) == (1, 0, True)


def test_a_pod_of_the_candidates_revision_knows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "triage-90ab11c2-6d5f9c7b8-x2x7q")
    assert is_of_candidate(to(80, revision="90ab11c2"), "triage")
    assert not is_of_candidate(to(80, revision="90ab11c"), "triage")
    assert not is_of_candidate(to(80, revision="3fa94c1b"), "triage")
    assert not is_of_candidate(to(80, revision="90ab11c2"), "other")
    assert not is_of_candidate(to(80), "triage")


def test_a_pod_of_the_candidates_revision_rolls_nothing_out(
    cancer: Made, other: Server, server: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "90ab11c2"
    monkeypatch.setattr("socket.gethostname", lambda: f"model-{revision}-x")
    app = App("model", "7", Limits(), Counters())
    app.route(to(other.port, 100, revision=revision))
    assert (app.split, app.counters.arms.read()) == (None, None)
    # Another pod, this machine, does.
    server.follow(to(other.port, 100, revision=revision))
    assert CANDIDATE in {version_of(server, one_row(cancer)) for _ in range(5)}


def test_a_large_request_is_waited_for_longer(cancer: Made, other: Server, server: Stable) -> None:
    def slowly(connection: socket.socket, request: bytes) -> None:
        time.sleep(0.1)
        relay(other.port)(connection, request)

    with between(other.port) as proxy:
        proxy.answering = slowly
        server.follow(to(proxy.port, 100))
        assert version_of(server, one_row(cancer)) == STABLE  # 20 ms
        rows = np.resize(cancer.rows, (3000, 30))
        assert version_of(server, msgspec.json.encode({"inputs": [matrix(rows)]}).ljust(1_000_000)) == CANDIDATE


def test_all_workers_follow_and_are_counted_together(cancer: Made, other: Server, tmp_path: Path) -> None:
    with stable(cancer, tmp_path / "routes", "--workers", "2") as server:
        server.follow(to(other.port, 20))
        time.sleep(1)  # in which the second worker has looked, too
        with load(server.port, one_row(cancer), callers=8) as callers:
            until(lambda: sum(len(caller.versions) for caller in callers) > 1000, "enough is asked")
        assert [caller.failures for caller in callers] == [[]] * len(callers)
        seen = server.counted()
        asked = sum(len(caller.versions) for caller in callers)
        assert seen.stable.requests + seen.candidate.requests == asked
        assert abs(seen.candidate.requests - 0.2 * asked) < 5 * math.sqrt(0.2 * 0.8 * asked)


def test_prometheus_reads_what_the_snapshot_says(cancer: Made, other: Server, server: Stable) -> None:
    body = one_row(cancer)
    with between(other.port) as proxy:
        server.follow(to(proxy.port, 50, shadow=50))
        for _ in range(60):
            version_of(server, body)
        proxy.answering = lambda connection, _: connection.close()
        for _ in range(60):
            version_of(server, body)
        version_of(server, body, **{ARM: "stable"})
        time.sleep(0.3)  # in which copies are through
        seen, text = server.snapshot, ask(server.metrics_port, "GET", "/metrics").body.decode()
    assert_rollout_agrees(text, seen)
    assert seen.rollout is not None
    assert seen.rollout.fallbacks
    assert seen.rollout.candidate.failures > 0


def assert_rollout_agrees(text: str, seen: Snapshot) -> None:
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}

    def values(name: str, label: str = "") -> dict[str, float]:
        found = [sample for sample in families.get(name, []) if not sample.name.endswith(("_bucket", "_created"))]
        assert all(sample.labels["version"] == seen.model_version for sample in found)
        return {sample.labels.get(label, ""): sample.value for sample in found}

    rollout = seen.rollout
    assert rollout is not None
    shadow = rollout.shadow
    assert shadow is not None
    for prefix, both in (
        ((names.ROLLOUT_REQUESTS, names.ROLLOUT_FAILURES, names.ROLLOUT_COMPUTE_SECONDS), rollout),
        ((names.SHADOW_REQUESTS, names.SHADOW_FAILURES, names.SHADOW_COMPUTE_SECONDS), shadow),
    ):
        arms: dict[str, Arm] = {"stable": both.stable, "candidate": both.candidate}
        assert values(prefix[0], "arm") == {name: arm.requests for name, arm in arms.items()}
        assert values(prefix[1], "arm") == {name: arm.failures for name, arm in arms.items()}
        counts = {s.labels["arm"]: s.value for s in families[prefix[2]] if s.name.endswith("_count")}
        assert counts == {name: sum(arm.compute.counts) for name, arm in arms.items()}
    assert values(names.ROLLOUT_FALLBACKS, "reason") == rollout.fallbacks
    assert values(names.ROLLOUT_STEERED) == {"": rollout.steered}
    assert values(names.ROLLOUT_OPEN_BREAKERS) == {"": rollout.open_breakers}
    assert values(names.SHADOW_COMPARED) == {"": shadow.compared}
    assert values(names.SHADOW_AGREED) == {"": shadow.agreed}
    assert values(names.SHADOW_DROPPED) == {"": shadow.dropped}
    differences = {str(index): count for index, count in enumerate(shadow.differences)}
    assert values(names.SHADOW_DIFFERENCES, "bin") == differences
