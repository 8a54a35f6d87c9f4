"""Acting on files with another user's rights, in one thread of a process of root's."""

import ctypes
import os
import platform
import pwd
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_libc = ctypes.CDLL(None)
_ASK = 0xFFFFFFFF  # no number of a user: nothing is changed, and the present one told
# setgroups(2) itself is a thread's own; that of the C library is for all threads of a process.
_SETGROUPS = {"x86_64": 116, "aarch64": 159}


@contextmanager
def with_rights_of(uid: int, gid: int) -> Iterator[None]:
    """Meet files in this thread as this user and group; what is made is theirs.

    By setfsuid(2), which is a thread's own and takes root's powers over files with it: whatever a
    path leads to by then, it leads no further than the user could go. Root's groups, which that
    leaves, give way to the user's. Raises PermissionError.
    """
    before, groups = (_libc.setfsuid(_ASK), _libc.setfsgid(_ASK)), os.getgroups()
    other = uid != before[0]
    try:
        _libc.setfsgid(gid)
        if other and not _set_groups(_groups(uid, gid)):
            raise PermissionError(f"the groups of uid {uid} can't be taken on")
        _libc.setfsuid(uid)
        if (_libc.setfsuid(_ASK), _libc.setfsgid(_ASK)) != (uid, gid):
            raise PermissionError(f"the rights of uid {uid} and gid {gid} can't be taken on")
        yield
    finally:
        _libc.setfsuid(before[0])
        if other:
            _set_groups(groups)
        _libc.setfsgid(before[1])


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:  # a folder may belong to a number that the node has no name for
        return [gid]


def _set_groups(groups: Sequence[int]) -> bool:
    number = _SETGROUPS.get(platform.machine())
    packed = struct.pack(f"{len(groups)}I", *groups)
    return number is not None and _libc.syscall(number, len(groups), packed) == 0
