"""Locks on a volume's file: QEMU's, which it holds while it has the file open, and ours.

They are of open file descriptions, see fcntl(2), and end with the process. The file system takes
them to other nodes, if it takes locks there at all.
"""

import fcntl
import os
import struct
from typing import BinaryIO

from wnodes_lrms.errors import ConflictError

_FLOCK = "hhqqi"  # struct flock, see fcntl(2): type, whence, start, length, process
# Where QEMU keeps its locks in a file: block/file-posix.c, RAW_LOCK_PERM_BASE and what follows it.
LOCKED = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 100, 200, 0)
WRITTEN = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 101, 1, 0)  # BLK_PERM_WRITE
# So says a QEMU that nobody else may write, RAW_LOCK_SHARED_BASE: then none that would opens it.
STAYS = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 201, 1, 0)
# Our own, of who makes a copy: held on what is read, and on what is written.
READ = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 99, 1, 0)
FILLED = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 99, 1, 0)


def hold(file: BinaryIO, lock: bytes, otherwise: str) -> None:
    """Take a lock, for as long as the file is open. Raises ConflictError with the words `otherwise`
    if others have one."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
    except BlockingIOError:
        raise ConflictError(otherwise) from None


def is_held(file: BinaryIO, lock: bytes) -> bool:
    """Whether somebody else holds a lock that this one can't be beside. Raises OSError."""
    held = fcntl.fcntl(file, fcntl.F_OFD_GETLK, lock)
    return bool(struct.unpack(_FLOCK, held)[0] != fcntl.F_UNLCK)
