"""What the ledger has of a name that somebody asks about: a job's, a VM's or a lease's."""

import re
from dataclasses import dataclass

from bait.ledger import sql
from bait.ledger.ledger import Ledger
from bait.ledger.records import Event, Lease, Row, Usage
from wnodes_lrms.errors import AbsentError, RejectedError

_MACHINE = re.compile(r"[0-9a-f][0-9a-f-]{3,35}")


@dataclass(frozen=True)
class Known:
    """What the ledger has of one VM in one allocation; empty where there is nothing."""

    machine: str
    job: str
    row: Row | None
    lease: Lease | None
    usage: Usage | None
    events: list[Event]


def find(ledger: Ledger, name: str) -> Known:
    """What that name means. Of several VMs of one job, or leases of one VM, the last."""
    lease = ledger.lease(name) or next(reversed(ledger.leases_of(name)), None)
    events = ledger.events(lease.machine if lease else name)
    if not events:
        machines = _beginning_with(ledger, name)
        if not machines:
            raise AbsentError(f"{name}: nothing is known here of such a job, VM or lease")
        if len(machines) > 1:
            raise RejectedError(f"{name}: several VMs' ids begin so: {', '.join(machines)}")
        return find(ledger, machines[0])
    machine = lease.machine if lease else events[-1].machine
    row = ledger.get(machine)
    if row and row.lease and lease and row.lease != lease.id:
        row = None  # it lives on, in another lease than the one that was asked for
    ids = (machine, lease.id if lease else machine)  # see Usage.id
    usages = [usage for usage in ledger.usages() if usage.machine == machine and usage.id in ids]
    job = (row.job if row else "") or (lease.job if lease else events[-1].job)
    return Known(machine, job, row, lease, usages[-1] if usages else None, events)


def _beginning_with(ledger: Ledger, name: str) -> list[str]:
    name = name.lower()
    if not _MACHINE.fullmatch(name):
        return []
    with ledger.store.change() as db:
        return sql.machines_beginning_with(db, name)
