"""A marker for each job that has to do with a VM: an empty file, named by the job.

For batch systems whose hooks must know by one comparison whether a job concerns the bait, and are
not told: see `System.markers`.
"""

import contextlib
import logging
from pathlib import Path

from bait.ledger.records import Moved
from bait.ledger.states import AT_REST
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.log import ids
from wnodes_lrms.model import Kind, State

log = logging.getLogger(__name__)


def keep(folder: Path, moved: Moved) -> None:
    """Make the marker when a VM is promised to a job, and take it away when it has gone."""
    if not moved.job or "/" in moved.job:
        return
    marker = folder / moved.job
    try:
        if moved.new is State.REQUESTED:
            have(folder, PASSED)
            marker.touch()
        elif moved.new is None or (moved.kind is Kind.CLOUD and moved.new in AT_REST):
            with contextlib.suppress(FileNotFoundError):
                marker.unlink()
    except OSError as error:  # then the plan ends the VM, a minute after the job
        log.warning("mark: %s", error, extra=ids(moved.job, moved.machine))
