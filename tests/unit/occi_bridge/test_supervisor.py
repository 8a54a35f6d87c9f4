"""The parent process: it starts again what dies, and nothing outlives it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from occi_bridge import supervisor
from occi_bridge.supervisor import Child
from tests.unit.conftest import eventually

PARENT = """
import signal, sys, time
from occi_bridge import supervisor
from occi_bridge.supervisor import Child, supervise

supervisor._PAUSE = 0.1

def work(name):
    if name == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(f"{sys.argv[1]}/{name}", "a") as file:
        file.write("started\\n")
    if name == "broken":
        raise RuntimeError("no luck")
    while True:
        time.sleep(60)

supervise([Child(name, lambda name=name: work(name)) for name in sys.argv[2:]])
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[subprocess.Popen[str]] = []

    def start(*names: str) -> "subprocess.Popen[str]":
        argv = [sys.executable, "-c", PARENT, str(tmp_path), *names]
        made.append(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True))
        eventually(lambda: all((tmp_path / name).exists() for name in names))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pids: set[int]) -> list[str]:
    """Those processes that run; one that nobody has reaped yet does not."""
    states = [Path(f"/proc/{pid}/stat") for pid in pids]
    texts = [path.read_text() for path in states if path.exists()]
    return [text for text in texts if text.rpartition(")")[2].split()[0] != "Z"]


def test_what_dies_is_started_again_and_all_end_together(start: Start, tmp_path: Path) -> None:
    parent = start("one", "two")
    before = children(parent.pid)
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    names = [tmp_path / "one", tmp_path / "two"]
    eventually(lambda: sum(name.read_text().count("started") for name in names) == 3)
    last = children(parent.pid)
    assert len(last & before) == 1
    begun = time.monotonic()
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(60) == 0
    assert time.monotonic() - begun < 15
    assert not alive(last | before)


def test_what_dies_again_and_again_is_started_each_time(start: Start, tmp_path: Path) -> None:
    parent = start("broken")
    eventually(lambda: (tmp_path / "broken").read_text().count("started") == 3)
    parent.terminate()
    _, said = parent.communicate()
    assert "broken: internal fault" in said
    assert "RuntimeError: no luck" in said
    assert "broken ended (exit status 1); started again in 0.1 s" in said


def test_pauses_grow() -> None:
    child = Child("x", lambda: None)
    pauses = []
    for _ in range(6):
        child.begun = time.monotonic()
        supervisor._ended(child, 1)
        pauses.append(child.pause)
    assert pauses == [1, 3, 7, 15, 30, 30]
    supervisor._ended(child, 0)
    assert child.pause == 0
    child.pause, child.begun = 7, time.monotonic() - 11
    supervisor._ended(child, -9)
    assert child.pause == 0


def test_where_there_can_be_no_process_it_waits(mocker: MockerFixture) -> None:
    mocker.patch("os.fork", side_effect=BlockingIOError(11, "Resource temporarily unavailable"))
    child = Child("driver", lambda: None)
    supervisor._start(child)
    assert (child.pid, child.due > time.monotonic()) == (0, True)


def test_children_do_not_outlive_a_parent_that_is_killed(start: Start) -> None:
    parent = start("one")
    left = children(parent.pid)
    assert left
    parent.kill()
    eventually(lambda: not alive(left))
