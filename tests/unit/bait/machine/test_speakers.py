"""Real processes that are stopped, go on, and end."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bait.machine import speakers
from bait.machine.speakers import Speakers
from tests.unit.conftest import eventually


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    found = subprocess.Popen(["sleep", "600"])
    yield found
    found.kill()
    found.wait()


def stop(process: subprocess.Popen[bytes], spoken: Speakers) -> None:
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: not spoken.moving())


def test_a_process_that_is_stopped_does_not_move(process: subprocess.Popen[bytes]) -> None:
    spoken = Speakers()
    spoken.note("7", process.pid)
    assert spoken.moving() == {"7"}
    stop(process, spoken)
    process.send_signal(signal.SIGCONT)
    eventually(lambda: spoken.moving() == {"7"})


def test_what_the_batch_system_has_not_said_yet_is_a_reason_to_ask(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = Speakers()
    spoken.note("7", process.pid)
    assert not spoken.contradict({"7": False})
    assert not spoken.contradict({})  # it says nothing of that job, or nothing at all
    assert spoken.contradict({"7": True})
    stop(process, spoken)
    assert spoken.contradict({"7": False})
    assert not spoken.contradict({"7": True})
    # A user may stop their own process: that is no reason for ever.
    monkeypatch.setattr(speakers, "_NEWS", 0.0)
    assert not spoken.contradict({"7": False})


def test_who_speaks_last_speaks_for_the_job(process: subprocess.Popen[bytes]) -> None:
    spoken = Speakers()
    spoken.note("7", process.pid)
    stop(process, spoken)
    spoken.note("7", 0)  # nobody knows who
    assert not spoken.moving()
    spoken.note("7", os.getpid())
    assert spoken.moving() == {"7"}


def test_who_has_ended_or_has_no_machine_any_more_is_forgotten(
    process: subprocess.Popen[bytes],
) -> None:
    spoken = Speakers()
    for job in ("7", "8"):
        spoken.note(job, process.pid)
    spoken.keep({"7"})
    assert spoken.moving() == {"7"}
    process.kill()
    process.wait()
    assert not spoken.moving()
    assert not spoken.contradict({"7": True})


@pytest.mark.parametrize(
    ("stat", "moves"),
    [
        ("7 (a) T 1 ) S 3", True),
        ("7 (T) S 1 2", True),
        ("7 (sh) T 1 2", False),
        ("7 (x) R) T 1 2", False),
        ("7 (sh) t 1 2", True),  # somebody debugs it
        ("", False),
    ],
)
def test_a_processs_own_name_is_not_its_state(tmp_path: Path, stat: str, moves: bool) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(stat)
    spoken = Speakers(tmp_path)
    spoken.note("7", 7)
    assert (spoken.moving() == {"7"}) == moves
