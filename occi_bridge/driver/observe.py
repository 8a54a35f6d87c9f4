"""What the rows have to say after what was seen: a pure function, from a snapshot to changes.

Of a VM only the bait of its own node is believed: which that is, the bridge has written down
before it gave the order to it (driver/actor.py).

A source that did not answer changes nothing; when a lease counts as over: driver/lease_end.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from occi_bridge.driver import lease_end
from occi_bridge.driver.reports import Machine, Report
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Attachment, Compute, Interface, Saved
from occi_bridge.store.states import LIVE, ON_DISK, asked_to_end
from wnodes_lrms.lrms.lease import Lease
from wnodes_lrms.restarts import TOLD

_PLANNED = 60.0  # seconds that a lease's expected begin moves before it is written down anew
_MEASURED = 60.0  # seconds between two times that what cards carry is written down


@dataclass
class Change:
    """New values of some columns of a row; `why` is empty where it is nothing to tell of."""

    row: Compute | Interface | Attachment | Saved
    values: dict[str, object] = field(default_factory=dict)
    why: str = ""


def observe(snapshot: Snapshot) -> list[Change]:
    """The changes, without those that change nothing."""
    changes = [
        _compute(row, snapshot) for row in snapshot.computes if row.uid not in snapshot.under_way
    ]
    for links in (snapshot.interfaces, snapshot.attachments):
        changes += [
            _link(link, snapshot.vms[link.compute], snapshot)
            for link in links
            if link.uid not in snapshot.under_way and not link.gone
        ]
    changes += [
        _saved(row, snapshot) for row in snapshot.saved if row.tag not in snapshot.under_way
    ]
    for change in changes:
        change.values = {
            name: value
            for name, value in change.values.items()
            if getattr(change.row, name) != value
        }
    return [change for change in changes if change.values]


def _compute(row: Compute, snapshot: Snapshot) -> Change:
    change = Change(row)
    found = snapshot.report_of(row)
    if found and found[0].at > row.acted:
        _reported(change, *found, row)
    elif not found and row.state and _answers_since(row, snapshot):
        change.values |= {"state": "", "ran": False, "since": snapshot.now}
        change.why = f"{row.node} does not have it any more"
        if not row.lease and not row.gone:
            _lost(change, row)
    lease = lease_end.listed(row, snapshot)
    if found and found[0].at > row.acted and _under_another(row, *found, snapshot):
        report, machine = found
        change.values |= {"lease": machine.lease, "job": machine.job, "lease_state": "running"}
        change.values["via"] = report.url  # who knows of it, whoever has submitted it
        change.why = f"taken up under lease {machine.lease}"
        return change
    if lease and row.lease:
        _leased(change, lease, row, snapshot.now)
    why = lease_end.over(row, found, snapshot)
    if row.lease and why is not None:
        _ended(change, row, why, snapshot)
    return change


def _reported(change: Change, report: Report, machine: Machine, row: Compute) -> None:
    change.values |= {
        "state": machine.state,
        "node": report.node,
        "since": machine.since,
        "ran": row.ran or machine.state in ON_DISK,
    }
    if machine.state != row.state:
        change.why = f"{row.state or 'nothing'} → {machine.state} on {report.node}"
        if machine.state == "running":
            change.values["reason"] = ""
    if machine.state == "crashed":
        change.values["reason"] = machine.reason
    if machine.state == "running" and (machine.reason in TOLD or row.reason in TOLD):
        change.values["reason"] = machine.reason if machine.reason in TOLD else ""
    if row.lease and machine.lease == row.lease and not row.act.startswith("suspend"):
        # Nobody asked: the guest has put itself to sleep, or has woken by its own clock.
        if (row.state, machine.state, row.desired) == ("running", "suspended", "active"):
            change.values |= {"desired": "suspended", "reason": machine.reason}
        elif (row.state, machine.state, row.desired) == ("suspended", "running", "suspended"):
            change.values["desired"] = "active"
    if machine.state == "running" and machine.reason and row.act.startswith("suspend"):
        # It could not be; and a later request is not to be taken for this one.
        change.values |= {"desired": "active", "reason": machine.reason, "act": ""}


def _under_another(row: Compute, report: Report, machine: Machine, snapshot: Snapshot) -> bool:
    """Whether it lives under a lease that no row knows, and the row's own is none: the database
    was put back from a backup."""
    return (
        bool(machine.lease)
        and machine.lease not in snapshot.leases
        and machine.lease not in report.outcomes
        and machine.state in LIVE | {"suspended"}
        and (not row.lease or lease_end.missing(row, snapshot) is not None)
    )


def _lost(change: Change, row: Compute) -> None:
    change.values |= {
        "desired": "inactive",
        "fault": True,
        "reason": f"its disk is no longer on {row.node}",
        "node": "",
    }


def _answers_since(row: Compute, snapshot: Snapshot) -> bool:
    report = snapshot.reports.of_node(row.node)
    return report is not None and report.at > row.acted


def _leased(change: Change, lease: Lease, row: Compute, now: float) -> None:
    if lease.state not in ("pending", "running"):
        return
    change.values |= {"lease_state": lease.state, "job": row.job or lease.job}
    if lease.state == "running" != row.lease_state:
        change.values["began"] = now
    # What was seen of the VM may be newer than that list: it may run by now, or have fallen asleep.
    runs = change.values.get("state", row.state) in LIVE
    waits = change.values.get("desired", row.desired) == "active" and not runs
    if lease.state == "pending" and waits:
        change.values["reason"] = lease.reason
    if lease.state == "pending" and abs(lease.expected - row.expected) >= _PLANNED:
        change.values["expected"] = lease.expected
    if lease.state != row.lease_state and not change.why:
        change.why = f"lease job {lease.job} {lease.state} {lease.node}".rstrip()


def _ended(change: Change, row: Compute, why: str, snapshot: Snapshot) -> None:
    """The lease is over: what that means for the state that the user wants."""
    values = change.values
    values |= {"lease": "", "job": "", "via": "", "lease_state": "", "tries": 0, "again": 0.0}
    values["expected"] = 0.0
    state = values.get("state", row.state)
    if state in LIVE and not _answers_since(row, snapshot):
        state = values["state"] = "stopped" if row.ran else ""
    change.why = f"lease {row.lease} is over: {why or 'as asked'}"
    if row.gone:
        return
    if row.desired == "active" and not asked_to_end(row.act):
        fault = state in ("", "failed")
        values |= {"desired": "inactive", "restart": "", "fault": fault, "reason": why}
    elif row.desired == "suspended" and state != "suspended":
        values |= {"desired": "inactive", "reason": why}
    elif row.desired != "active" and not row.fault:
        values["reason"] = ""


def _link(link: Interface | Attachment, row: Compute, snapshot: Snapshot) -> Change:
    """Whether the VM has it, and what the guest sees of it."""
    change = Change(link)
    found = snapshot.report_of(row)
    if found is None or found[0].at <= max(link.acted, row.acted):
        return change
    machine = found[1]
    if isinstance(link, Interface):
        card = next((nic for nic in machine.nics if nic.id == link.uid), None)
        change.values["attached"] = card is not None
        if card:
            change.values |= {"address": card.address or "", "seen_mac": card.mac}
            if card.rates == link.rates:  # or what was refused is still to be told
                change.values["reason"] = ""
            flows = card.shown(snapshot.now)
            if _limits(flows) != _limits(link.flows) or _stale(link.flows, snapshot.now):
                change.values["flows"] = flows
    else:
        disk = next((each for each in machine.volumes if each.id == link.storage), None)
        change.values["attached"] = disk is not None
        if disk:
            change.values |= {"device": disk.device, "reason": ""}
    return change


def _limits(flows: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in flows.items() if name.endswith(".limit")}


def _stale(flows: Mapping[str, float], now: float) -> bool:
    """All cards in the same round: after each write whatever users are shown is rendered anew."""
    return bool(flows) and now // _MEASURED != flows["at"] // _MEASURED


def _saved(row: Saved, snapshot: Snapshot) -> Change:
    change = Change(row)
    seen = snapshot.saved_seen.get(row.node)
    if row.state != "wanted" or seen is None or row.tag in seen.busy:
        return change
    failed = (seen.failed or {}).get(row.tag)
    if failed is not None:
        change.values |= {"state": "failed", "reason": failed}
        change.why = f"image {row.tag} failed: {failed}"
    elif row.tag in seen.tags:
        change.values["state"] = "ready"
        if like := (seen.made or {}).get(row.tag):
            change.values |= {"consistency": str(like.consistency), "stripped": like.stripped}
        change.why = f"image {row.tag} is saved"
    return change
