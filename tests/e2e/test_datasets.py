"""Datasets of examples/datasets: a bucket, a database, one that is derived of both; what is bad changes no version."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import gone, namespace

import postgres_server
from live import API_VERSION, Kubectl, eventually
from postgres_server import PostgresServer

TABLE = """
CREATE TABLE patients (id integer PRIMARY KEY, born date, ward text);
INSERT INTO patients VALUES (1, '1960-02-03', 'north'), (2, '1971-04-05', 'south'), (3, '1982-06-07', 'north');
"""


@pytest.fixture(scope="module")
def warehouse(this_machine: str) -> Iterator[PostgresServer]:
    """A database that pods can reach."""
    with postgres_server.running(this_machine) as server:
        server.run(TABLE)
        yield server


@pytest.fixture(scope="module")
def lake(system: Kubectl, warehouse: PostgresServer) -> Iterator[Kubectl]:
    """A namespace with the example in it."""
    kubectl = namespace(system, "lake")
    kubectl.run("create", "secret", "generic", "warehouse", f"--from-literal=url={warehouse.url_of_others()}")
    kubectl.apply_folder("examples/datasets")
    for name in ("visits", "patients", "cohort"):
        kubectl.wait_for("dset", name, "Ready", seconds=120)
    yield kubectl
    gone(system, kubectl)


def status(kubectl: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (kubectl.get("dset", name) or {})["status"]
    return found


def look_again(kubectl: Kubectl, name: str, why: str) -> None:
    """Ask for a look, and wait until it was taken."""
    kubectl.run("annotate", "dset", name, "--overwrite", f"modelmill.dev/refresh={why}")
    eventually(lambda: status(kubectl, name).get("lastHandledRefresh") == why, f"{name} was looked at for {why}")


def put(kubectl: Kubectl, **files: str) -> None:
    """Put files into the bucket, as the example does."""
    data = {f"visits-2026-{name}.csv": f"visit,patient,at,pressure\n{text}\n" for name, text in files.items()}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "visits"}, "data": data})
    kubectl.run("delete", "job/upload")
    kubectl.apply_file("examples/datasets/upload.yaml")
    kubectl.run("wait", "--for=condition=Complete", "job/upload", "--timeout=180s")


def test_a_user_sees_rows_version_and_age(lake: Kubectl) -> None:
    head, *rows = (line.split() for line in lake.output("get", "dset").splitlines())
    assert head[:5] == ["NAME", "READY", "ROWS", "VERSION", "FRESH"]
    assert {row[0]: row[1:3] for row in rows} == {
        "cohort": ["True", "3"],
        "patients": ["True", "3"],
        "visits": ["True", "5"],
    }


def test_what_is_derived_says_of_which_versions(lake: Kubectl) -> None:
    found = status(lake, "cohort")["history"][0]["from"]
    assert {each["name"]: each["version"] for each in found} == {
        name: status(lake, name)["version"] for name in ("visits", "patients")
    }


def test_new_rows_are_a_new_version_here_and_of_what_is_derived(lake: Kubectl, warehouse: PostgresServer) -> None:
    before = {name: status(lake, name)["version"] for name in ("patients", "cohort")}
    look_again(lake, "patients", "nothing-new")
    assert status(lake, "patients")["version"] == before["patients"]
    warehouse.run("INSERT INTO patients VALUES (4, '1993-08-09', 'south')")
    look_again(lake, "patients", "a-patient-more")
    assert status(lake, "patients")["rows"] == 4
    put(lake, **{"03": "6,4,2026-03-01T09:00:00Z,111"})
    look_again(lake, "visits", "a-month-more")
    assert status(lake, "visits")["rows"] == 6
    eventually(lambda: status(lake, "cohort")["rows"] == 4, "the cohort has the new patient", 90)
    assert status(lake, "cohort")["version"] != before["cohort"]


def test_bad_rows_change_no_version_and_keep_training_from_starting(lake: Kubectl) -> None:
    before = status(lake, "visits")
    put(lake, **{"04": "6,1,2026-04-01T09:00:00Z,999"})
    look_again(lake, "visits", "bad-rows")
    valid = lake.wait_for("dset", "visits", "Valid", "False", reason="DataInvalid")
    found = status(lake, "visits")
    told = {problem["rule"]: problem["message"] for problem in found["problems"]}
    assert list(told) == ["NotUnique", "AboveMaximum"]  # what is wrong with the whole comes first
    assert told["NotUnique"] in valid["message"]
    assert "1 value (rows 7) are above the declared max of 250" in told["AboveMaximum"]
    assert (found["version"], found["history"]) == (before["version"], before["history"])
    assert status(lake, "cohort")["rows"] == 4  # made of what was valid
    estimator = {"steps": [{"name": "linear", "class": "sklearn.linear_model.LinearRegression"}]}
    data = {"datasetRef": {"name": "visits"}, "target": "pressure", "features": ["patient"]}
    spec = {"data": data, "estimator": estimator}
    lake.apply({"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": "waits"}, "spec": spec})
    waits = lake.wait_for("tjob", "waits", "DataReady", "False", reason="DatasetInvalid")
    assert "NotUnique" in waits["message"]
    lake.run("delete", "tjob/waits")


def test_a_database_that_refuses_says_so_without_the_password(lake: Kubectl, warehouse: PostgresServer) -> None:
    before = status(lake, "patients")["version"]
    warehouse.run("REVOKE SELECT ON patients FROM reader")
    look_again(lake, "patients", "no-right")
    told = lake.condition("dset", "patients", "Available")
    assert told["status"] == "False"
    assert "permission denied" in told["message"]
    assert postgres_server.PASSWORD not in json.dumps(lake.get("dset", "patients"))
    assert status(lake, "patients")["version"] == before
    warehouse.run("GRANT SELECT ON patients TO reader")
    look_again(lake, "patients", "the-right-is-back")
    lake.wait_for("dset", "patients", "Ready")


def test_a_query_is_what_was_written(lake: Kubectl) -> None:
    # Where a pod's variables are made, $$ is $, and $(NAME) another variable.
    sql = "select $$one$$ as quoted, '$(KUBERNETES_SERVICE_HOST)' as plain from patients"
    derive = {"from": [{"name": "patients"}], "sql": sql}
    columns = [
        {"name": "quoted", "type": "String", "values": ["one"]},
        {"name": "plain", "type": "String", "values": ["$(KUBERNETES_SERVICE_HOST)"]},
    ]
    spec = {"source": {"derive": derive}, "columns": columns}
    lake.apply({"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "quoting"}, "spec": spec})
    lake.wait_for("dset", "quoting", "Ready", seconds=60)
    lake.run("delete", "dset/quoting")


def test_two_thousand_columns_with_bounds_are_checked(lake: Kubectl) -> None:
    names = [f"pressure_of_sensor_{number:04}" for number in range(2000)]
    rows = (",".join(str((number + row) % 100) for number in range(2000)) for row in range(2))
    text = "\n".join([",".join(names), *rows])
    lake.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wide"}, "data": {"data.csv": text}})
    columns = [{"name": name, "type": "Float", "nullable": False, "min": "0", "max": "99"} for name in names]
    spec = {"source": {"configMapRef": {"name": "wide", "key": "data.csv"}}, "columns": columns}
    lake.apply({"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "wide"}, "spec": spec})
    lake.wait_for("dset", "wide", "Ready", seconds=90)
    assert status(lake, "wide")["rows"] == 2
    lake.run("delete", "dset/wide", "configmap/wide")


SCRIPT = """
import os
from pathlib import Path
import pandas as pd
secret = [name for name in os.environ if "ACCESS" in name or "SECRET" in name]
assert not secret, secret
assert not Path("/var/run/secrets/kubernetes.io").exists()  # a token
rows = pd.read_parquet(Path(os.environ["MILL_DATA"]) / "patients.parquet")
counted = rows.groupby("ward").size().rename("patients").reset_index()
counted.to_csv(Path(os.environ["MILL_OUTPUT"]) / "wards.csv", index=False)
"""


def by_container(script: str, **changes: Any) -> dict[str, Any]:
    """A Dataset that a container derives from the patients."""
    container = {"image": "modelmill/trainer:dev", "command": ["python3", "-c"], "args": [script]}
    columns = [{"name": "ward", "type": "String"}, {"name": "patients", "type": "Integer", "min": "1"}]
    derive = {"from": [{"name": "patients"}], "container": container}
    spec = {"source": {"derive": derive}, "columns": columns, "expectations": {"uniqueKey": ["ward"]}, **changes}
    return {"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "wards"}, "spec": spec}


def test_a_container_derives_a_dataset_without_credentials(lake: Kubectl) -> None:
    lake.apply(by_container(SCRIPT))
    refused = lake.wait_for("dset", "wards", "Ready", "False", reason="ImageNotAllowed")
    assert "add it to spec.allow.images" in refused["message"]
    allowed = json.dumps({"spec": {"allow": {"images": ["modelmill/*"]}}})
    lake.run("patch", "workspace", "default", "--type=merge", "-p", allowed)
    lake.wait_for("dset", "wards", "Ready", seconds=120)
    found = status(lake, "wards")
    assert found["rows"] == 2
    assert found["history"][0]["from"] == [{"name": "patients", "version": status(lake, "patients")["version"]}]
    (pod, *_) = lake.list("pods", "batch.kubernetes.io/job-name=wards-data")
    theirs = next(c for c in pod["spec"]["initContainers"] if c["name"] == "transform")
    assert "secretKeyRef" not in json.dumps(theirs)


def test_a_container_that_fails_keeps_the_last_version_and_its_words_to_itself(lake: Kubectl) -> None:
    before = status(lake, "wards")["version"]
    lake.apply(by_container("raise SystemExit('the patient was born 1960-02-03')"))
    failed = lake.wait_for("dset", "wards", "Ready", "False", reason="ContainerFailed", seconds=120)
    assert "ended with exit code 1; its log says why" in failed["message"]
    assert "1960" not in json.dumps(status(lake, "wards"))
    assert status(lake, "wards")["version"] == before
    lake.apply(by_container(SCRIPT.replace("rows.groupby", "rows.head(0).groupby"), expectations={"minRows": 1}))
    lake.wait_for("dset", "wards", "Valid", "False", reason="DataInvalid", seconds=120)
    assert [problem["rule"] for problem in status(lake, "wards")["problems"]] == ["TooFewRows"]
    assert status(lake, "wards")["version"] == before
    lake.run("delete", "dset/wards")
