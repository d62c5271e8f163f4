"""What a status promises, held against every version that any object ever had in one story (status_scenario.py).

docs/status.md has the promises in words, and the table of conditions that is compared with what was recorded here.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest
from conftest import StatusReaders, fresh_namespace, operators
from recording import PLURALS, Manifest, Recording, conditions, named
from status_scenario import HEADLINE, Scenario

from live import ROOT

DOCUMENT = (ROOT / "docs/status.md").read_text()
NOBODY_HAS_SEEN_IT = {"observedGeneration": -1}

# What kstatus, Helm and Argo CD have to say where a person says this.
READINGS = {
    "Done": ("Current", "Current", "Healthy"),
    "InProgress": ("InProgress", "InProgress", "Progressing"),
    "Stalled": ("Failed", "Failed", "Degraded"),
    "Suspended": ("Current", "Current", "Suspended"),
    "Terminating": ("Terminating", "Terminating", "Progressing"),
}

# The conditions whose changes a person is told of; of the other kinds it is Ready.
NEWS = {
    "TrainingJob": ("Succeeded",),
    "Experiment": ("Succeeded",),
    "PipelineRun": ("Succeeded",),
    "Model": (),
    "ModelDeployment": ("Ready", "Available"),
}


@pytest.fixture(scope="module")
def recording(config: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    folder = tmp_path_factory.mktemp("recording")
    with fresh_namespace(config) as kubectl, operators(config, kubectl, folder) as operator:
        yield Scenario(kubectl, operator, folder).play()


def documented() -> dict[tuple[str, str, str], str]:
    """(kind, condition, status) -> the cell of the table in docs/status.md; an empty one is left out."""
    row = re.compile(r"^\| (\w+) \| `(\w+)` \|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
    return {
        (kind, type_, status): cell.strip()
        for kind, type_, *cells in row.findall(DOCUMENT)
        for status, cell in zip(("True", "False", "Unknown"), cells, strict=True)
        if cell.strip()
    }


def allows(cell: str, reason: str) -> bool:
    """Whether a cell has the reason: by name, as trouble, or as any."""
    trouble = DOCUMENT[DOCUMENT.index("| trouble |") :]
    patterns = re.findall(r"`(\w+(?:\.\.\.)?)`", cell + (trouble if "trouble" in cell else ""))
    return re.search(r"\bany\b", cell) is not None or any(
        reason.startswith(pattern[:-3]) if pattern.endswith("...") else reason == pattern for pattern in patterns
    )


def stand(manifest: Manifest) -> str:
    """What the conditions alone say; the readers are compared with it."""
    status, said = manifest["status"], conditions(manifest)
    if "deletionTimestamp" in manifest["metadata"]:
        return "Terminating"
    if status["observedGeneration"] != manifest["metadata"]["generation"]:
        return "InProgress"
    if said["Stalled"]["status"] == "True":
        return "Stalled"
    if said["Reconciling"]["status"] == "True":
        return "InProgress"
    headline = said[HEADLINE.get(manifest["kind"], "Ready")]
    if headline["status"] == "True":
        return "Done"
    assert headline["reason"] in ("Suspended", "Queued"), f"{named(manifest)} neither waits nor is done: {headline}"
    return "Suspended"


def test_every_object_says_from_the_start_that_nobody_has_seen_it(recording: Recording) -> None:
    for versions in recording.versions.values():
        assert versions[0]["status"] == NOBODY_HAS_SEEN_IT, named(versions[0])


def test_the_first_status_has_every_condition_and_none_is_ever_lost(recording: Recording) -> None:
    types = defaultdict(list)
    for kind, type_, _ in documented():
        if type_ not in types[kind]:
            types[kind].append(type_)
    assert set(types) == set(PLURALS)
    for manifest in recording.every():
        if manifest["status"] != NOBODY_HAS_SEEN_IT:
            assert sorted(conditions(manifest)) == sorted(types[manifest["kind"]]), named(manifest)


def test_the_table_has_what_happened_and_what_it_has_happened(recording: Recording) -> None:
    happened = defaultdict(set)
    for manifest in recording.every():
        for type_, condition in conditions(manifest).items():
            happened[manifest["kind"], type_, condition["status"]].add(condition["reason"])
    table = documented()
    assert set(happened) == set(table)
    unnamed = {
        (key, reason) for key, reasons in happened.items() for reason in reasons if not allows(table[key], reason)
    }
    assert unnamed == set()


def test_every_condition_is_about_the_generation_that_the_status_is_about(recording: Recording) -> None:
    for manifest in recording.every():
        observed = manifest["status"]["observedGeneration"]
        assert observed <= manifest["metadata"]["generation"], named(manifest)
        for condition in conditions(manifest).values():
            assert condition["observedGeneration"] == observed, named(manifest)
    for before, after in recording.transitions():
        assert before["status"]["observedGeneration"] <= after["status"]["observedGeneration"], named(after)


def test_a_transition_has_a_time_and_nothing_else_moves_it(recording: Recording) -> None:
    for before, after in recording.transitions():
        known = conditions(before)
        for type_, condition in conditions(after).items():
            if type_ in known and known[type_]["status"] == condition["status"]:
                assert condition["lastTransitionTime"] == known[type_]["lastTransitionTime"], named(after)
            elif type_ in known:
                assert condition["lastTransitionTime"] >= known[type_]["lastTransitionTime"], named(after)


def test_an_object_is_done_or_on_its_way_or_stalled_and_never_two_of_them(recording: Recording) -> None:
    for manifest in recording.every():
        said = {type_: condition["status"] for type_, condition in conditions(manifest).items()}
        if not said:
            continue
        done = said[HEADLINE.get(manifest["kind"], "Ready")] == "True"
        assert [done, said["Reconciling"] == "True", said["Stalled"] == "True"].count(True) <= 1, named(manifest)
        assert {said["Reconciling"], said["Stalled"]} <= {"True", "False"}, named(manifest)
        if manifest["kind"] in HEADLINE:
            assert (said["Failed"] == "True") == (said["Succeeded"] == "False"), named(manifest)
        elif not done:
            assert "True" in (said["Reconciling"], said["Stalled"]), named(manifest)


def test_every_condition_that_needs_a_person_says_what_to_do(recording: Recording) -> None:
    for manifest in recording.every():
        for condition in conditions(manifest).values():
            if condition["type"] == "Stalled" and condition["status"] == "True":
                assert len(condition["message"]) > 20, f"{named(manifest)}: {condition}"


def test_kstatus_helm_and_argocd_read_every_version_right(recording: Recording, status_readers: StatusReaders) -> None:
    manifests = list(recording.every())
    seen = set()
    for manifest, said in zip(manifests, status_readers.read(manifests), strict=True):
        expected = stand(manifest)
        found = tuple(said[reader]["status"] for reader in ("kstatus", "helm", "argocd"))
        assert found == READINGS[expected], f"{named(manifest)}, which is {expected}: {said}"
        seen.add(expected)
        if expected == "Stalled":
            message = conditions(manifest)["Stalled"]["message"]
            assert {said[reader]["message"] for reader in ("kstatus", "helm", "argocd")} == {message}
    assert seen == set(READINGS)


def test_they_read_what_a_person_would_say_in_every_chapter_of_the_story(
    recording: Recording, status_readers: StatusReaders
) -> None:
    said = status_readers.read(checkpoint.manifest for checkpoint in recording.checkpoints)
    for checkpoint, reading in zip(recording.checkpoints, said, strict=True):
        found = tuple(reading[reader]["status"] for reader in ("kstatus", "helm", "argocd"))
        assert found == READINGS[checkpoint.stand], f"{checkpoint.title}: {named(checkpoint.manifest)}: {reading}"
    assert {checkpoint.stand for checkpoint in recording.checkpoints} == set(READINGS) - {"Terminating"}


def test_kubectl_wait_is_satisfied_by_the_present_generation_only(recording: Recording) -> None:
    assert len(recording.waits_in_vain) == 14
    assert {name for name, code in recording.waits_in_vain.items() if code == 0} == set()
    assert len(recording.waits) == 5
    assert {name for name, code in recording.waits.items() if code != 0} == set()


def test_a_deployment_stays_available_while_the_old_version_serves(recording: Recording) -> None:
    (versions,) = (
        v for (kind, name, _), v in recording.versions.items() if (kind, name) == ("ModelDeployment", "fixed")
    )
    available = [conditions(v)["Available"]["status"] == "True" for v in versions if conditions(v)]
    assert all(available[available.index(True) :])
    replaced = [
        v
        for v in versions
        if conditions(v) and conditions(v)["Available"]["status"] == "True" and v["status"].get("candidate")
    ]
    assert replaced
    for manifest in replaced:
        assert conditions(manifest)["Ready"]["status"] == "False", named(manifest)


def news(before: Manifest, after: Manifest) -> Iterator[tuple[str, str, str]]:
    """What a person wants to be told of: (type, reason, message) of the Events for one transition."""
    known = conditions(before)
    for type_, condition in conditions(after).items():
        old = known.get(type_, {"status": "Unknown", "reason": ""})
        changed = condition["status"] != old["status"]
        if type_ == "Stalled" and condition["status"] == "True":
            if changed or condition["reason"] != old["reason"]:
                yield "Warning", condition["reason"], condition["message"]
        elif (
            type_ in NEWS.get(after["kind"], ("Ready",)) and changed and "True" in (condition["status"], old["status"])
        ):
            yield "Normal", condition["reason"], condition["message"]


def test_there_is_an_event_for_each_transition_that_is_news_and_for_nothing_else(recording: Recording) -> None:
    told: defaultdict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
    for event in recording.events:
        told[event["regarding"]["uid"]][event["type"], event["reason"], event["note"]] += 1
    for (kind, name, uid), versions in recording.versions.items():
        expected = Counter(item for pair in pairwise(versions) for item in news(*pair))
        assert told[uid] == expected, f"{kind}/{name}"
    assert sum(map(len, told.values())) > 20


def test_each_status_that_is_written_says_something_new(recording: Recording) -> None:
    changes: Counter[tuple[str, str]] = Counter()
    for before, after in recording.transitions():
        if before["status"] != after["status"]:
            changes[PLURALS[after["kind"]], after["metadata"]["name"]] += 1
    # The API server hides a write that changes nothing; its audit log, where there is one, does not.
    assert changes
    if recording.status_writes is not None:
        assert recording.status_writes == dict(changes)


def test_at_rest_nothing_is_written_even_by_an_operator_that_looks_at_everything_anew(recording: Recording) -> None:
    assert recording.written_at_rest == []
