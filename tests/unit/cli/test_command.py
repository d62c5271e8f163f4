"""`kubectl mill`: its arguments, and what it says where there is no answer."""

from pathlib import Path

import pytest

from modelmill.cli.command import VERBS, main, parser


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    """The exit code, or what is said instead of one, and what is on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code, capsys.readouterr().err


def test_it_tells_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "kubectl mill" in told
    assert all(verb.NAME in told and verb.HELP in told for verb in VERBS)


def test_a_question_that_is_none_is_told_apart_from_one_without_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys)[0] == 2
    code, said = refused(capsys, "lineage", "pod/a")
    assert code == 2
    assert "'pod' has no lineage; ask for one of Dataset (dset)" in said


@pytest.mark.parametrize(
    "words",
    [
        "-n team experiments compare a b",
        "experiments -n team compare a b",
        "experiments compare -n team a b",
        "experiments compare a b -n team",
    ],
)
def test_a_namespace_is_named_anywhere(words: str) -> None:
    asked = parser().parse_args(words.split())
    assert (asked.namespace, asked.context, asked.verb, asked.name) == ("team", None, "compare", ["a", "b"])


def test_without_a_cluster_it_says_how_to_name_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "config")
    code, _ = refused(capsys, "lineage", "mver/a", "--kubeconfig", missing)
    assert str(code).startswith("error: there is no cluster to ask (")
    assert str(code).endswith("); set KUBECONFIG, or name a file with --kubeconfig")


def test_a_context_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _ = refused(capsys, "lineage", "mver/a", "--kubeconfig", _config(tmp_path, 1), "--context", "other")
    assert "other" in str(code)


def test_an_api_server_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _ = refused(capsys, "lineage", "mver/a", "--kubeconfig", _config(tmp_path, 1))
    assert str(code).startswith("error: the API server http://127.0.0.1:1 does not answer: ")


def _config(folder: Path, port: int) -> str:
    """A kubeconfig of an API server on this machine."""
    path = folder / "config"
    path.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{}}}}]
contexts: [{{name: here, context: {{cluster: here, user: me, namespace: team-a}}}}]
"""
    )
    return str(path)
