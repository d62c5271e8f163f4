"""`kubectl mill lineage`: what an object was made of and what was made of it, as a person reads it."""

import argparse
from typing import Any

import pytest

from modelmill.cli.cluster import CommandError
from modelmill.cli.lineage import Records, asked, told
from modelmill.cli.tree import ASCII, UNICODE

FIRST_DAY, SECOND_DAY = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def made(name: str, spec: dict[str, Any], status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid of {name}", **metadata}, "spec": spec, "status": status}


def says(type_: str, status: str, reason: str = "Said") -> dict[str, Any]:
    return {"conditions": [{"type": type_, "status": status, "reason": reason}]}


def entry(letter: str, rows: int, at: str, *inputs: tuple[str, str]) -> dict[str, Any]:
    sources = [{"name": name, "version": digest(of)} for name, of in inputs]
    return {"version": digest(letter), "rows": rows, "observedAt": at, **({"from": sources} if sources else {})}


def dataset(name: str, *history: dict[str, Any]) -> dict[str, Any]:
    return made(name, {"source": {}}, {**says("Ready", "True"), "history": list(history)})


def version(number: int, letter: str, status: dict[str, Any], **lineage: Any) -> dict[str, Any]:
    artifact = {"uri": f"s3://models/{letter}", "digest": digest(letter)}
    spec = {"modelRef": {"name": "triage"}, "version": number, "artifact": artifact}
    return made(f"triage-{number}", {**spec, **({"lineage": lineage} if lineage else {})}, status)


def run(name: str, **status: Any) -> dict[str, Any]:
    spec = {"modelRef": {"name": "triage"}, "data": {"datasetRef": {"name": "tumours"}, "target": "benign"}}
    return made(
        name, spec, {**says("Succeeded", "True"), **status}, annotations={"modelmill.dev/git-commit": "9f2c1e0"}
    )


def everything() -> dict[str, list[dict[str, Any]]]:
    """Visits give tumours, tumours give a run and two versions, of which the newer one serves."""
    data = {"name": "tumours", "version": digest("a"), "file": digest("f")}
    forest = {"name": "forest", "uid": "uid of forest"}
    older = {"trainingJob": {"name": "old", "uid": "another"}, "dataset": {**data, "version": digest("c")}}
    chosen = {"model": {"name": "triage"}}
    history = [{"revision": "90ab11c2", "version": 2, "model": "triage"}, {"revision": "3fa94c1b", "version": 1}]
    serving = {"stable": {"revision": "90ab11c2", "version": 2}, "history": history}
    decision = {"modelVersionRef": {"name": "triage-2"}, "decision": "Approve", "by": "ana"}
    metrics = [{"name": "roc_auc", "value": "0.991"}]
    return {
        "Dataset": [
            dataset("visits", entry("b", 900, FIRST_DAY)),
            dataset("tumours", entry("a", 569, SECOND_DAY, ("visits", "b")), entry("c", 500, FIRST_DAY)),
        ],
        "TrainingJob": [
            run("forest", datasetVersion=digest("a"), recipe=digest("e"), metrics=metrics, modelVersion="triage-2")
        ],
        "Model": [made("triage", {}, {"lastVersion": 2})],
        "ModelVersion": [
            version(
                2, "2", says("Ready", "True"), trainingJob=forest, recipe=digest("e"), dataset=data, gitCommit="9f2c1e0"
            ),
            version(1, "1", says("Ready", "False", "TestFailed"), **older),
        ],
        "ModelApproval": [made("triage-2", decision, {})],
        "ModelDeployment": [made("triage", chosen, serving)],
    }


def drawn(text: str, found: dict[str, list[dict[str, Any]]] | None = None) -> str:
    return "\n".join(told(asked(text), Records(found or everything()), "team-a", ASCII))


def test_a_version_comes_from_rows_and_a_commit_and_goes_to_who_serves_it() -> None:
    assert (
        drawn("mver/triage-2")
        == """\
ModelVersion triage-2  Ready, 2222222222222222

made of
|-- Git commit 9f2c1e0
|-- TrainingJob forest  Succeeded, roc_auc 0.991
|-- recipe eeeeeeeeeeeeeeee
`-- Dataset tumours@aaaaaaaaaaaaaaaa  569 rows, 2026-01-02T00:00:00Z
    `-- Dataset visits@bbbbbbbbbbbbbbbb  900 rows, 2026-01-01T00:00:00Z

made of it
|-- ModelApproval triage-2  Approve by ana
`-- ModelDeployment triage  serves version 2; this one serves"""
    )


def test_from_a_version_of_the_data_to_everything_made_of_it() -> None:
    assert (
        drawn("dset/visits@bbbb")
        == """\
Dataset visits@bbbbbbbbbbbbbbbb  900 rows, 2026-01-01T00:00:00Z

made of it
`-- Dataset tumours@aaaaaaaaaaaaaaaa  569 rows, 2026-01-02T00:00:00Z
    `-- TrainingJob forest  Succeeded, roc_auc 0.991
        `-- ModelVersion triage-2  Ready, 2222222222222222
            |-- ModelApproval triage-2  Approve by ana
            `-- ModelDeployment triage  serves version 2; this one serves"""
    )


def test_from_what_serves_to_the_rows_of_each_version_that_it_had() -> None:
    assert (
        drawn("mdep/triage")
        == """\
ModelDeployment triage  serves version 2

made of
|-- ModelVersion triage-2  Ready, 2222222222222222, serves
|   |-- Git commit 9f2c1e0
|   |-- TrainingJob forest  Succeeded, roc_auc 0.991
|   |-- recipe eeeeeeeeeeeeeeee
|   `-- Dataset tumours@aaaaaaaaaaaaaaaa  569 rows, 2026-01-02T00:00:00Z
|       `-- Dataset visits@bbbbbbbbbbbbbbbb  900 rows, 2026-01-01T00:00:00Z
`-- ModelVersion triage-1  TestFailed, 1111111111111111, served before
    |-- TrainingJob old  gone
    `-- Dataset tumours@cccccccccccccccc  500 rows, 2026-01-01T00:00:00Z"""
    )


def test_a_dataset_has_what_was_made_of_each_of_its_versions() -> None:
    assert (
        drawn("Dataset/tumours")
        == """\
Dataset tumours  Ready

made of it
|-- Dataset tumours@aaaaaaaaaaaaaaaa  569 rows, 2026-01-02T00:00:00Z
|   `-- TrainingJob forest  Succeeded, roc_auc 0.991
|       `-- ModelVersion triage-2  Ready, 2222222222222222
|           |-- ModelApproval triage-2  Approve by ana
|           `-- ModelDeployment triage  serves version 2; this one serves
`-- Dataset tumours@cccccccccccccccc  500 rows, 2026-01-01T00:00:00Z
    `-- ModelVersion triage-1  TestFailed, 1111111111111111
        `-- ModelDeployment triage  serves version 2; this one served before"""
    )


def test_a_run_a_model_and_an_approval_have_their_place_in_it() -> None:
    assert drawn("tjob/forest").splitlines()[:4] == [
        "TrainingJob forest  Succeeded, roc_auc 0.991",
        "",
        "made of",
        "|-- Git commit 9f2c1e0",
    ]
    assert "`-- ModelVersion triage-2  Ready, 2222222222222222" in drawn("trainingjobs.modelmill.dev/forest")
    assert drawn("mdl/triage").splitlines()[:4] == [
        "Model triage  last version 2",
        "",
        "made of it",
        "|-- ModelVersion triage-2  Ready, 2222222222222222",
    ]
    assert drawn("mappr/triage-2").splitlines()[3] == "`-- ModelVersion triage-2  Ready, 2222222222222222"


def test_a_terminal_gets_lines() -> None:
    found = told(asked("mver/triage-1"), Records(everything()), "team-a", UNICODE)
    assert found[3:5] == [
        "├── TrainingJob old  gone",
        "└── Dataset tumours@cccccccccccccccc  500 rows, 2026-01-01T00:00:00Z",
    ]


def test_what_is_gone_or_not_listed_any_more_is_named_all_the_same() -> None:
    found = everything()
    found["Dataset"] = []
    found["ModelVersion"] = []
    assert (
        drawn("tjob/forest", found)
        == """\
TrainingJob forest  Succeeded, roc_auc 0.991

made of
|-- Git commit 9f2c1e0
|-- recipe eeeeeeeeeeeeeeee
`-- Dataset tumours@aaaaaaaaaaaaaaaa  not listed any more

made of it
`-- ModelVersion triage-2  gone"""
    )
    assert "ModelVersion triage-2  not there" in drawn("mappr/triage-2", found)


def test_another_run_of_the_same_name_did_not_make_it() -> None:
    found = everything()
    found["TrainingJob"][0]["metadata"]["uid"] = "anew"
    del found["TrainingJob"][0]["status"]["modelVersion"]
    assert "|-- TrainingJob forest  gone" in drawn("mver/triage-2", found)
    assert "ModelVersion" not in drawn("tjob/forest", found)


def test_a_version_that_was_written_by_hand_says_so() -> None:
    found = everything()
    found["ModelVersion"] = [version(3, "3", {})]
    assert (
        drawn("mver/triage-3", found)
        == """\
ModelVersion triage-3  not seen yet, 3333333333333333

made of
`-- what somebody put into the store: the version was written by hand"""
    )


def test_what_serves_an_artifact_by_uri_serves_the_version_that_it_is_of() -> None:
    found = everything()
    history = [{"revision": "1", "artifact": {"uri": "s3://models/1", "digest": digest("1")}}]
    chosen = {"model": {"uri": "s3://models/1", "digest": digest("1")}}
    found["ModelDeployment"] = [made("shadow", chosen, {"stable": {"revision": "1"}, "history": history})]
    said = "ModelDeployment shadow  serves an artifact by its uri; this one serves"
    assert drawn("mver/triage-1", found).endswith(said)


def test_what_is_named_or_comes_up_does_not_serve_yet() -> None:
    found = everything()
    (deployment,) = found["ModelDeployment"]
    deployment["status"] = {"candidate": {"revision": "1", "version": 2}}
    assert drawn("mver/triage-2", found).endswith("ModelDeployment triage  serves nothing; this one comes up")
    deployment["status"] = {}
    deployment["spec"] = {"model": {"name": "triage", "version": 2}}
    assert drawn("mver/triage-2", found).endswith("ModelDeployment triage  serves nothing; this one is to serve")


def test_contents_that_come_back_end_somewhere() -> None:
    found = everything()
    found["Dataset"] = [
        dataset("visits", entry("b", 900, FIRST_DAY, ("tumours", "a"))),
        dataset("tumours", entry("a", 569, SECOND_DAY, ("visits", "b"))),
    ]
    assert drawn("dset/visits@b", found).count("visits@") == 3  # the title, and once on each way


def test_an_object_that_nothing_is_known_of() -> None:
    assert drawn("dset/fresh", {"Dataset": [dataset("fresh")]}) == (
        "Dataset fresh  Ready\n\nnothing was made of it, and nothing is known of what it was made of"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mver/triage-9", "there is no ModelVersion triage-9 in namespace team-a; there is triage-2, triage-1"),
        ("tjob/tree", "there is no TrainingJob tree in namespace team-a; there is forest"),
        (
            "dset/tumours@d",
            "Dataset tumours in namespace team-a has no version beginning with d; it has aaaaaaaaaaaaaaaa",
        ),
    ],
)
def test_what_is_not_there_is_said_with_what_is(text: str, said: str) -> None:
    with pytest.raises(CommandError) as error:
        drawn(text)
    assert str(error.value).startswith(said)


def test_where_there_is_nothing_at_all_it_may_be_the_wrong_namespace() -> None:
    with pytest.raises(CommandError, match="nor any other; is it another one"):
        drawn("mver/triage-1", {"Dataset": []})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("triage-1", "is not of the form KIND/NAME"),
        ("mver/", "is not of the form KIND/NAME"),
        ("pod/a", "'pod' has no lineage; ask for one of Dataset (dset)"),
        ("wsp/default", "'wsp' has no lineage"),
        ("mver/triage-1@4f", "only a Dataset has versions by digest"),
    ],
)
def test_what_cannot_be_asked_is_said_with_what_can(text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as error:
        asked(text)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["ModelVersion/a", "modelversions/a", "mver/a", "modelversions.modelmill.dev/a"])
def test_a_kind_is_named_as_kubectl_takes_it(text: str) -> None:
    assert (asked(text).kind.__name__, asked(text).name) == ("ModelVersion", "a")
