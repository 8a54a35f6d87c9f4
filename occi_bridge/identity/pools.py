"""Pool accounts in a gridmapdir, as other grid services keep them (A. McNab's convention).

The folder has an empty file for each account, `atlas001`. An account is given to a user by a hard
link to its file whose name is the user's DN, in lower case, every other character as %xx; where
the VO's attributes gave the pool, `:pool` follows. A token's subject is no DN: two people's may
differ in case alone, so its capitals are written as %xx too. It is theirs until an administrator
removes the link, of whose last use the file's time tells.
"""

import fcntl
import os
import re
import string
from pathlib import Path

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.tls import oneline

_PLAIN = frozenset(string.ascii_letters + string.digits)
_SMALL = frozenset(string.ascii_lowercase + string.digits)
_LONGEST = 255  # bytes of a file's name


def link_name(dn: str, suffix: str = "") -> str:
    """The name of the user's link."""
    plain = _SMALL if dn.startswith("https://") else _PLAIN
    encoded = "".join(
        c.lower() if c in plain else f"%{byte:02x}" for c in dn for byte in c.encode()
    )
    return f"{encoded}:{suffix}" if suffix else encoded


def account(folder: str, pool: str, dn: str, *, by_vo: bool) -> str:
    """The user's account of a pool, such as atlas007 of «atlas»: the one they have, or a free one.

    Raises RejectedError where none is free, UnknownError where the folder can't be used. Other
    programs may give accounts out at the same time.
    """
    place = Path(folder)
    suffix = pool if by_vo else ""
    # Other programs may have named the link by the name's characters, not by our escapes.
    links = [place / link_name(name, suffix) for name in (dn, oneline.text(dn))]
    if any(len(link.name) > _LONGEST for link in links):
        raise RejectedError(f"the name is too long for an account of the pool {pool}: map it alone")
    try:
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # between processes of ours
            members = _members(place, pool)
            held = (_held(link, members) for link in links)
            return next(filter(None, held), None) or _take(links[0], members, pool)
        finally:
            os.close(lock)
    except OSError as error:
        told = "the service's pool accounts can't be looked at now"
        raise UnknownError(f"pool accounts in {folder}: {error.strerror}", told=told) from error


def _members(place: Path, pool: str) -> list[Path]:
    pattern = re.compile(re.escape(pool) + r"[0-9]+")
    return sorted(path for path in place.iterdir() if pattern.fullmatch(path.name))


def _held(link: Path, members: list[Path]) -> str | None:
    try:
        inode = link.stat().st_ino
    except FileNotFoundError:
        return None
    for member in members:
        if member.stat().st_ino == inode:
            os.utime(link)
            return member.name
    raise RejectedError(f"{link} is a link to no account of this pool")


def _take(link: Path, members: list[Path], pool: str) -> str:
    for member in members:
        if member.stat().st_nlink > 1:
            continue
        os.link(member, link)
        if member.stat().st_nlink == 2:  # the account's name and this user's: nobody was faster
            os.utime(link)
            return member.name
        link.unlink()
    raise RejectedError(f"no account of the pool {pool} is free")
