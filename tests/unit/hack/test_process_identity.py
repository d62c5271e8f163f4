"""A process is known by its id and its start; an id that somebody else got later is never signalled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_cluster.processes import MARK, Process, alive, end, identify, marked, start_time


def stat(state: str, threads: int = 1, command: str = "etcd", start: int = 4711) -> str:
    before = "1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0"  # ppid ... nice
    return f"77 ({command}) {state} {before} {threads} 0 {start} 1000 2000"


def test_the_start_is_read_behind_a_command_with_blanks_and_brackets() -> None:
    assert start_time(stat("S", command="a) S (b"), "boot") == "boot:4711"


def test_a_zombie_is_dead_once_its_threads_are_gone() -> None:
    assert start_time(stat("Z", threads=3), "boot") == "boot:4711"  # its ports are still taken
    assert start_time(stat("Z", threads=1), "boot") is None


def test_a_cut_off_stat_is_no_process() -> None:
    assert start_time("77 (etcd) S 1", "boot") is None


def test_a_reused_pid_is_left_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        known = identify(child.pid)
        assert known is not None
        end([Process(child.pid, "another boot:1")], patience=0)
        assert child.poll() is None
        assert alive(known)
    finally:
        child.kill()
        child.wait()
    assert not alive(known)


def test_a_deaf_process_is_killed_when_patience_ends() -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()  # from here on it is deaf
    known = identify(child.pid)
    assert known is not None

    end([known], patience=0.2)

    assert not alive(known)
    child.stdout.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_children_are_found_by_the_mark_of_their_cluster(tmp_path: Path) -> None:
    mine, other = tmp_path / "a", tmp_path / "a2"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, MARK: str(folder)}
        )
        for folder in (mine, other)
    ]
    try:
        for child in children:  # the environment shows once the program runs
            while f"{MARK}=".encode() not in Path(f"/proc/{child.pid}/environ").read_bytes():
                pass
        assert [process.pid for process in marked(mine)] == [children[0].pid]
    finally:
        for child in children:
            child.kill()
            child.wait()
