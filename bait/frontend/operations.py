"""What root may ask of a bait on its control socket: a function for each operation."""

import json
from collections.abc import Callable
from dataclasses import asdict
from time import time
from typing import Any

from bait.accounting.publishing import publish
from bait.batch.controller import Engine
from bait.ledger.records import Row
from bait.reconcile.explain import Rules, why
from bait.reconcile.reconciler import Node
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.systems import SYSTEMS

_LAST = 253402300799  # seconds since the epoch: the last that has a date, with four digits
_MOST_RUNS = 1 << 32  # an adapter may count runs by when they began, in seconds

Request = dict[str, Any]
Answer = dict[str, Any]


def text(request: Request, key: str) -> str:
    """A short text of the request. Raises RejectedError if there is none."""
    value = request.get(key)
    if not isinstance(value, str) or not value or len(value) > 200 or not value.isprintable():
        raise RejectedError(f"{key}: a short text is needed")
    return value


def job(engine: Engine, request: Request) -> JobId:
    """The job that the request is about. Raises RejectedError if it names none."""
    return engine.lrms.job_id(text(request, "job"))


def _seconds(request: Request, key: str) -> float | None:
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or not abs(value) <= _LAST:
        raise RejectedError(f"{key}: seconds since the epoch are needed, before the year 10000")
    return value


def _prepare(_node: Node, engine: Engine, request: Request) -> Answer:
    restart = request.get("restart")
    if restart is None:
        engine.announce(job(engine, request))
    elif isinstance(restart, int) and 0 <= restart < _MOST_RUNS:
        engine.prepare(job(engine, request), restart)
    else:
        raise RejectedError("restart: a whole number is needed")
    return {}


def _release(node: Node, engine: Engine, request: Request) -> Answer:
    failed = node.release(job(engine, request))
    return {"failed": failed.reason, "retry": failed.retry} if failed else {}


def _destroy(node: Node, _engine: Engine, request: Request) -> Answer:
    node.end(text(request, "machine"))
    return {}


def _machines(node: Node, _engine: Engine, _request: Request) -> Answer:
    return {"machines": [_listed(row) for row in node.ledger.rows()]}


def _listed(row: Row) -> Answer:
    """A row without its user's data: there are passwords in it, and listings are passed on."""
    order = json.loads(row.spec or "{}")
    order.pop("user_data", None)
    return asdict(row) | {"spec": json.dumps(order) if order else ""}


def _events(node: Node, _engine: Engine, request: Request) -> Answer:
    return {"events": [asdict(event) for event in node.ledger.events(text(request, "job"))]}


def _gc(node: Node, _engine: Engine, request: Request) -> Answer:
    lines = node.look() if request.get("dry") else node.reconcile()
    return {"plan": [asdict(line) for line in lines]}


def _why(node: Node, _engine: Engine, request: Request) -> Answer:
    drain = node.drain
    after_failure = SYSTEMS[node.config.lrms].after_failure
    rules = Rules(node.notice, node.config.retries, drain.refusal(), drain.by(), after_failure)
    return {"why": why(node.ledger, text(request, "name"), time(), rules)}


def _usages(node: Node, _engine: Engine, request: Request) -> Answer:
    since = _seconds(request, "since") or 0.0
    return {"usages": [asdict(usage) for usage in node.ledger.usages(since=since)]}


def _publish(node: Node, _engine: Engine, _request: Request) -> Answer:
    return {"messages": publish(node.ledger, node.config, node.builder.node)}


def _drain(node: Node, _engine: Engine, request: Request) -> Answer:
    node.drain.begin(_seconds(request, "by"), text(request, "reason"))
    return {}


def _resume(node: Node, _engine: Engine, _request: Request) -> Answer:
    node.drain.resume()
    return {}


def _host(node: Node, _engine: Engine, _request: Request) -> Answer:
    return {"host": node.drain.shown()}


def _ping(_node: Node, _engine: Engine, _request: Request) -> Answer:
    return {}


OPERATIONS: dict[str, Callable[[Node, Engine, Request], Answer]] = {
    "prepare": _prepare,
    "release": _release,
    "destroy": _destroy,
    "machines": _machines,
    "events": _events,
    "gc": _gc,
    "why": _why,
    "usages": _usages,
    "publish": _publish,
    "drain": _drain,
    "resume": _resume,
    "host": _host,
    "ping": _ping,
}
