"""What was deleted in a pool of Ceph's: its images are in the pool's trash until each is removed,
piece by piece, which may take an hour."""

import logging
import re
import threading

from bait.cloud.ceph import Ceph
from wnodes_lrms.errors import AbsentError, WnodesError

_REMOVING = 3600.0  # seconds for an image

log = logging.getLogger(__name__)


def discard(ceph: Ceph, name: str) -> None:
    """Put an image into the trash, with nothing that would keep it there."""
    ceph.rbd("snap", "purge", "--no-progress", name)
    ceph.rbd("trash", "mv", name)


class Emptier:
    """Empties the trash, in one thread at a time, however often it is asked to."""

    def __init__(self, ours: re.Pattern[str]) -> None:
        """`ours` are the names of images that are to be removed."""
        self._ours = ours
        self._guard = threading.Lock()
        self._at_it = False  # somebody empties it
        self._asked = False  # since they have looked

    def begin(self, ceph: Ceph) -> None:
        """Empty it in a thread of its own."""
        threading.Thread(target=self.empty, args=(ceph,), daemon=True).start()

    def empty(self, ceph: Ceph) -> None:
        """Remove what is ours. What can't be is logged, and stays for the next time."""
        with self._guard:
            self._asked = True
            if self._at_it:
                return  # that one looks once more
            self._at_it = True
        while self._has_more():
            try:
                for number, name in ceph.trash().items():
                    if self._ours.fullmatch(name):
                        _remove(ceph, name, number)
            except WnodesError as error:
                log.warning("volumes that were deleted keep their room for now: %s", error)

    def _has_more(self) -> bool:
        with self._guard:
            self._at_it, self._asked = self._asked, False
            return self._at_it


def _remove(ceph: Ceph, name: str, number: str) -> None:
    try:
        ceph.rbd("trash", "rm", "--no-progress", ceph.path(number), deadline=_REMOVING)
        log.info("volume %s is removed", name)
    except AbsentError:
        pass  # somebody else has
    except WnodesError as error:
        log.warning("volume %s is not removed yet: %s", name, error)
