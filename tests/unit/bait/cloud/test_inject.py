"""inject.py as a program: what it takes, and how it says what is wrong. The library: end to end."""

import io
import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from bait.cloud import inject
from bait.cloud.inject import Injection

KEYS = ("ssh-ed25519 AAAA a",)
INJECTION = Injection("/no/such/disk", "box", KEYS, "IyEvYmluL3NoCg==", "a host key", False)


def told(
    monkeypatch: pytest.MonkeyPatch, injection: Injection = INJECTION
) -> list[tuple[Injection, int]]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asdict(injection))))
    heard: list[Injection] = []
    monkeypatch.setattr(inject, "inject", heard.append)
    status = inject.main()
    return [(each, status) for each in heard]


def test_a_wish_comes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ((heard, status),) = told(monkeypatch)
    assert status == 0
    assert (heard.disk, heard.hostname, heard.user_data, heard.kvm) == (
        INJECTION.disk,
        INJECTION.hostname,
        INJECTION.user_data,
        False,
    )
    assert tuple(heard.ssh_keys) == INJECTION.ssh_keys


def test_a_fault_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_injection: Injection) -> None:
        raise RuntimeError("guestfs_launch failed.\nThis usually means\n  something")

    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asdict(INJECTION))))
    monkeypatch.setattr(inject, "inject", fail)
    assert inject.main() == 1
    said = "libguestfs: guestfs_launch failed. This usually means something\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"disk": "/x"}'])
def test_what_is_no_wish_is_a_failure(text: str) -> None:
    argv = [sys.executable, "-m", "bait.cloud.inject"]
    done = subprocess.run(argv, capture_output=True, input=text.encode())
    assert done.returncode != 0
    assert done.stderr


@pytest.mark.parametrize(
    ("had", "has"),
    [
        (b"", b"127.0.1.1 box\n"),
        (b"127.0.0.1 localhost", b"127.0.0.1 localhost\n127.0.1.1 box\n"),
        (
            b"127.0.0.1 localhost\n127.0.1.1\tdebian old\n# \xff\n\n::1 localhost\n",
            b"127.0.0.1 localhost\n# \xff\n\n::1 localhost\n127.0.1.1 box\n",
        ),
    ],
)
def test_the_vms_own_name_has_an_address(had: bytes, has: bytes) -> None:
    assert inject.with_own_name(had, "box") == has
    assert inject.with_own_name(has, "box") == has
