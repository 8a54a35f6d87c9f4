"""Folders that get the mode that was meant, whatever the umask of the process is."""

from pathlib import Path

PASSED = 0o711  # others pass through to what they are let into, and see no names
LISTED = 0o755  # for everybody to read


def have(folder: Path, mode: int) -> None:
    """Have the folder exist: it, and each missing one above it, is made with this mode."""
    missing = [at for at in (folder, *folder.parents) if not at.exists()]
    for at in reversed(missing):
        at.mkdir(exist_ok=True)
        at.chmod(mode)
