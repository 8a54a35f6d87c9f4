"""What a job's starter hears of its VM, from its first question until it can log in."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bait.batch.controller import BatchController
from bait.ledger.records import Row
from bait.machine.calls import Call
from bait.machine.files import paths
from bait.machine.seed import SCRATCH
from wnodes_lrms.errors import NotListedError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.images import catalogue
from wnodes_lrms.log import ids
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Kind, State

_SURE = 20.0  # seconds for which the LRMS must not list a job, before that is an answer
_NEWS = 5.0  # seconds after which a waiting starter hears that the bait lives
_LOOK = 1.0  # seconds between two looks where there is no news

_NONE = "the job asks for no VM, or has ended"
_OVER = (State.FAILED, State.ENDING)

log = logging.getLogger(__name__)


def attach(batch: BatchController, job: JobId, uid: int, pid: int = 0) -> Iterator[dict[str, Any]]:
    """What a starter, this process, hears until its VM is ready or has failed.

    A job that no prolog announced (the bait was away) gets its VM now, also if there is one left of
    an earlier run: all that counts is read from the LRMS. Raises RejectedError to anybody but the
    job's owner, NotListedError if the LRMS goes on not listing the job.
    """
    with batch.tasks.calls.of(job) as call:
        yield from _news(batch, job, uid, pid, call)


def _news(
    batch: BatchController, job: JobId, uid: int, pid: int, call: Call
) -> Iterator[dict[str, Any]]:
    told, asked, said = time.monotonic(), False, ""
    deadline = told + batch.config.machine.ready_timeout
    missed: float | None = None  # since when the LRMS has not listed it
    while True:
        row = _last_row(batch, job)
        if not asked and not call.over and (row is None or row.state in _OVER):
            try:
                _have_begun(batch, job, uid, row, call)
                asked = True
            except UnknownError as error:
                # To end now would make the job use up its tries while the LRMS is away.
                now = time.monotonic()
                missed = (missed or now) if isinstance(error, NotListedError) else None
                if now > deadline or (missed and now - missed > _SURE):
                    raise
                if str(error) != said:
                    said = str(error)
                    log.warning("its starter waits: %s", said, extra=ids(job))
                yield {"state": State.REQUESTED, "waits": error.words(job)}
                _wait_for_news(batch)
            continue
        if row is None:
            yield {"state": "failed", "message": _NONE, "retry": False}
            return
        if row.uid not in (None, uid):
            raise RejectedError(f"job {job} is not yours")
        if row.uid is not None:
            batch.tasks.heard.note(job, pid)
        if row.state is State.FAILED:
            yield {"state": "failed", "message": row.reason, "retry": row.retry}
            return
        if row.uid is not None and row.state is State.READY:
            yield _handover(batch, row)
            return
        if time.monotonic() - told > _NEWS:
            told = time.monotonic()
            yield {"state": str(row.state), "waits": row.reason}
        _wait_for_news(batch)


def _last_row(batch: BatchController, job: JobId) -> Row | None:
    rows = [row for row in batch.ledger.rows(job) if row.kind is Kind.BATCH]
    return rows[-1] if rows else None


def _wait_for_news(batch: BatchController) -> None:
    with batch.tasks.news:
        batch.tasks.news.wait(_LOOK)


def _have_begun(batch: BatchController, job: JobId, uid: int, last: Row | None, call: Call) -> None:
    """Begin the VM of this run of the job, if it wants one, unless its last one is of this very
    run."""
    try:
        allocation = batch.jobs.granted(job, uid)
    except UnknownError:
        if last is None:
            raise
        return
    if allocation.tag and (last is None or allocation.restart > last.restart):
        batch.begin(job, allocation.restart, call)


def _handover(batch: BatchController, row: Row) -> dict[str, Any]:
    """All that the starter needs to log in. Raises WnodesError if the key is lost."""
    config = batch.config
    image = catalogue.read(Path(config.images.catalogue), row.tag)
    where = paths(config, row.id)
    try:
        key, known_hosts = where.key.read_text(), where.known_hosts.read_text()
    except OSError as error:
        raise WnodesError(f"the VM's key is lost: {error}") from error
    return {
        "state": "ready",
        "machine": row.id,
        "image": row.tag,
        "address": row.address,
        "key": key,
        "known_hosts": known_hosts,
        "shares": list(config.share.directories if image.trusted else ()),
        "scratch": SCRATCH if where.scratch.exists() else "",
        "shutdown": batch.drain.by(),
        "cores": row.cores,
        "memory": row.memory,
    }
