"""Tries a job again, or holds it, for a starter whose batch system does not let the owner do that.

Some batch systems let operators alone rerun a job. The bait's root can be one, and asks in the
owner's stead; how often, and whether at all, it decides from its own ledger and from what the LRMS
says, never from what it is told.
"""

import logging
from collections.abc import Iterator
from typing import Any

from bait.batch.controller import BatchController
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.lrms.interface import Reruns
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Kind, State

log = logging.getLogger(__name__)


def again(batch: BatchController, job: JobId, uid: int) -> Iterator[dict[str, Any]]:
    """Have a job whose VM has failed run again, or wait; each step is told.

    What is asked for is told before it is, because the caller is ended by it; what was decided,
    once the LRMS has agreed. Raises RejectedError where that is not for this caller to ask, the
    VM of this run has not failed, or no other try can help; UnknownError where the LRMS does
    not answer, or refuses.
    """
    lrms = batch.lrms
    if not isinstance(lrms, Reruns):
        raise RejectedError("jobs are tried again by their owners here, not by the bait")
    granted = batch.jobs.granted(job, uid)
    rows = [row for row in batch.ledger.rows(job) if row.kind is Kind.BATCH]
    failed = [row for row in rows if row.restart == granted.restart and row.state is State.FAILED]
    if not failed:
        raise RejectedError(f"the VM of job {job} has not failed")
    reason = failed[0].reason
    if not failed[0].retry:
        raise RejectedError(reason)
    if once := lrms.runs_once(job):
        raise RejectedError(once)
    tries, most = granted.restart + 1, batch.config.retries + 1
    once_more = tries < most
    asked = f"another run: try {tries + 1} of {most}" if once_more else "a hold"
    decided = (
        f"requeued: try {tries + 1} of {most}"
        if once_more
        else "held: an operator releases it when the cause is mended"
    )

    def told(what: str) -> dict[str, Any]:
        batch.ledger.record(job, failed[0].id, what)
        return {"act": what}

    yield told(f"asks the batch system for {asked}")
    try:
        if once_more:
            lrms.requeue(job)
        else:
            lrms.hold(job, reason)
    except WnodesError as error:
        batch.ledger.record(job, failed[0].id, f"not tried again: {error.words(job)}")
        raise
    yield told(decided)
