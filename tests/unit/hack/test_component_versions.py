"""Versions are pinned by the go.mod files, and read from there."""

from pathlib import Path

import pytest
from local_cluster import versions
from local_cluster.build import go_version, link_flags
from local_cluster.console import ClusterError
from local_cluster.paths import GO_MODULES
from local_cluster.versions import component, parse_go_mod, program_name, version_of

GO_MOD = """\
// tool k8s.io/commented/out
module example.dev/x

go 1.25.0

godebug default=go1.25

tool example.org/single/cmd/one // a remark

tool (
\texample.org/group/cmd/two
\texample.org/group/cmd/three/v2
)

require (
\texample.org/group v1.2.3 // indirect
\texample.org/group/cmd v0.9.0
)

require example.org/single v4.5.6+incompatible

replace (
\texample.org/group => example.org/fork v9.9.9
)
"""


def test_tools_and_requirements_are_read_in_both_spellings() -> None:
    module = parse_go_mod(GO_MOD)

    assert module.go == "1.25.0"
    assert module.tools == (
        "example.org/single/cmd/one",
        "example.org/group/cmd/two",
        "example.org/group/cmd/three/v2",
    )
    assert module.requires == {
        "example.org/group": "v1.2.3",
        "example.org/group/cmd": "v0.9.0",
        "example.org/single": "v4.5.6+incompatible",
    }


def test_a_tool_has_the_version_of_the_innermost_module_that_holds_it() -> None:
    requires = {"example.org/group": "v1.2.3", "example.org/group/cmd": "v0.9.0"}

    assert version_of("example.org/group/cmd/two", requires) == "v0.9.0"
    assert version_of("example.org/group", requires) == "v1.2.3"
    with pytest.raises(ClusterError, match=r"example\.org/groups"):
        version_of("example.org/groups", requires)  # a longer word is another module


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
        ("example.org/tool/v2", "tool"),
        ("example.org/v8", "example.org"),
    ],
)
def test_a_program_is_named_as_go_build_names_it(package: str, name: str) -> None:
    assert program_name(package) == name


@pytest.mark.parametrize("folder", sorted(path.name for path in GO_MODULES.iterdir() if path.is_dir()))
def test_every_folder_of_hack_go_pins_what_it_builds(folder: str) -> None:
    assert (GO_MODULES / folder / "go.sum").exists()
    if folder == "crds":  # nothing is built of them
        return
    item = component(folder)

    assert item.programs
    assert item.version.startswith("v")


def test_a_program_of_our_own_has_another_version_when_its_source_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    (folder / "go.mod").write_text("tool example.org/x\nrequire example.org/x v1.2.3\n")
    monkeypatch.setattr(versions, "GO_MODULES", tmp_path)
    assert component("ours").version == "v1.2.3"

    found = set()
    for text in ("package main", "package main // changed"):
        (folder / "main.go").write_text(text)
        found.add(component("ours").version)

    assert len(found) == 2
    assert all(version.startswith("v1.2.3-") for version in found)


def test_kubernetes_and_its_published_parts_are_of_one_release() -> None:
    item = component("kubernetes")
    minor = item.version.split(".", 1)[1]  # v1.35.4 -> 35.4
    replaced = [line for line in (item.folder / "go.mod").read_text().splitlines() if " => k8s.io/" in line]

    assert len(replaced) > 20
    assert all(line.endswith(f" v0.{minor}") for line in replaced)


def test_kubernetes_is_told_its_version_and_others_are_not() -> None:
    kubernetes = component("kubernetes")

    assert f"gitVersion={kubernetes.version} " in link_flags(kubernetes)
    assert link_flags(component("coredns")) == "-s -w"


def test_go_says_its_version_in_several_ways() -> None:
    assert go_version("go version go1.26.8 linux/amd64") == "1.26.8"
    assert go_version("go version go1.27 darwin/arm64") == "1.27"
    assert go_version("go: command is something else") is None
