"""What a bait asks the batch system, and how patiently."""

import threading
from typing import Protocol

from wnodes_lrms.errors import CancelledError, UnknownError
from wnodes_lrms.model import Allocation

_ASK_AGAIN = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between questions to an LRMS that is away


class Lrms(Protocol):
    """The batch system of this node. All raise UnknownError if it does not answer."""

    def allocation(self, job: str) -> Allocation:
        """What the job was granted on this node."""

    def live_jobs(self) -> set[str]:
        """The jobs that hold an allocation on this node."""

    def drain(self, reason: str) -> str:
        """Have it send no more jobs here; asked again, success.

        The reason of a drain that somebody else has set, which stays; empty if there is none.
        """

    def resume(self) -> str:
        """Have it send jobs here again, if it was a bait that has drained the node.

        The reason of a drain that somebody else has set, which stays; empty if there is none.
        """


def ask_allocation(lrms: Lrms, job: str, cancelled: threading.Event) -> Allocation:
    """What the job was granted, asked again for a while if there is no answer.

    Raises UnknownError if there is none at last, CancelledError if it is no longer wanted.
    """
    for pause in (*_ASK_AGAIN, None):
        try:
            return lrms.allocation(job)
        except UnknownError:
            if pause is None:
                raise
            if cancelled.wait(pause):
                break
    raise CancelledError("cancelled")
