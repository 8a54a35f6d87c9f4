"""Why a job or a machine is where it is: what was asked, what decided, what comes next.

From the ledger alone. What comes next is not written down here a second time: the plan itself is
asked what it would do if its job were over, its domain gone, or the time come.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bait.hypervisor.domain import Domain
from bait.ledger.ledger import Ledger
from bait.ledger.records import Event, Lease, Row, Usage
from bait.ledger.states import AT_REST, MAKING
from bait.reconcile.plan import Act, Evidence, plan
from wnodes_lrms.errors import AbsentError, RejectedError
from wnodes_lrms.lrms.interface import Failure
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Order

_MACHINE = re.compile(r"[0-9a-f][0-9a-f-]{3,35}")
_STANDS = {
    State.REQUESTED: "is promised; what it needs is being asked of the batch system",
    State.BUILDING: "is being made",
    State.STARTING: "is about to be started",
    State.BOOTING: "boots, and does not take logins yet",
    State.READY: "runs",
    State.PAUSED: "stands still: the batch system has suspended its job",
    State.SUSPENDED: "is suspended, in its lease",
    State.ASLEEP: "has put itself to sleep, in its lease",
    State.STOPPING: "is shutting down",
    State.HIBERNATING: "is being hibernated: its memory is being written",
    State.STOPPED: "is stopped: it has no lease, and its disk is kept",
    State.HIBERNATED: "is hibernated: it has no lease, and its disk and memory are kept",
    State.FAILED: "has failed",
    State.ENDING: "is being removed",
}
_COMES = {
    Act.RESUME: "it goes on being made",
    Act.ADOPT: "it goes on being watched until it takes logins",
    Act.HOLD: "it is suspended",
    Act.PAUSE: "it stands still",
    Act.CONTINUE: "it goes on",
    Act.FOLLOW: "it is shown as the guest has it",
    Act.LOST: "it counts as lost, and whoever waits for it hears that",
    Act.EVICT: "the machine is ended, and the batch system is asked to run its job again",
    Act.END: "the machine and all that it has are removed",
    Act.SHUT_DOWN: "the guest is told to shut down, and its disk is kept",
    Act.HALT: "the machine is ended at once, and its disk is kept",
    Act.HIBERNATE: "its memory goes on being written",
}


@dataclass(frozen=True)
class Rules:
    """What of the node's settings decides what comes next."""

    notice: float  # seconds before the end of a lease at which its machine is told to shut down
    retries: int  # how many times a job is requeued for want of a machine
    drained: str | None  # why no new machine is made here
    drain_by: float | None  # when the node is to be empty, seconds since the epoch
    after_failure: Callable[[Failure], str]  # the batch system's, see System


@dataclass(frozen=True)
class Known:
    """What the ledger has of one machine in one allocation; empty where there is nothing."""

    machine: str
    job: str
    row: Row | None
    lease: Lease | None
    usage: Usage | None
    events: list[Event]


def why(ledger: Ledger, name: str, now: float, rules: Rules) -> dict[str, Any]:
    """All that can be said of a job's number, a machine's id (or its beginning) or a lease's id.

    Times are in seconds since the epoch, or within sentences in UTC. Raises AbsentError if nothing
    is known of that name, RejectedError if several machines' ids begin so.
    """
    known = find(ledger, name)
    row = known.row
    return {
        "name": name,
        "machine": known.machine,
        "job": known.job,
        "lease": known.lease.id if known.lease else "",
        "state": str(row.state) if row else "gone",
        "asked": list(_asked(known)),
        "decided": list(_decided(known, rules)),
        "stands": list(_stands(known)),
        "next": list(_next(row, now, rules)) if row else ["nothing: it is over"],
        "history": [asdict(event) for event in known.events],
    }


def find(ledger: Ledger, name: str) -> Known:
    """What that name means. Of several machines of one job, or leases of one machine, the last."""
    lease = ledger.lease(name) or next(reversed(ledger.leases_of(name)), None)
    events = ledger.events(lease.machine if lease else name)
    if not events:
        machines = _beginning_with(ledger, name)
        if not machines:
            raise AbsentError(f"{name}: nothing is known here of such a job, machine or lease")
        if len(machines) > 1:
            raise RejectedError(f"{name}: several machines' ids begin so: {', '.join(machines)}")
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
        found = db.execute(
            "SELECT DISTINCT machine FROM event WHERE machine >= ? AND machine < ?",
            (name, name + "g"),
        )
        return [machine for (machine,) in found]


def _asked(known: Known) -> Iterator[str]:
    row, usage = known.row, known.usage
    about = row or usage
    if about is None or not about.tag:
        yield f"what job {known.job} asked for is not in the ledger, or not any more"
    elif about.kind is Kind.BATCH:
        yield f"job {known.job} of uid {about.uid} asked for a machine from image {about.tag}"
    elif row and row.spec:
        order = Order.model_validate_json(row.spec)
        yield (
            f"{order.dn} {order.fqan}".strip() + f" ordered a machine from image {order.image}:"
            f" {_cores(order.cores)}, {order.memory} MiB, for {order.walltime} s at a time"
        )
    elif usage:
        yield (
            f"{usage.dn} {usage.fqan}".strip() + f" ordered a machine from image {usage.tag}:"
            f" {_cores(usage.cores)}, {usage.memory} MiB"
        )


def _decided(known: Known, rules: Rules) -> Iterator[str]:
    row, usage, lease = known.row, known.usage, known.lease
    about = row or usage
    if about and about.kind is Kind.BATCH and about.cores:
        yield (
            f"the batch system's allocation gives it {_cores(about.cores)} and, less what the"
            f" hypervisor needs, {about.memory} MiB"
        )
    if lease and (about is None or about.kind is Kind.CLOUD):
        yield f"lease {lease.id} is job {lease.job} of the batch system"
        if row and row.ends:
            yield f"the walltime of the lease ends at {_utc(row.ends)}"
        if lease.reason is not None:
            yield f"it ended at {_utc(lease.at)}, with exit code {lease.code}: {lease.reason}"
    if row and row.reason and not (lease and lease.reason == row.reason):
        yield row.reason
    if row and row.state is State.FAILED and row.kind is Kind.BATCH:
        yield "another try may help" if row.retry else "only a person can mend that"
    if row and rules.drained:
        yield rules.drained


def _stands(known: Known) -> Iterator[str]:
    row, usage = known.row, known.usage
    if row:
        where = f" at {row.address}" if row.address and row.state is State.READY else ""
        yield f"machine {row.id} {_STANDS[row.state]}{where}, since {_utc(row.since)}"
    elif usage is None:
        yield f"machine {known.machine} is gone, and never ran in this allocation"
    else:
        yield f"machine {known.machine} is gone from this allocation"
    if usage:
        end = f"ended at {_utc(usage.ended)}" if usage.ended else f"counted at {_utc(usage.at)}"
        held = f", and was suspended for {usage.held:.0f} s" if usage.held else ""
        yield f"it began at {_utc(usage.began)}, ran for {usage.wall:.0f} s{held}; {end}"


def _next(row: Row, now: float, rules: Rules) -> Iterator[str]:
    if row.state is State.FAILED and row.kind is Kind.BATCH:
        yield rules.after_failure(Failure(row.job, row.retry, row.restart, rules.retries))
    elif row.state in AT_REST:
        yield "it starts when its user asks for that, here, where its disk is, by a new lease"
        if rules.drained:
            yield "such a lease waits in the batch system until `wnodes host resume`"
        return
    here = _evidence(row, now, rules)
    if found := _would(here):
        yield f"{found.comes}: {found.why}"
    if row.kind is Kind.BATCH:
        yield f"when job {row.job} ends: its epilog has the machine and all that it has removed"
    over = f"when the batch system does not list job {row.job} any more"
    yield from _at(over, here, live_jobs={})
    if row.state is State.PAUSED:
        goes = f"when the batch system lets job {row.job} go on"
        yield from _at(goes, here, live_jobs={row.job: False})
    if row.state not in MAKING:
        yield from _at("when its domain and its process are gone", here, domains={})
    if row.ends and row.kind is Kind.CLOUD:
        yield from _when(row.ends - rules.notice, here)
    if rules.drain_by:
        early = rules.notice if row.kind is Kind.CLOUD else 0.0
        yield from _when(rules.drain_by - early, here)


def _evidence(row: Row, now: float, rules: Rules) -> Evidence:
    """All sources answer, and nothing is wrong."""
    has_domain = row.state not in MAKING | AT_REST
    still = row.state is State.PAUSED
    domain = Domain(row.id, row.job, row.restart, held=still)
    return Evidence(
        rows=(row,),
        domains={row.id: domain} if has_domain else {},
        live_jobs={row.job: still},
        heard=frozenset(),
        moving=frozenset(),
        processes=frozenset(),
        folders={},
        worked_on=frozenset(),
        now=now,
        notice=rules.notice,
        drain_by=rules.drain_by,
    )


@dataclass(frozen=True)
class _Coming:
    comes: str
    why: str


def _would(evidence: Evidence) -> _Coming | None:
    """What the plan would do."""
    for action in plan(evidence):
        grace = ", after [bait] grace" if action.doubtful else ""
        return _Coming(_COMES[action.act] + grace, action.why)
    return None


def _at(when: str, evidence: Evidence, **changes: Any) -> Iterator[str]:
    """What would come of that, if it is something else than what comes anyway."""
    found = _would(replace(evidence, **changes))
    if found and found != _would(evidence):
        yield f"{when}: {found.comes}"


def _when(at: float, evidence: Evidence) -> Iterator[str]:
    found = _would(replace(evidence, now=at))
    if at > evidence.now and found and found != _would(evidence):
        yield f"at {_utc(at)}: {found.comes}: {found.why}"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cores(number: int) -> str:
    return f"{number} core" if number == 1 else f"{number} cores"
