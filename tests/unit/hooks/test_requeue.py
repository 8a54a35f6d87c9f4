"""What a starter without a machine does where the bait must be asked."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import requeue
from requeue import GridEngine, OpenPBS, Torque


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody ends this process: how long it would wait for that."""
    waited: list[float] = []
    monkeypatch.setattr("requeue.time.sleep", waited.append)
    return waited


@pytest.fixture
def told(tmp_path: Path) -> Iterator[list[str]]:
    """A bait's socket: what it answers comes first, what it was asked is added."""
    lines: list[str] = []
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "bait"))
        door.listen()

        def answer() -> None:
            link, _ = door.accept()
            with link:
                asked = link.makefile().readline()
                link.sendall("".join(f"{line}\n" for line in lines).encode())
                lines.append(asked)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield lines
        thread.join(5)


def ends(tmp_path: Path, reason: str = "no room") -> int:
    return Torque("7.tqhost", "hv1", str(tmp_path / "bait")).hold(reason)


def test_the_bait_decides_and_the_job_waits_for_its_end(
    tmp_path: Path, told: list[str], no_patience: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    told += ['{"act": "requeued: try 2 of 3"}', '{"ok": true, "end": true}']
    assert ends(tmp_path) == 1
    assert capfd.readouterr().err == "wnodes: job 7.tqhost: requeued: try 2 of 3\n"
    assert no_patience == [requeue.END_PATIENCE]
    assert json.loads(told[-1]) == {"op": "again", "job": "7.tqhost"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"ok": false, "error": "no room", "end": true}', ""),
        (
            '{"ok": false, "error": "qrerun: Unauthorized Request", "end": true}',
            "wnodes: job 7.tqhost: not tried again: qrerun: Unauthorized Request\n",
        ),
    ],
)
def test_a_job_that_is_not_tried_again_ends_at_once(
    tmp_path: Path,
    told: list[str],
    answer: str,
    said: str,
    no_patience: list[float],
    capfd: pytest.CaptureFixture[str],
) -> None:
    told.append(answer)
    assert ends(tmp_path) == 1
    assert capfd.readouterr().err == said
    assert no_patience == []


def test_without_a_bait_the_job_ends_and_says_so(
    tmp_path: Path, no_patience: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    assert ends(tmp_path) == 1
    assert "not tried again: no answer from the bait at" in capfd.readouterr().err
    assert no_patience == []


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("2", "asks OpenPBS to hold it: when the cause is mended, release it with `qrls 7.pbs`"),
        ("", "not tried again: it was submitted with `qsub -r n`"),
    ],
)
def test_openpbs_decides_when_the_starter_has_ended(
    run: str, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []
    monkeypatch.setattr("requeue.os.kill", lambda _pid, number: killed.append(number))
    monkeypatch.setenv("WNODES_RUN", run)
    job = OpenPBS("7.pbs", "hv1")
    job.hold("no room")
    assert capfd.readouterr().err.startswith(f"wnodes: job 7.pbs: {said}")
    job.requeue("2 of 3")
    assert capfd.readouterr().err.endswith(": asks OpenPBS for another run: try 2 of 3\n")
    assert killed == [signal.SIGIO, signal.SIGPWR]


def test_grid_engine_decides_when_the_starter_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("requeue.PATH", f"{tmp_path}:/usr/bin:/bin")
    job = GridEngine("7", "hv1")
    for name, program in (("qstat", "echo context: wnodes_tries=1"), ("qalter", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    assert job.requeue("3 of 3") == 99
    assert capfd.readouterr().err.endswith(": asks Grid Engine for another run: try 3 of 3\n")
    (tmp_path / "qalter").write_text("#!/bin/sh\necho 'denied:  7' >&2\nexit 1\n")
    assert job.requeue("3 of 3") == 100
    first, second = capfd.readouterr().err.splitlines()
    assert first.endswith("not tried again: it can't be counted how often it is tried: denied: 7")
    assert "asks Grid Engine for its error state" in second
