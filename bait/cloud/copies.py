"""Copies of volumes: each is a volume of its own, made by a thread of its own.

How a pool makes one is its affair: see bait/volumes/pool.py. What it is like follows from whether a
VM wrote on the volume at that moment, and from whether the guest's file systems stood still then.

Nothing of it is in the ledger: what a killed bait has not finished is begun anew when it is asked
for again, and until then there is no such volume.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bait.cloud.build import CloudBuilder
from bait.cloud.freezing import Freezer
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import RUNS
from bait.machine.hardware import Drive
from bait.machine.tasks import Tasks
from bait.volumes.pool import Pool
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError
from wnodes_lrms.model import State
from wnodes_lrms.volumes import Consistency, serial

_AT_ONCE = 4  # copies on a node
_MOMENT = 2.0  # seconds for a copy to be made while who asks waits
_AT_REST = (State.STOPPED, State.FAILED, State.HIBERNATED)

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Copy:
    """A copy that is being made, or has been."""

    size: int  # GiB
    consistency: Consistency
    at: float  # of which time it is, seconds since the epoch
    over: threading.Event = field(default_factory=threading.Event)
    fault: WnodesError | None = None


@dataclass(eq=False)
class Copies:
    """The copies that one node makes."""

    ledger: Ledger
    builder: CloudBuilder
    tasks: Tasks
    volumes: Pool
    freezer: Freezer
    _known: dict[str, _Copy] = field(init=False, default_factory=dict)  # by the new volume
    _guard: threading.Lock = field(init=False, default_factory=threading.Lock)

    def copy(self, source: str, volume: str) -> dict[str, Any]:
        """Have a volume that is a copy of another: begin, or tell how far it is.

        Of one that was there already nobody knows any more what it is like. Raises ConflictError
        where it can't be begun at this moment, RejectedError where there is no room, AbsentError
        where there is no such source.
        """
        with self._guard:
            copy = self._known.get(volume)
            if copy is None:
                there = self.volumes.list().get(volume)
                if there is not None:
                    return {"done": True, "size": there, "consistency": "", "at": 0.0}
                copy = self._known[volume] = self._begin(source, volume)
        copy.over.wait(_MOMENT)
        done = copy.over.is_set()
        if done:
            with self._guard:
                if self._known.get(volume) is copy:  # and not one that was begun after it
                    del self._known[volume]
            if copy.fault:
                raise copy.fault
        return {
            "done": done,
            "size": copy.size,
            "consistency": str(copy.consistency),
            "at": copy.at,
        }

    def _begin(self, source: str, volume: str) -> _Copy:
        self._drop_old()
        if sum(not copy.over.is_set() for copy in self._known.values()) >= _AT_ONCE:
            raise ConflictError(f"{_AT_ONCE} copies are being made on this node: ask again")
        size = self.volumes.size(source)
        writer = self._writer(source)
        quiet = writer is None or writer.state not in (*RUNS, State.HIBERNATED)
        found = Consistency.OFFLINE if quiet else Consistency.CRASH
        copy = _Copy(size, found, time.time())
        work = threading.Thread(
            target=self._work, args=(copy, source, volume, writer), name="copy", daemon=True
        )
        work.start()
        return copy

    def _drop_old(self) -> None:
        """Forget what nobody has asked for again."""
        for volume, copy in list(self._known.items()):
            if copy.over.is_set() and time.time() - copy.at > 86400:
                del self._known[volume]

    def _writer(self, source: str) -> Row | None:
        """The VM of this node that writes on it, or will when it starts.

        Raises ConflictError while that is on its way from the one to the other.
        """
        for machine, given in self.ledger.holders(source).items():
            row = self.ledger.get(machine)
            if row and not given.readonly:
                if row.state not in (*RUNS, *_AT_REST):
                    raise ConflictError(f"the VM that has the volume is {row.state}: ask again")
                return row
        return None

    def _work(self, copy: _Copy, source: str, volume: str, writer: Row | None) -> None:
        copy.fault = UnknownError(f"the copy {volume} of volume {source} was not finished")
        try:
            if writer and writer.state in RUNS:
                self._of_running(copy, source, volume, writer)
            else:
                self.volumes.copy(source, volume, self._at_rest(copy, source))
            copy.fault = None
            log.info("volume %s is a copy of %s (%s)", volume, source, copy.consistency)
        except OSError as error:
            copy.fault = WnodesError(f"volume {volume} can't be written: {error.strerror}")
        except WnodesError as error:
            copy.fault = error
        finally:
            copy.over.set()
            self.tasks.tell()

    def _of_running(self, copy: _Copy, source: str, volume: str, row: Row) -> None:
        given = self.ledger.attached(row.id).get(source)
        drive = Drive(Path(), given.device if given else "", serial(source))
        if not (given and self.builder.has(row.id, drive)):
            raise ConflictError("the VM does not have the volume yet: ask again")
        moment = self.freezer.moment(row.id)
        self.volumes.copy(
            source, volume, moment, lambda target: self.builder.copy(drive, target, moment)
        )
        copy.at, copy.consistency = moment.at, moment.consistency

    @contextmanager
    def _at_rest(self, copy: _Copy, source: str) -> Iterator[None]:
        """The moment of a copy of a volume that no VM of this node writes on. Raises ConflictError
        where one does."""
        writer = self._writer(source)
        if writer and writer.state in RUNS:
            raise ConflictError("the VM that has the volume has just started: ask again")
        copy.at = time.time()
        yield
