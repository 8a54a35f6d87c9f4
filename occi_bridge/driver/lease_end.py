"""Whether a VM's lease is over, and by whose word. Pure.

A lease that has begun is over by the word of its own node's bait, which sees the lease's process
and has the LRMS of its node. Of one that no node's bait has, two sources decide: the bait that has
submitted it does answer and does not list it as alive, and the batch system's own commands, asked
through another bait, have known no such job for a while. With some LRMSs a bait knows only the
leases that it has submitted itself, so what any other bait does not list says nothing.
"""

from occi_bridge.driver.reports import LeasesSeen, Machine, Report
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Compute
from occi_bridge.store.states import LIVE, asked_to_end
from wnodes_lrms.lrms.lease import Lease

# Seconds after its submission in which a lease may not be listed yet, and not for being over: where
# its job has been told, and where nobody knows whether the submission is still under way.
CONFIRMED_LATELY = 5.0
SUBMITTED_LATELY = 70.0
# Seconds for which the batch system must say that it has no such job, unless its end was asked for.
SURE = 10.0


def listing(row: Compute, snapshot: Snapshot) -> LeasesSeen | None:
    """What the bait that has submitted the row's lease lists; None while it can't tell."""
    return snapshot.reports.leases.get(row.via)


def listed(row: Compute, snapshot: Snapshot) -> Lease | None:
    """The lease job as its submitter lists it: the one that we know, where there are two."""
    seen = listing(row, snapshot)
    jobs = seen.leases.get(row.lease, ()) if seen else ()
    return next((job for job in jobs if job.job == row.job), jobs[0] if jobs else None)


def missing(row: Compute, snapshot: Snapshot) -> str | None:
    """Why the lease may be over, by its submitter; None while that has it, or does not tell.

    A submitter that the site has taken away is not waited for.
    """
    lease, seen = listed(row, snapshot), listing(row, snapshot)
    if not row.lease or not row.via:
        return None
    if seen is None:
        known = row.via in snapshot.reports.urls
        return None if known else "the batch system has ended its lease"
    if seen.at <= row.lease_at + (CONFIRMED_LATELY if row.job else SUBMITTED_LATELY):
        return None
    if lease is None:
        return "the batch system has ended its lease"
    return (lease.reason or "its lease is over") if lease.state == "ended" else None


def doubtful(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """The jobs that the batch system is to be asked about, each with the baits to ask, in turn."""
    return {
        row.job: _others(row, snapshot)
        for row in snapshot.computes
        if row.job and _in_doubt(row, snapshot.report_of(row), snapshot) is not None
    }


def _others(row: Compute, snapshot: Snapshot) -> tuple[str, ...]:
    others = sorted(url for url in snapshot.reports.baits if url != row.via)
    return tuple(others) or tuple(snapshot.reports.baits)


def over(row: Compute, found: tuple[Report, Machine] | None, snapshot: Snapshot) -> str | None:
    """Why the row's lease is over; None while it is not, or nobody knows."""
    outcomes = snapshot.outcomes(row)
    if row.lease in outcomes:
        return outcomes[row.lease]
    machine = found[1] if found and found[0].at > row.acted else None
    if machine:
        if machine.state == "failed" and machine.lease == row.lease:
            return machine.reason
        if machine.state in ("stopped", "suspended") and not machine.lease and row.state in LIVE:
            return machine.reason
    why = _in_doubt(row, found, snapshot)
    if why is None:
        return None
    if not row.job:  # if its submission has reached nobody, it is given out again
        return None if row.desired == "active" and not row.gone else why
    stood = snapshot.reports.gone.get(row.job)
    sure = 0.0 if asked_to_end(row.act) else SURE
    return why if stood is not None and stood >= sure else None


def _in_doubt(row: Compute, found: tuple[Report, Machine] | None, snapshot: Snapshot) -> str | None:
    """Why the lease may be over, where it is not its own node's bait that knows."""
    if found and found[0].at > row.acted and found[1].lease == row.lease:
        return None
    report = snapshot.reports.of_node(row.home)
    if row.home in snapshot.reports.nodes and (report is None or report.at <= row.acted):
        return None  # it may have begun there
    return missing(row, snapshot)
