"""Ceph's own programs, asked about one of its pools: rbd, rados and ceph.

Programs and not its library: a cluster that is away lets a call hang, and a program can be ended.
Their exit status is an errno. What they print as JSON is that of Ceph 16.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from wnodes_lrms.errors import AbsentError, ConflictError, UnknownError, WnodesError
from wnodes_lrms.run import Ended, call, told

_LOCK = "wnodes"
_ENOENT, _EBUSY, _EEXIST = 2, 16, 17
_NO_ANSWER = (108, 110)  # ESHUTDOWN: the cluster has shut this client out; ETIMEDOUT
_AWAY = ("error opening pool", "couldn't connect")
_FAILED = "the site's storage has failed"

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Image:
    """An image, or a snapshot of it, as it is listed."""

    name: str
    size: int  # bytes
    snapshot: str  # its name; "": this is the image itself


@dataclass(frozen=True)
class Ceph:
    """A pool of a cluster, as one user of Ceph's sees it."""

    conf: str
    user: str
    pool: str
    patience: float = 60.0  # seconds for an answer, of a cluster that is there

    def path(self, name: str) -> str:
        """An image of the pool, as rbd and QEMU are told of it."""
        return f"{self.pool}/{name}"

    def rbd(self, *words: str, deadline: float = 0.0) -> str:
        """What rbd says to a command about images of this pool, each given by its `path`.

        `deadline`: seconds for one that takes long.
        Raises AbsentError if there is no such image or snapshot, ConflictError if it is in use or
        there already, UnknownError if there is no answer (also of a program that was killed),
        WnodesError for any other failure.
        """
        argv = ["rbd", "--conf", self.conf, "--id", self.user, *words]
        ended = call(argv, deadline=deadline or self.patience)
        if ended.status == 0:
            return ended.output
        said = told("rbd", ended.errors.strip().replace("\n", "; "))
        if ended.status in _NO_ANSWER or _has_no_answer(ended):
            raise UnknownError(said, told=_FAILED)
        kinds = {_ENOENT: AbsentError, _EBUSY: ConflictError, _EEXIST: ConflictError}
        raise kinds.get(ended.status, WnodesError)(said, told=_FAILED)

    def ask(self, *words: str) -> Any:
        """The same for a question, whose answer is JSON; None for an empty one."""
        return _value(self.rbd(*words, "--format", "json"))

    def number(self, name: str) -> str:
        """What an image's objects have in their names. Raises AbsentError if there is none."""
        found = self.ask("info", name)
        return _read(lambda: str(found["id"]))

    def size(self, name: str) -> int:
        """Bytes of an image, whatever of them is written. Raises AbsentError if there is none."""
        found = self.ask("info", name)
        return _read(lambda: int(found["size"]))

    def watchers(self, name: str) -> int:
        """How many have an image open: QEMUs, also those that only read, and our own programs while
        they write. One that was killed is counted for 30 s more. Raises AbsentError."""
        found = self.ask("status", name)
        return _read(lambda: len(found["watchers"]))

    def metadata(self, name: str, key: str) -> str:
        """A word that is kept with an image; "" if there is none. Raises AbsentError."""
        found = self.ask("image-meta", "list", name) or {}
        return _read(lambda: str(found.get(key, "")))

    def snapshots(self, name: str) -> list[str]:
        """The names of an image's snapshots. Raises AbsentError if there is no such image."""
        found = self.ask("snap", "ls", name) or ()
        return _read(lambda: [str(each["name"]) for each in found])

    def images(self) -> list[Image]:
        """All images of the pool, and their snapshots."""
        found = self.ask("ls", "--long", self.pool) or ()
        return _read(
            lambda: [
                Image(each["image"], int(each["size"]), each.get("snapshot", "")) for each in found
            ]
        )

    def trash(self) -> dict[str, str]:
        """The names of the images that are in the pool's trash, by their numbers."""
        found = self.ask("trash", "ls", self.pool) or ()
        return _read(lambda: {str(each["id"]): str(each["name"]) for each in found})

    def room(self) -> tuple[int, int]:
        """Bytes that may be written into the pool, and those that its images take of it."""
        argv = ["ceph", "--conf", self.conf, "--id", self.user, "df", "--format", "json"]
        ended = call(argv, deadline=self.patience)
        if ended.status:
            raise UnknownError(told("ceph", ended.errors.strip()), told=_FAILED)
        found = _value(ended.output)
        pools = _read(lambda: {pool["name"]: pool["stats"] for pool in found["pools"]})
        if self.pool not in pools:
            raise UnknownError(f"ceph: there is no pool {self.pool}", told=_FAILED)
        mine = pools[self.pool]
        return _read(lambda: (int(mine["max_avail"]), int(mine["stored"])))

    def promised(self) -> int:
        """Bytes of all images' sizes, whatever of that is written."""
        found = self.ask("pool", "stats", self.pool)
        return _read(lambda: int(found["images"]["provisioned_bytes"]))

    def lock(self, thing: str, cookie: str, holder: str, seconds: int, *, shared: bool) -> bool:
        """Lock an object of the pool for so long; False if another lock is in the way. Several may
        have a shared one. `cookie` is of this lock alone."""
        what = ["--lock-type", "shared" if shared else "exclusive", "--lock-tag", _LOCK]
        what += ["--lock-cookie", cookie, "--lock-description", holder]
        argv = ["lock", "get", thing, _LOCK, *what, "--lock-duration", str(seconds)]
        return self._rados(argv) is not None

    def unlock(self, thing: str, ours: Callable[[str, str], bool]) -> int:
        """Drop the locks on an object that are ours, by cookie and holder; how many there were."""
        said = self._rados(["lock", "info", thing, _LOCK, "--format", "json"])
        answer = _value(said) if said else {"lockers": ()}
        found = _read(
            lambda: [
                (str(each["name"]), str(each["cookie"]))
                for each in answer["lockers"]
                if ours(each["cookie"], each["description"])
            ]
        )
        for name, cookie in found:
            which = ["--lock-cookie", cookie, "--lock-tag", _LOCK]
            self._rados(["lock", "break", thing, _LOCK, name, *which])
        return len(found)

    def _rados(self, words: list[str]) -> str | None:
        """What rados says; None if it is refused, as what is locked is not to be had."""
        argv = ["rados", "--conf", self.conf, "--id", self.user, "--pool", self.pool, *words]
        ended = call(argv, deadline=self.patience)
        if ended.status == 0:
            return ended.output
        refused = any(f"({number})" in ended.errors for number in (_EBUSY, _ENOENT))
        if refused and not _has_no_answer(ended):
            return None
        raise UnknownError(told("rados", ended.errors.strip()), told=_FAILED)


def _has_no_answer(ended: Ended) -> bool:
    """Whether a program was killed, or has not come as far as the pool."""
    return ended.status < 0 or any(word in ended.errors for word in _AWAY)


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise UnknownError(f"Ceph's answer is not JSON: {error}", told=_FAILED) from error


def _read(reading: Callable[[], _Read]) -> _Read:
    """What is read out of an answer. Raises UnknownError where that is not all there."""
    try:
        return reading()
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        said = f"Ceph's answer is not as expected: {type(error).__name__}: {error}"
        raise UnknownError(said, told=_FAILED) from error
