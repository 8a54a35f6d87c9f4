"""Removing a VM's folders. Root walks through what is root's alone."""

import shutil
import subprocess
from pathlib import Path

from wnodes_lrms.errors import WnodesError

_PATIENCE = 60.0  # seconds for what somebody else has filled


def remove(folder: Path) -> None:
    """Remove a folder of root's; one that is gone already is success. Raises WnodesError.

    A folder in it that is somebody else's is emptied as that user: it may have any depth, and
    whatever its owner does meanwhile is done with no more than their own rights. (Version 0.4 gave
    job owners a folder of their own there; libguestfs has one as long as it works.)
    """
    for inside in _others(folder):
        remove_as_owner(inside)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise WnodesError(f"{folder} can't be removed")


def _others(folder: Path) -> list[Path]:
    try:
        return [at for at in folder.iterdir() if at.is_dir() and at.lstat().st_uid != 0]
    except FileNotFoundError:
        return []


def remove_as_owner(folder: Path) -> None:
    """Remove a folder that is somebody else's, in one of root's. Raises WnodesError."""
    owner = folder.lstat()
    try:
        # It does not recur, and follows no link. The folder itself is not its owner's to remove.
        subprocess.run(
            ["find", ".", "-mindepth", "1", "-delete"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
            cwd=folder,
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=[],
        )
    except subprocess.TimeoutExpired as error:
        raise WnodesError(f"{folder} has too much in it: it is removed later") from error
    try:
        folder.rmdir()
    except OSError as error:
        raise WnodesError(f"{folder} can't be removed: {error.strerror}") from error
