"""How many connections each user may have to the control socket, and all users together."""

import pwd
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SUBUIDS = Path("/etc/subuid")
_MOST = (
    4608  # connections at once; one that waits costs a descriptor, one that is answered a thread
)
_EACH = 512  # of one user: all of a node's jobs may be theirs


def limits_for(descriptors: int) -> "ConnectionLimits":
    """The limits for a process that can have so many descriptors open."""
    total = min(_MOST, descriptors // 2)
    reserve = total // 9
    return ConnectionLimits(total - reserve, reserve, min(_EACH, (total - reserve) // 2))


class ConnectionLimits:
    """Counts each user's connections, and refuses too many. Safe to use from many threads.

    `most` are there for all users; root, who is hooks and administrators, has `reserve` more. Of
    the `most`, one user can have `each`.
    """

    def __init__(self, most: int, reserve: int, each: int) -> None:
        self._most = most
        self._reserve = reserve
        self._each = each
        self._guard = threading.Lock()
        self._held: Counter[int] = Counter()

    def take(self, uid: int) -> bool:
        """Count one more connection; False, and not counted, if this user has too many."""
        with self._guard:
            users = self._held.total() - self._held[0]
            if uid == 0:
                free = self._held.total() < self._most + self._reserve
            else:
                free = users < self._most and self._held[uid] < self._each
            self._held[uid] += free
            return free

    def leave(self, uid: int) -> None:
        """The connection is over."""
        with self._guard:
            self._held[uid] -= 1
            if not self._held[uid]:
                del self._held[uid]

    def held(self, uid: int) -> int:
        """The user's connections."""
        with self._guard:
            return self._held[uid]


class Owners:
    """Finds the owner of a uid: a user namespace gives its maker many, which subuid(5) lists.

    What only a directory service knows, or a tool like sssd, is not looked at: then each uid counts
    by itself, and `most` holds.
    """

    def __init__(self, file: Path = SUBUIDS) -> None:
        self._file = file
        self._stamp: object = None
        self._ranges: list[tuple[range, int]] = []

    def of(self, uid: int) -> int:
        """The uid of the account that has this one; itself if it is nobody's subordinate."""
        try:
            status = self._file.stat()
            stamp: object = (status.st_mtime_ns, status.st_ino, status.st_size)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._stamp = stamp
            self._ranges = list(_ranges(self._file))
        return next((owner for each, owner in self._ranges if uid in each), uid)


def _ranges(file: Path) -> Iterator[tuple[range, int]]:
    """Lines `owner:first:count`, the owner a name or a number; others say nothing."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        owner, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        try:
            uid = int(owner) if owner.isdecimal() else pwd.getpwnam(owner).pw_uid
            # Root's own are containers: they get nothing of what root has, and count together.
            yield range(int(first), int(first) + int(count)), uid or int(first)
        except (KeyError, ValueError):
            continue
