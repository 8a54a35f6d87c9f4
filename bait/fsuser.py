"""Acting on files with another user's rights, in one thread of a process of root's."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_libc = ctypes.CDLL(None)
_ASK = 0xFFFFFFFF  # no number of a user: nothing is changed, and the present one told


@contextmanager
def with_rights_of(uid: int, gid: int) -> Iterator[None]:
    """Meet files in this thread as this user and group; what is made is theirs.

    By setfsuid(2), which is a thread's own and takes root's powers over files with it: whatever a
    path leads to by then, it leads no further than the user could go. Raises PermissionError.
    """
    before = _libc.setfsuid(_ASK), _libc.setfsgid(_ASK)
    try:
        _libc.setfsgid(gid)
        _libc.setfsuid(uid)
        if (_libc.setfsuid(_ASK), _libc.setfsgid(_ASK)) != (uid, gid):
            raise PermissionError(f"the rights of uid {uid} and gid {gid} can't be taken on")
        yield
    finally:
        _libc.setfsuid(before[0])
        _libc.setfsgid(before[1])
