"""Folders above the hooks' own that `wnodes hooks install` had to make, as /usr/local/libexec.

They are noted in a file among the hooks, so that `wnodes hooks remove` takes them off again, and
never one that was there before.
"""

from pathlib import Path

from wnodes_lrms.lrms.hookset import MARK, File, content_of

_NAME = "made-folders"


def note(folder: Path) -> File | None:
    """What to write into the folder once it is there; None if nothing above it is missing."""
    missing = [at for at in folder.parents if not at.exists()]
    if not missing:
        return None
    lines = [f"# {MARK.decode()}: made for this folder, and removed with it", *map(str, missing)]
    return File(folder / _NAME, ("\n".join(lines) + "\n").encode(), 0o644)


def noted(folder: Path) -> list[Path]:
    """Those that were made for it, the nearest first."""
    lines = (content_of(folder / _NAME) or b"").decode(errors="replace").splitlines()
    return [at for at in folder.parents if str(at) in lines]
