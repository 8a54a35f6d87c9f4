"""batch.py: what a starter without a machine does where the bait must be asked."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks import batch
from hooks.batch import Torque


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody ends this process: how long it would wait for that."""
    waited: list[float] = []
    monkeypatch.setattr("hooks.batch.time.sleep", waited.append)
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
    assert no_patience == [batch.END_PATIENCE]
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
