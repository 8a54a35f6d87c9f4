"""What a saved disk is stripped of. The library itself: end to end."""

import fnmatch
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
    assert done.returncode == 0
    assert done.stdout.startswith(b"all of it: ")


class Guest:
    """In the place of libguestfs: files of a guest, some of which are not what they should be."""

    def __init__(self) -> None:
        self.files = {
            strip.MACHINE_ID: b"abc\n",
            strip.KEYS[0]: f"{MINE}\n".encode(),
            "/home/bob/.ssh/authorized_keys": f"{MINE}\n{OTHER}\n".encode(),
        }
        self.bad: set[str] = set()  # can't be read or written
        self.none = {"/home/anna/.ssh/authorized_keys"}  # a folder, or a link that leads nowhere
        self.ended = False

    def glob_expand(self, pattern: str) -> list[str]:
        return sorted(fnmatch.filter({*self.files, *self.none}, pattern))

    def is_file(self, path: str, followsymlinks: bool = False) -> bool:
        del followsymlinks
        return path in self.files

    def read_file(self, path: str) -> bytes:
        if path in self.bad:
            raise RuntimeError(f"{path}: too large")
        return self.files[path]

    def write(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def rm_rf(self, path: str) -> None:
        if path in self.bad:
            raise RuntimeError(f"{path}: Read-only file system")
        del self.files[path]

    def umount_all(self) -> None:
        if self.ended:
            raise RuntimeError("call launch before using this function")

    def shutdown(self) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    guest = Guest()
    monkeypatch.setattr(strip, "launched", lambda *_: guest)
    monkeypatch.setattr(strip, "mount", lambda _: None)
    return guest


def stripped() -> str:
    return strip.strip("/disk", [MINE], False)


def test_what_a_user_has_made_of_their_files_keeps_no_disk_from_being_saved(guest: Guest) -> None:
    assert stripped() == ""
    assert guest.files == {
        strip.MACHINE_ID: b"",
        strip.KEYS[0]: b"",
        "/home/bob/.ssh/authorized_keys": f"{OTHER}\n".encode(),
    }


def test_what_can_not_be_taken_out_is_told_and_the_rest_goes(guest: Guest) -> None:
    key = "/etc/ssh/ssh_host_rsa_key"
    guest.files[key] = b"key"
    guest.bad = {key, strip.KEYS[0]}
    assert stripped() == f"{key}: {key}: Read-only file system"
    assert guest.files[strip.MACHINE_ID] == b""
    assert guest.files["/home/bob/.ssh/authorized_keys"] == f"{OTHER}\n".encode()


def test_an_appliance_that_ends_on_the_way_is_a_fault(guest: Guest) -> None:
    guest.ended = True
    with pytest.raises(RuntimeError, match="call launch"):
        stripped()
