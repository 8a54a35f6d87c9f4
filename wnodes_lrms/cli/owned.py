"""Files of a user's at default places: read only if they are theirs, written for them alone.

In /tmp anybody can leave a file under any name that is free. Whoever took it would be known as
somebody else, and would give what is theirs to them.
"""

import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from wnodes_lrms.errors import RejectedError

WRITABLE = 0o022  # by others
PRIVATE = 0o177  # all that the modes 0600 and 0400, which proxies have, leave out


def opened(path: Path, what: str, never: int) -> BinaryIO:
    """The file at a default place, open for reading.

    It has to be a regular file, with no second name, of the user whom this process acts for, with
    none of the permissions `never`; no link is followed. Raises RejectedError, with `what` it was
    to be; OSError where it can't be opened.
    """
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(number, "rb")
    why = _unfit(os.fstat(number), never)
    if why:
        file.close()
        raise RejectedError(f"{path}: the {what} is not used: {why}")
    return file


def verify(path: Path, what: str, never: int) -> None:
    """See that `opened` would take it. Raises RejectedError."""
    try:
        opened(path, what, never).close()
    except OSError as fault:  # ELOOP of a symbolic link, and EACCES of another user's file
        raise RejectedError(f"{path}: the {what} is not used: {fault.strerror}") from fault


def is_safe(found: os.stat_result) -> bool:
    """Whether an open file in the user's own folders is theirs, or root's, to write to. Pure."""
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & WRITABLE


def keep(text: str, path: Path) -> None:
    """Put a text into a file that is its user's alone. Raises OSError.

    What is there stays until the new file is whole; nothing else is left where that fails.
    """
    number, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # with mode 0600
    try:
        with os.fdopen(number, "w") as file:
            file.write(text)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink()
        raise


def _unfit(found: os.stat_result, never: int) -> str:
    """Why a file is not taken; "" where it is. Pure."""
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        return "it is no file of this user's alone"
    mode = stat.S_IMODE(found.st_mode)
    return (
        f"its mode is {mode:04o}: chmod {mode & ~never:04o} if it is yours" if mode & never else ""
    )
