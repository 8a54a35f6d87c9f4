"""Gives up what a process does not need: user, privileges, files, other processes, the network.

What the bridge's own user owns, its keys and its database, is kept from a process of the same user
by Landlock (Linux 5.13 on; landlock(7)). On a kernel without it the rest still holds.
"""

import ctypes
import os
import pwd
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_NO_NEW_PRIVILEGES, _DUMPABLE = 38, 4  # prctl(2)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_ASK_VERSION, _PATH_BENEATH = 1, 1
_READ = 0b1101  # execute, read files, read folders
# How many kinds of access to files each version of Landlock knows.
_KINDS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET, _SCOPE = 0b11, 0b11  # no TCP either way (from version 4); no signals, no abstract sockets (6)
_PROGRAM = ("/usr", "/lib", "/lib64", "/etc/ssl")

_libc = ctypes.CDLL(None, use_errno=True)


def become_nobody() -> None:
    """Be the user nobody, for ever, if this process may choose."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _libc.prctl(_DUMPABLE, 0, 0, 0, 0)
    os.chdir("/")


def limit(memory: int) -> None:
    """No writing of files, no new processes, and no more than so many bytes of addresses."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


def read_only(folders: Iterable[str]) -> None:
    """Nothing but reading these folders, what links in them lead to, and programs' own files.

    After `become_nobody`. A link that is made later may lead to where nothing can be read.
    """
    version = _libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 1:
        return
    handled = (1 << _KINDS.get(version, 16)) - 1
    parts = [handled, *([_NET] if version >= 4 else []), *([_SCOPE] if version >= 6 else [])]
    attributes = struct.pack(f"{len(parts)}Q", *parts)
    rules = _checked(_libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    for place in {*_PROGRAM, *sys.path, *_places(folders)}:
        try:
            opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rule = struct.pack("=Qi", _READ & handled, opened)
        _checked(_libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0))
        os.close(opened)
    _checked(_libc.syscall(_RESTRICT_SELF, rules, 0))
    os.close(rules)


def _places(folders: Iterable[str]) -> set[str]:
    found = set()
    for folder in folders:
        found.add(folder)
        links = (path for path in Path(folder).rglob("*") if path.is_symlink())
        found |= {str(link.resolve().parent) for link in links}
    return found


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
