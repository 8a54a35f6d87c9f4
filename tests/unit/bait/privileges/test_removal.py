"""What somebody else has put into a VM's folder does not keep it."""

import subprocess
from pathlib import Path

import pytest

from bait.privileges.removal import remove
from tests.unit.conftest import NOBODY, needs_root
from wnodes_lrms.errors import WnodesError

pytestmark = [needs_root, pytest.mark.integration]
NESTED = 'import os, sys; os.chdir(sys.argv[1])\nfor _ in range(5000): os.mkdir("d"); os.chdir("d")'


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A user's folder within one of root's."""
    for at in (tmp_path, *tmp_path.parents[:3]):
        at.chmod(at.stat().st_mode | 0o711)
    folder = tmp_path / "machine" / "job"
    folder.mkdir(parents=True, mode=0o711)
    subprocess.run(["chown", str(NOBODY.pw_uid), str(folder)], check=True)
    return folder


def as_them(*argv: str) -> None:
    subprocess.run(argv, check=True, user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[])


def test_folders_of_any_depth_are_removed(theirs: Path) -> None:
    as_them("/usr/bin/python3", "-c", NESTED, str(theirs))
    remove(theirs.parent)
    assert not theirs.parent.exists()
    remove(theirs.parent)  # what is gone is success


def test_nothing_else_goes_by_a_link(theirs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    as_them("ln", "-s", str(kept), str(theirs / "link"))
    (theirs.parent / "own").symlink_to(kept)
    remove(theirs.parent)
    assert (kept / "file").exists()


def test_what_is_not_theirs_is_not_removed_for_them(theirs: Path) -> None:
    (theirs / "roots").mkdir(mode=0o700)
    (theirs / "roots" / "file").touch()
    with pytest.raises(WnodesError, match="can't be removed"):
        remove(theirs.parent)
    assert (theirs / "roots" / "file").exists()
