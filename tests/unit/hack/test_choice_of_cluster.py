"""Which cluster a command works on: $CLUSTER, else what made it, else what the machine can do."""

from pathlib import Path

import pytest
from local_cluster import cli, docker
from local_cluster.addresses import SUBNETS, Subnets
from local_cluster.console import ClusterError
from local_cluster.record import ClusterRecord, load


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CLUSTER", raising=False)


@pytest.mark.parametrize(("docker_answers", "backend"), [(True, "kind"), (False, "processes")])
def test_docker_decides_when_nothing_is_said(
    docker_answers: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "answers", lambda: docker_answers)

    assert cli.choose_backend("not-there") == backend


def test_a_cluster_stays_with_what_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "answers", lambda: True)  # Docker was started later
    ClusterRecord("x-test", with_node=False, ports={"apiserver": 1}, subnets=Subnets(*SUBNETS[0])).save()

    assert cli.choose_backend("x-test") == "processes"
    monkeypatch.setenv("CLUSTER", "kind")
    with pytest.raises(ClusterError, match="made with processes"):
        cli.choose_backend("x-test")
    monkeypatch.setenv("CLUSTER", "current")
    assert cli.choose_backend("x-test") == "current"


def test_an_unknown_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "minikube")
    with pytest.raises(ClusterError, match="auto, kind, processes, current"):
        cli.choose_backend("x")


def test_a_record_that_was_cut_off_counts_as_none(tmp_path: Path) -> None:
    record = ClusterRecord("x-test", with_node=False, ports={"apiserver": 1}, subnets=Subnets(*SUBNETS[0]))
    record.save()
    assert load("x-test") == record
    file = tmp_path / "modelmill/clusters/x-test/cluster.json"
    file.write_text(file.read_text()[:40])

    assert load("x-test") is None


def test_a_name_that_would_leave_the_cache_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--name", "../../etc"]) == 2
    assert "lower-case letters" in capsys.readouterr().err


def test_kubectl_without_a_cluster_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kubectl", "--name", "x-test", "get", "pods", "--name"]) == 3
    assert "hack/cluster up --name x-test" in capsys.readouterr().err
