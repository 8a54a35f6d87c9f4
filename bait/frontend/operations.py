"""What may be asked of a bait on its control socket: one table, with who may ask for what.

An operation's function yields the lines of its answer; the last one has "end": true. Where an
owner may ask, it is the function that looks whose the job is.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from time import time
from typing import Any
from uuid import UUID

from bait.accounting.publishing import publish
from bait.batch.attach import attach
from bait.batch.controller import BatchController
from bait.cloud.controller import CloudController
from bait.frontend.retry import again
from bait.ledger.records import Row
from bait.reconcile.explain import Rules, why
from bait.reconcile.reconciler import Reconciler
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.order import lease_named_in

_LAST = 253402300799  # seconds since the epoch: the last that has a date, with four digits
_MOST_RUNS = 1 << 32  # an adapter may count runs by when they began, in seconds

Request = dict[str, Any]
Answer = dict[str, Any]

DONE: Answer = {"ok": True, "end": True}


@dataclass(frozen=True)
class Parts:
    """What the operations work on."""

    reconciler: Reconciler
    batch: BatchController
    cloud: CloudController


@dataclass(frozen=True)
class Caller:
    """Who asks, as the kernel says."""

    pid: int
    uid: int


class Who(StrEnum):
    """Who may ask for an operation."""

    OWNER = "the job's owner"  # a starter, or a lease job's process
    ROOT = "root"  # the LRMS's hooks, and administrators


@dataclass(frozen=True)
class Operation:
    """One row of the table."""

    who: Who
    answers: Callable[[Parts, Request, Caller], Iterator[Answer]]


def text(request: Request, key: str) -> str:
    """A short text of the request. Raises RejectedError if there is none."""
    value = request.get(key)
    if not isinstance(value, str) or not value or len(value) > 200 or not value.isprintable():
        raise RejectedError(f"{key}: a short text is needed")
    return value


def job(batch: BatchController, request: Request) -> JobId:
    """The job that the request is about. Raises RejectedError if it names none."""
    return batch.lrms.job_id(text(request, "job"))


def _seconds(request: Request, key: str) -> float | None:
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or not abs(value) <= _LAST:
        raise RejectedError(f"{key}: seconds since the epoch are needed, before the year 10000")
    return value


def _lease_of(request: Request) -> str:
    """The lease that a lease job's process names. Raises RejectedError if that can't be one."""
    token = request.get("token")
    if isinstance(token, str):  # of 0.4: it runs for as long as its lease
        return lease_named_in(token)
    try:
        return str(UUID(text(request, "lease")))
    except ValueError:
        raise RejectedError("lease: a UUID is needed") from None


def _attach(parts: Parts, request: Request, by: Caller) -> Iterator[Answer]:
    yield from attach(parts.batch, job(parts.batch, request), by.uid, by.pid)
    yield DONE


def _again(parts: Parts, request: Request, by: Caller) -> Iterator[Answer]:
    yield from again(parts.batch, job(parts.batch, request), by.uid)
    yield DONE


def _lease(parts: Parts, request: Request, by: Caller) -> Iterator[Answer]:
    lease, of = _lease_of(request), job(parts.batch, request)
    yield from parts.cloud.jobs.attend(lease, of, by.uid, by.pid)


def _lease_ending(parts: Parts, request: Request, by: Caller) -> Iterator[Answer]:
    parts.cloud.jobs.ending(job(parts.batch, request), by.uid)
    yield DONE


def _prepare(_reconciler: Reconciler, batch: BatchController, request: Request) -> Answer:
    restart = request.get("restart")
    if restart is None:
        batch.announce(job(batch, request))
    elif isinstance(restart, int) and 0 <= restart < _MOST_RUNS:
        batch.prepare(job(batch, request), restart)
    else:
        raise RejectedError("restart: a whole number is needed")
    return {}


def _release(reconciler: Reconciler, batch: BatchController, request: Request) -> Answer:
    failed = reconciler.release(job(batch, request))
    return {"failed": failed.reason, "retry": failed.retry} if failed else {}


def _destroy(reconciler: Reconciler, _batch: BatchController, request: Request) -> Answer:
    reconciler.end(text(request, "machine"))
    return {}


def _machines(reconciler: Reconciler, _batch: BatchController, _request: Request) -> Answer:
    return {"machines": [_listed(row) for row in reconciler.ledger.rows()]}


def _listed(row: Row) -> Answer:
    """A row without its user's data: there are passwords in it, and listings are passed on."""
    order = json.loads(row.spec or "{}")
    order.pop("user_data", None)
    return asdict(row) | {"spec": json.dumps(order) if order else ""}


def _events(reconciler: Reconciler, _batch: BatchController, request: Request) -> Answer:
    return {"events": [asdict(event) for event in reconciler.ledger.events(text(request, "job"))]}


def _gc(reconciler: Reconciler, _batch: BatchController, request: Request) -> Answer:
    lines = reconciler.look() if request.get("dry") else reconciler.reconcile()
    return {"plan": [asdict(line) for line in lines]}


def _why(reconciler: Reconciler, _batch: BatchController, request: Request) -> Answer:
    drain = reconciler.drain
    config = reconciler.config
    after_failure = SYSTEMS[config.lrms].after_failure
    rules = Rules(reconciler.notice, config.retries, drain.refusal(), drain.by(), after_failure)
    return {"why": why(reconciler.ledger, text(request, "name"), time(), rules)}


def _usages(reconciler: Reconciler, _batch: BatchController, request: Request) -> Answer:
    since = _seconds(request, "since") or 0.0
    return {"usages": [asdict(usage) for usage in reconciler.ledger.usages(since=since)]}


def _publish(reconciler: Reconciler, _batch: BatchController, _request: Request) -> Answer:
    return {"messages": publish(reconciler.ledger, reconciler.config, reconciler.vms.node)}


def _drain(reconciler: Reconciler, _batch: BatchController, request: Request) -> Answer:
    reconciler.drain.begin(_seconds(request, "by"), text(request, "reason"))
    return {}


def _resume(reconciler: Reconciler, _batch: BatchController, _request: Request) -> Answer:
    reconciler.drain.resume()
    return {}


def _host(reconciler: Reconciler, _batch: BatchController, _request: Request) -> Answer:
    return {"host": reconciler.drain.shown()}


def _ping(_reconciler: Reconciler, _batch: BatchController, _request: Request) -> Answer:
    return {}


def _of_root(answer: Callable[[Reconciler, BatchController, Request], Answer]) -> Operation:
    """A row for root alone, whose answer is one line."""

    def lines(parts: Parts, request: Request, _by: Caller) -> Iterator[Answer]:
        yield answer(parts.reconciler, parts.batch, request) | DONE

    return Operation(Who.ROOT, lines)


OPERATIONS = {
    "attach": Operation(Who.OWNER, _attach),
    "again": Operation(Who.OWNER, _again),
    "lease": Operation(Who.OWNER, _lease),
    "lease-ending": Operation(Who.OWNER, _lease_ending),
    "prepare": _of_root(_prepare),
    "release": _of_root(_release),
    "destroy": _of_root(_destroy),
    "machines": _of_root(_machines),
    "events": _of_root(_events),
    "gc": _of_root(_gc),
    "why": _of_root(_why),
    "usages": _of_root(_usages),
    "publish": _of_root(_publish),
    "drain": _of_root(_drain),
    "resume": _of_root(_resume),
    "host": _of_root(_host),
    "ping": _of_root(_ping),
}
