"""Files at default places: only the user's own are taken."""

import os
import resource
from pathlib import Path

import pytest

from wnodes_lrms.cli.owned import PRIVATE, WRITABLE, keep, opened, verify
from wnodes_lrms.errors import RejectedError


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own"
    path.write_text("mine")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_the_user_s_own(own: Path, mode: int) -> None:
    own.chmod(mode)
    with opened(own, "proxy", PRIVATE) as file:
        assert file.read() == b"mine"


@pytest.mark.parametrize(
    ("mode", "never", "said"),
    [
        (0o644, PRIVATE, "its mode is 0644: chmod 0600 if it is yours"),
        (0o700, PRIVATE, "its mode is 0700: chmod 0600"),
        (0o620, WRITABLE, "its mode is 0620: chmod 0600"),
        (0o646, WRITABLE, "its mode is 0646: chmod 0644"),
    ],
)
def test_modes(own: Path, mode: int, never: int, said: str) -> None:
    own.chmod(mode)
    with pytest.raises(RejectedError, match=said):
        verify(own, "proxy", never)


def test_another_user_s(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 987_654_323)
    with pytest.raises(RejectedError, match="the proxy is not used: it is no file of this user's"):
        verify(own, "proxy", PRIVATE)


def test_what_is_no_file_of_its_own(own: Path, tmp_path: Path) -> None:
    link, pipe, second = tmp_path / "link", tmp_path / "pipe", tmp_path / "second"
    link.symlink_to(own)
    os.mkfifo(pipe, 0o600)
    for path, said in ((link, "symbolic links"), (pipe, "no file"), (tmp_path, "directory")):
        with pytest.raises(RejectedError, match=said):
            verify(path, "proxy", PRIVATE)
    second.hardlink_to(own)  # who may link to a file chooses its name, not its content
    with pytest.raises(RejectedError, match="no file of this user's alone"):
        verify(own, "proxy", PRIVATE)


def test_what_is_kept_is_the_user_s_alone(own: Path) -> None:
    own.chmod(0o644)
    keep("new", own)
    assert (own.read_text(), own.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(own.parent.iterdir()) == [own]


def test_a_full_disk_leaves_what_was_and_nothing_else(own: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            keep("new content", own)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert own.read_text() == "mine"
    assert list(own.parent.iterdir()) == [own]
