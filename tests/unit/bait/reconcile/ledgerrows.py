"""A job's VM and a cloud user's, in a ledger, that have come so far."""

import time

from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from tests.unit.bait.conftest import an_order
from wnodes_lrms.model import Kind, State, machine_id
from wnodes_lrms.order import Order

NOW = time.time()
BATCH = machine_id("box", "12", 0)
TAG = "small_linux_x86_64"


def job(ledger: Ledger, *states: State, restart: int = 0, **facts: object) -> Row:
    """Job 12 has a VM, that has come so far."""
    row = Row(machine_id("box", "12", restart), "12", restart, State.REQUESTED, NOW)
    ledger.promise(row)
    known = {"uid": 1001, "tag": TAG, "cores": 2, "memory": 384, "address": "127.0.0.2"}
    ledger.change(row.id, "allocation read", **(known | facts))
    for state in states:
        ledger.change(row.id, str(state), state=state)
    now = ledger.get(row.id)
    assert now
    return now


def lease(ledger: Ledger, *states: State, job: str = "20", **changes: object) -> tuple[Row, Order]:
    """A cloud user has a VM in a lease, that has come so far."""
    order = an_order(image=TAG, **changes)
    row = Row(
        str(order.machine),
        job,
        0,
        State.REQUESTED,
        NOW,
        uid=1002,
        tag=TAG,
        cores=order.cores,
        memory=order.memory,
        kind=Kind.CLOUD,
        lease=str(order.lease),
        ends=NOW + order.walltime,
        spec=order.model_dump_json(exclude_defaults=True),
    )
    assert ledger.open_lease(row)
    for state in states:
        ledger.change(row.id, str(state), state=state)
    now = ledger.get(row.id)
    assert now
    return now, order
