"""Tallies: what pods answer, and what is no answer."""

import msgspec
import pytest
from drifting import EVEN, TRAINED, answer, snapshot

from modelmill.core import tally, windows
from modelmill_contracts.counters import Bins, Reference, Trained


def tallied(baseline: dict[str, tally.Answer], answers: dict[str, tally.Answer], artifact: str = "") -> int | None:
    found = tally.tally(baseline, answers, artifact)
    return None if found is None else sum(found.counts[:11])


def test_sums_over_pods_are_exact() -> None:
    baseline = {"a": answer(times=3), "b": answer(times=100)}
    assert tallied(baseline, {"a": answer(times=5), "b": answer(times=101), "new": answer(times=9)}) == 3 * 1100


def test_a_pod_that_was_started_anew_counts_from_zero_however_much_it_has_counted() -> None:
    assert tallied({"a": answer(times=1)}, {"a": answer(times=3, started=2.0)}) == 3 * 1100


def test_a_thousand_pods_keep_one_profile() -> None:
    assert answer(times=3).profile is answer(times=5).profile


def test_of_several_profiles_that_with_most_rows_is_compared() -> None:
    baseline = {"a": answer(), "b": answer(edges="other"), "c": answer(edges="other")}
    answers = {"a": answer(times=2), "b": answer(times=2, edges="other"), "c": answer(times=2, edges="other")}
    found = tally.tally(baseline, answers, "")
    assert found is not None
    assert found.profile.edges == "other"
    assert sum(found.counts[:11]) == 2200


def test_other_artifacts_are_left_out_and_who_knows_none_is_believed() -> None:
    ours, theirs = "sha256:1", "sha256:2"
    baseline = {pod: answer(digest=known) for pod, known in (("a", ours), ("b", theirs), ("c", ""))}
    answers = {pod: answer(times=2, digest=known) for pod, known in (("a", ours), ("b", theirs), ("c", ""))}
    assert tallied({"b": baseline["b"]}, answers, ours) is None
    assert tallied({"c": baseline["c"]}, answers, ours) == 1100
    assert tallied({"b": baseline["b"]}, answers) == 1100


def test_the_digest_of_a_profile_is_of_its_bins_and_its_counts() -> None:
    one, two = answer().profile, answer(edges="other").profile
    three = answer(reference=msgspec.structs.replace(TRAINED, scores=Trained("score", (51,) * 20))).profile
    assert one is not None
    assert two is not None
    assert three is not None
    assert len({one.digest, two.digest, three.digest}) == 3
    assert one.digest == msgspec.structs.replace(one, artifact="sha256:1").digest


BAD = {
    "negative": {"features": (Bins("radius", (-1, *EVEN[1:])), Bins("city", (1, 1, 1)))},
    "negative other": {"features": (Bins("radius", EVEN), Bins("city", (1, 1, 1), -1))},
    "negative missing": {"features": (Bins("radius", EVEN, 0, -1), Bins("city", (1, 1, 1)))},
    "huge": {"features": (Bins("radius", (1 << 60, *EVEN[1:])), Bins("city", (1, 1, 1)))},
    "other bins": {"features": (Bins("radius", EVEN[1:]), Bins("city", (1, 1, 1)))},
    "other features": {"features": (Bins("texture", EVEN), Bins("city", (1, 1, 1)))},
    "no features": {"features": ()},
    "no scores": {"scores": None},
    "a negative reference": {"reference": msgspec.structs.replace(TRAINED, scores=Trained("score", (-1,) * 20))},
    "a huge reference": {"reference": msgspec.structs.replace(TRAINED, scores=Trained("score", (1 << 60,) * 20))},
    "an empty reference": {"reference": Reference()},
    "another version": {"version": 2},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_counts_that_make_no_sense_are_no_answer(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        answer(**changes)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000,
        snapshot().replace(b'"counts":[100', b'"counts":[NaN'),
        snapshot().replace(b'"counts":[100', b'"counts":[1e99'),
        snapshot().replace(b'"counts":[100', b'"counts":["100"'),
        snapshot().replace(b'"counts":[100', b'"counts":[99999999999999999999999'),
    ],
)  # fmt: skip
def test_what_is_no_snapshot_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        tally.decode(body)


def test_who_has_no_profile_or_is_older_can_be_asked_for_a_rollout_all_the_same() -> None:
    for changes, reason in (({"edges": ""}, "NoProfile"), ({"reference": None}, "NoReference")):
        found = answer(**changes)
        assert (found.lacks, found.profile) == (reason, None)
        assert windows.decode(snapshot(**changes)).started == found.started
