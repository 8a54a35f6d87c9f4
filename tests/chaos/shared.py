"""The folders that all nodes share."""

from pathlib import Path

_NO_USERS = frozenset({"lost+found", ".lock"})  # the file system's, and the baits'


def kept(folder: Path) -> list[Path]:
    """What users have in such a folder: volumes, whole and half, or images."""
    return sorted(each for each in folder.glob("*") if each.name not in _NO_USERS)
