"""Ceph's own programs, asked about one of its pools: rbd, rados and ceph.

Programs and not its library: a cluster that is away lets a call hang, and a program can be ended.
Their exit status is an errno. What they print as JSON is that of Ceph 16.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wnodes_lrms.errors import AbsentError, ConflictError, UnknownError, WnodesError
from wnodes_lrms.run import call, told

_LOCK = "wnodes"
_ENOENT, _EBUSY, _EEXIST = 2, 16, 17
_FAILED = "the site's storage has failed"


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
        there already, UnknownError if there is no answer, WnodesError for any other failure.
        """
        argv = ["rbd", "--conf", self.conf, "--id", self.user, *words]
        ended = call(argv, deadline=deadline or self.patience)
        if ended.status == 0:
            return ended.output
        said = told("rbd", ended.errors.strip().replace("\n", "; "))
        if "error opening pool" in ended.errors or "couldn't connect" in ended.errors:
            raise UnknownError(said, told=_FAILED)
        kinds = {_ENOENT: AbsentError, _EBUSY: ConflictError, _EEXIST: ConflictError}
        raise kinds.get(ended.status, WnodesError)(said, told=_FAILED)

    def ask(self, *words: str) -> Any:
        """The same for a question, whose answer is JSON; None for an empty one."""
        return _value(self.rbd(*words, "--format", "json"))

    def image(self, name: str) -> dict[str, Any]:
        """An image's `id` and `size` (bytes), and more. Raises AbsentError if there is none."""
        return dict(self.ask("info", name))

    def watchers(self, name: str) -> int:
        """How many have an image open: QEMUs, also those that only read, and our own programs while
        they write. One that was killed is counted for 30 s more. Raises AbsentError."""
        return len(self.ask("status", name)["watchers"])

    def room(self) -> tuple[int, int]:
        """Bytes that may be written into the pool, and those that its images take of it."""
        argv = ["ceph", "--conf", self.conf, "--id", self.user, "df", "--format", "json"]
        ended = call(argv, deadline=self.patience)
        if ended.status:
            raise UnknownError(told("ceph", ended.errors.strip()), told=_FAILED)
        pools = {pool["name"]: pool["stats"] for pool in _value(ended.output)["pools"]}
        if self.pool not in pools:
            raise UnknownError(f"ceph: there is no pool {self.pool}", told=_FAILED)
        return int(pools[self.pool]["max_avail"]), int(pools[self.pool]["stored"])

    def promised(self) -> int:
        """Bytes of all images' sizes, whatever of that is written."""
        return int(self.ask("pool", "stats", self.pool)["images"]["provisioned_bytes"])

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
        lockers = _value(said)["lockers"] if said else ()
        found = [each for each in lockers if ours(each["cookie"], each["description"])]
        for each in found:
            which = ["--lock-cookie", each["cookie"], "--lock-tag", _LOCK]
            self._rados(["lock", "break", thing, _LOCK, each["name"], *which])
        return len(found)

    def _rados(self, words: list[str]) -> str | None:
        """What rados says; None if it is refused, as what is locked is not to be had."""
        argv = ["rados", "--conf", self.conf, "--id", self.user, "--pool", self.pool, *words]
        ended = call(argv, deadline=self.patience)
        if ended.status == 0:
            return ended.output
        if f"({_EBUSY})" in ended.errors or f"({_ENOENT})" in ended.errors:
            return None
        raise UnknownError(told("rados", ended.errors.strip()), told=_FAILED)


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise UnknownError(f"Ceph's answer is not JSON: {error}", told=_FAILED) from error
