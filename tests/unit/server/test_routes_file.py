"""The routes file: swapped by kubelet, missing, broken, unreadable."""

from pathlib import Path

import pytest
from splitting import Mounted, to

from modelmill_contracts import routes
from modelmill_server.routes import RoutesFile


def test_no_folder_and_no_file_are_no_rollout(tmp_path: Path) -> None:
    file = RoutesFile(tmp_path / "routes")
    assert (file.look(), file.routes) == (False, None)
    (tmp_path / "routes").mkdir()
    assert (file.look(), file.routes) == (False, None)


def test_a_swap_is_seen_and_the_same_content_is_no_change(tmp_path: Path) -> None:
    mounted, file = Mounted(tmp_path / "routes"), RoutesFile(tmp_path / "routes")
    mounted.write(to(80, 10))
    assert (file.look(), file.routes) == (True, to(80, 10))
    assert file.look() is False
    mounted.write(to(80, 10))
    assert file.look() is False
    mounted.write(to(80, 20))
    assert (file.look(), file.routes) == (True, to(80, 20))
    mounted.write(None)
    assert (file.look(), file.routes) == (True, None)
    mounted.write(to(80, 20))
    assert (file.look(), file.routes) == (True, to(80, 20))


@pytest.mark.parametrize("text", [b"", b"nonsense", b'{"version": 2}', b" " * (routes.LIMIT + 1), b"\xff", b"[" * 9999])
def test_what_cannot_be_read_changes_nothing_and_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: bytes
) -> None:
    mounted, file = Mounted(tmp_path / "routes"), RoutesFile(tmp_path / "routes")
    mounted.write(to(80, 10))
    file.look()
    for _ in range(3):
        mounted.write(text)
        assert (file.look(), file.routes) == (False, to(80, 10))
        assert file.look() is False
    assert "".join(capfd.readouterr()).count("the routes cannot be read") == 1
    mounted.write(to(80, 30))
    assert (file.look(), file.routes) == (True, to(80, 30))
    mounted.write(text)
    file.look()
    assert "".join(capfd.readouterr()).count("the routes cannot be read") == 1  # again, since it was good meanwhile


def test_a_file_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    file = RoutesFile(tmp_path)
    path = tmp_path / routes.FILE
    path.write_bytes(routes.encode(to(80, 10)))
    assert file.look()
    path.unlink()
    path.symlink_to(path.name)  # a loop
    assert (file.look(), file.routes) == (False, to(80, 10))
