"""Why a job or a VM is where it is: what was asked, what decided, what comes next.

From the ledger alone. What comes next is not written down here a second time: the plan itself is
asked what it would do if its job were over, its domain gone, or the time come.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.ledger.states import AT_REST, MAKING
from bait.reconcile.foresight import after, as_it_is, then, utc, would
from bait.reconcile.lookup import Known, find
from wnodes_lrms.lrms.interface import Failure
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Order

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


@dataclass(frozen=True)
class Rules:
    """The settings of the node that decide what comes next."""

    notice: float  # seconds before the end of a lease at which its VM is told to shut down
    retries: int  # how many times a job is requeued for want of a VM
    drained: str | None  # why no new VM is made here
    drain_by: float | None  # when the node is to be empty, seconds since the epoch
    after_failure: Callable[[Failure], str]  # the batch system's, see System


def why(ledger: Ledger, name: str, now: float, rules: Rules) -> dict[str, Any]:
    """All that can be said of a job's number, a VM's id (or its beginning) or a lease's id.

    Times are in seconds since the epoch, or within sentences in UTC. Raises AbsentError if nothing
    is known of that name, RejectedError if several VMs' ids begin so.
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


def _asked(known: Known) -> Iterator[str]:
    row, usage = known.row, known.usage
    about = row or usage
    if about is None or not about.tag:
        yield f"what job {known.job} asked for is not in the ledger, or not any more"
    elif about.kind is Kind.BATCH:
        yield f"job {known.job} of uid {about.uid} asked for a VM from image {about.tag}"
    elif row and row.spec:
        order = Order.model_validate_json(row.spec)
        yield (
            f"{order.dn} {order.fqan}".strip() + f" ordered a VM from image {order.image}:"
            f" {_cores(order.cores)}, {order.memory} MiB, for {order.walltime} s at a time"
        )
    elif usage:
        yield (
            f"{usage.dn} {usage.fqan}".strip() + f" ordered a VM from image {usage.tag}:"
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
            yield f"the walltime of the lease ends at {utc(row.ends)}"
        if lease.reason is not None:
            yield f"it ended at {utc(lease.at)}, with exit code {lease.code}: {lease.reason}"
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
        yield f"VM {row.id} {_STANDS[row.state]}{where}, since {utc(row.since)}"
    elif usage is None:
        yield f"VM {known.machine} is gone, and never ran in this allocation"
    else:
        yield f"VM {known.machine} is gone from this allocation"
    if usage:
        end = f"ended at {utc(usage.ended)}" if usage.ended else f"counted at {utc(usage.at)}"
        held = f", and was suspended for {usage.held:.0f} s" if usage.held else ""
        yield f"it began at {utc(usage.began)}, ran for {usage.wall:.0f} s{held}; {end}"


def _next(row: Row, now: float, rules: Rules) -> Iterator[str]:
    if row.state is State.FAILED and row.kind is Kind.BATCH:
        yield rules.after_failure(Failure(row.job, row.retry, row.restart, rules.retries))
    elif row.state in AT_REST:
        yield "it starts when its user asks for that, here, where its disk is, by a new lease"
        if rules.drained:
            yield "such a lease waits in the batch system until `wnodes host resume`"
        return
    here = as_it_is(row, now, rules.notice, rules.drain_by)
    if found := would(here):
        yield f"{found.comes}: {found.why}"
    if row.kind is Kind.BATCH:
        yield f"when job {row.job} ends: its epilog has the VM and all that it has removed"
    over = f"when the batch system does not list job {row.job} any more"
    yield from after(over, here, live_jobs={})
    if row.state is State.PAUSED:
        goes = f"when the batch system lets job {row.job} go on"
        yield from after(goes, here, live_jobs={row.job: False})
    if row.state not in MAKING:
        yield from after("when its domain and its process are gone", here, domains={})
    if row.ends and row.kind is Kind.CLOUD:
        yield from then(row.ends - rules.notice, here)
    if rules.drain_by:
        early = rules.notice if row.kind is Kind.CLOUD else 0.0
        yield from then(rules.drain_by - early, here)


def _cores(number: int) -> str:
    return f"{number} core" if number == 1 else f"{number} cores"
