"""What was deleted in a pool of Ceph's: its images are in the pool's trash until each is removed,
piece by piece, which may take an hour."""

import logging
import re

from bait.cloud.ceph import Ceph
from wnodes_lrms.errors import AbsentError, WnodesError

_REMOVING = 3600.0  # seconds for an image

log = logging.getLogger(__name__)


def discard(ceph: Ceph, name: str) -> None:
    """Put an image into the trash, with nothing that would keep it there."""
    ceph.rbd("snap", "purge", "--no-progress", name)
    ceph.rbd("trash", "mv", name)


def empty(ceph: Ceph, ours: re.Pattern[str]) -> None:
    """Remove the images whose names are `ours`. What can't be removed now is logged, and stays."""
    try:
        for number, name in ceph.trash().items():
            if ours.fullmatch(name):
                _remove(ceph, name, number)
    except WnodesError as error:
        log.warning("volumes that were deleted keep their room for now: %s", error)


def _remove(ceph: Ceph, name: str, number: str) -> None:
    try:
        ceph.rbd("trash", "rm", "--no-progress", ceph.path(number), deadline=_REMOVING)
        log.info("volume %s is removed", name)
    except AbsentError:
        pass  # somebody else has
    except WnodesError as error:
        log.warning("volume %s is not removed yet: %s", name, error)
