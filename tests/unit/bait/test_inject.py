"""inject.py as a program: what it takes, and how it says what is wrong. The library: end to end."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bait import inject
from bait.inject import Wish

WISH = Wish("/no/such/disk", "box", ("ssh-ed25519 AAAA a",), "IyEvYmluL3NoCg==", False)


def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: Wish = WISH
) -> list[tuple[Wish, int]]:
    file = tmp_path / "wish"
    file.write_text(json.dumps(asdict(wish)))
    monkeypatch.setattr(sys, "argv", ["inject", str(file)])
    heard: list[Wish] = []
    monkeypatch.setattr(inject, "inject", heard.append)
    status = inject.main()
    return [(each, status) for each in heard]


def test_a_wish_comes_over_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((heard, status),) = told(tmp_path, monkeypatch)
    assert status == 0
    assert (heard.disk, heard.hostname, heard.user_data, heard.kvm) == (
        WISH.disk,
        WISH.hostname,
        WISH.user_data,
        False,
    )
    assert tuple(heard.ssh_keys) == WISH.ssh_keys


def test_a_fault_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_wish: Wish) -> None:
        raise RuntimeError("guestfs_launch failed.\nThis usually means\n  something")

    file = tmp_path / "wish"
    file.write_text(json.dumps(asdict(WISH)))
    monkeypatch.setattr(sys, "argv", ["inject", str(file)])
    monkeypatch.setattr(inject, "inject", fail)
    assert inject.main() == 1
    said = "libguestfs: guestfs_launch failed. This usually means something\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"disk": "/x"}'])
def test_what_is_no_wish_is_a_failure(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wish"
    file.write_text(text)
    done = subprocess.run([sys.executable, "-m", "bait.inject", file], capture_output=True)
    assert done.returncode != 0
    assert done.stderr
