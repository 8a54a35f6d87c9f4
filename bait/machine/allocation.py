"""Asks the batch system what a job was granted, and again for a while if there is no answer."""

import threading

from wnodes_lrms.errors import CancelledError, UnknownError
from wnodes_lrms.lrms.interface import Lrms
from wnodes_lrms.model import Allocation

_ASK_AGAIN = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between questions to an LRMS that is away


def ask_allocation(lrms: Lrms, job: str, cancelled: threading.Event) -> Allocation:
    """What the job was granted, asked again for a while if there is no answer.

    Raises UnknownError if there is none at last, CancelledError if it is no longer wanted,
    RejectedError if that is the name of no job: the ledger may be of an earlier release.
    """
    number = lrms.job_id(job)
    for pause in (*_ASK_AGAIN, None):
        try:
            return lrms.allocation(number)
        except UnknownError:
            if pause is None:
                raise
            if cancelled.wait(pause):
                break
    raise CancelledError("cancelled")
