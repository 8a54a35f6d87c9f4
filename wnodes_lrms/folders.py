"""Folders that are made with the mode that was meant, whatever the umask of who makes them."""

from pathlib import Path

PASSED = 0o711  # others pass through to what they are let into, and see no names
LISTED = 0o755  # for everybody to read


def have(folder: Path, mode: int) -> None:
    """Have the folder there; it, and each above it that is not there, is made with this mode."""
    missing = [at for at in (folder, *folder.parents) if not at.exists()]
    for at in reversed(missing):
        at.mkdir(exist_ok=True)
        at.chmod(mode)
