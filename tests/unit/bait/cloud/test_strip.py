"""What a saved disk is stripped of. The library itself: end to end."""

import subprocess
import sys

import pytest

from bait.cloud import strip

MINE, OTHER = "ssh-ed25519 AAAAmine anna@home", "ssh-rsa AAAAother bob@work"


@pytest.mark.parametrize(
    ("had", "has"),
    [
        ("", ""),
        (f"{MINE}\n", ""),
        (f"{OTHER}\n{MINE}\n# mine\n", f"{OTHER}\n# mine\n"),
        ("ssh-ed25519 AAAAmine under another name", ""),
        (f'no-pty,command="echo AAAA" {MINE}\n{OTHER}', OTHER),
    ],
)
def test_the_users_keys_go_and_others_stay(had: str, has: str) -> None:
    assert strip.without_keys(had.encode(), [MINE]) == has.encode()


def test_keys_that_are_none_take_nothing_out() -> None:
    assert strip.without_keys(b"ssh-rsa AAAA\n\xff\n", ["", "ssh-rsa"]) == b"ssh-rsa AAAA\n\xff\n"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"disk": "/x"}'])
def test_what_is_no_request_is_a_failure(text: str) -> None:
    argv = [sys.executable, "-m", "bait.cloud.strip"]
    done = subprocess.run(argv, capture_output=True, input=text.encode())
    assert done.returncode != 0
    assert done.stdout == b""


def test_a_disk_that_can_not_be_opened_is_left_alone() -> None:
    argv = [sys.executable, "-m", "bait.cloud.strip"]
    text = b'{"disk": "/no/such/disk", "ssh_keys": [], "kvm": false}'
    done = subprocess.run(argv, capture_output=True, input=text)
    assert (done.returncode, done.stdout.strip()) == (0, b"")
