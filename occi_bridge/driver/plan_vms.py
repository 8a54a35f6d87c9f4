"""What to ask for a VM: its lease, its start, stop and end. Pure; see plan.py."""

from collections.abc import Iterator

from occi_bridge.driver import lease_end, placement
from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.plan_volumes import made_for
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Compute, Storage
from occi_bridge.store.states import LIVE, asked_to_end


def actions(row: Compute, snapshot: Snapshot, placements: placement.Placements) -> Iterator[Action]:
    """What is to be done for a VM now."""
    if row.gone:
        return _deleted(row, snapshot)
    extra = _double(row, snapshot)
    if extra:
        return iter([extra])
    if row.desired == "active":
        return _active(row, snapshot, placements)
    if row.desired == "suspended":
        return _suspended(row, snapshot)
    return _inactive(row, snapshot)


def _deleted(row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    seen = [report for report, _ in snapshot.seen.get(row.uid, [])]
    read = {each.node for each in snapshot.saved if each.is_made_of(row.uid)}
    for report in seen:
        if report.node not in read:
            yield Action(Act.DESTROY, row.uid, "its owner deleted it", report.url, report.node)
    if any(report.node == row.node or not row.node for report in seen):
        return
    if row.lease:
        yield from _cancelled(row, snapshot, "its owner deleted the VM")
        return
    where = snapshot.reports.of_node(row.node)
    sure = where is not None and where.at > row.acted if row.node else snapshot.reports.all_answer
    if sure or not row.lease_at or (row.node and snapshot.reports.has_lost(row.node)):
        yield Action(Act.FORGET, row.uid, "deleted, and nothing is left of it")


def _cancelled(row: Compute, snapshot: Snapshot, why: str) -> Iterator[Action]:
    bait = placement.any_bait(snapshot.reports, row.via)
    if bait and row.job:
        yield Action(Act.CANCEL, row.uid, why, bait, row.job)


def _double(row: Compute, snapshot: Snapshot) -> Action | None:
    """A second job for the same lease: two baits were asked, and the first was only slow."""
    seen = lease_end.listing(row, snapshot)
    jobs = seen.leases.get(row.lease, ()) if seen else ()
    bait = placement.any_bait(snapshot.reports, row.via)
    for job in jobs:
        if row.lease and row.job and job.job != row.job and job.state != "ended" and bait:
            return Action(Act.CANCEL, row.uid, "this lease has another job", bait, job.job)
    return None


def _active(row: Compute, snapshot: Snapshot, placements: placement.Placements) -> Iterator[Action]:
    if not row.lease or not row.job:
        if row.lease or row.state not in LIVE:
            yield from _submitted(row, snapshot, placements)
        return
    report = snapshot.of_its_lease(row)
    if report is None:
        yield from _ordered(row, snapshot)
        return
    if row.state == "suspended":
        yield Action(Act.RESUME, row.uid, "its user started it", report.url)
    elif row.state in ("running", "crashed") and row.restart:
        yield Action(Act.RESTART, row.uid, "its user restarted it", report.url, row.restart)


def _submitted(
    row: Compute, snapshot: Snapshot, placements: placement.Placements
) -> Iterator[Action]:
    where = placements.of(row)
    bait = placement.submitter(row, snapshot.reports)
    if where.wait or not bait:
        asked = "the bait that was asked for its lease does not answer"
        text = where.wait or (asked if row.lease else "no bait answers")
        if row.reason != text:
            yield Action(Act.TELL, row.uid, text)
        return
    why = "the order was not confirmed" if row.lease else "its user wants it to run"
    yield Action(Act.SUBMIT, row.uid, why, bait, where.node)


def _ordered(row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    """Give the order to whoever says that the lease job waits there, if a witness says so too.

    Volumes that the node is to keep for itself are made before.
    """
    for report in snapshot.claims.get(row.lease, ()):
        waits = row.job in report.waiting[row.lease] and report.at > row.acted
        witness = placement.witness(row, report, snapshot.reports)
        if not (waits and witness and (report.node == row.node or not row.ran)):
            continue
        missing = _missing(row, snapshot, report.node) if report.local_volumes else []
        if not missing or row.node != report.node:
            act, why = Act.PLACE if missing else Act.ORDER, "its lease job waits there"
            yield Action(act, row.uid, why, report.url, report.node, witness)
        elif (why := _hopeless(row, missing)) and not asked_to_end(row.act):
            yield Action(Act.FAIL, row.uid, why)  # or its user has started it again meanwhile


def _missing(row: Compute, snapshot: Snapshot, node: str) -> list[Storage]:
    """Its volumes that this node does not have."""
    links = snapshot.volumes.get(row.uid, ())
    linked = (snapshot.by_uid.get(link.storage) for link in links if not link.gone)
    return [
        volume
        for volume in linked
        if isinstance(volume, Storage) and not (volume.made and volume.node in ("", node))
    ]


def _hopeless(row: Compute, missing: list[Storage]) -> str:
    """Why these will not be there in this lease; "" if they may."""
    for volume in missing:
        if volume.node and volume.node != row.node:
            return f"volume {placement.called(volume)} is on {volume.node}, its lease on {row.node}"
        refused = volume.reason and not volume.tries
        if refused and volume.act == made_for(volume, row):
            return f"volume {placement.called(volume)}: {volume.reason}"
    return ""


def _inactive(row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    if not row.lease:
        return
    report = snapshot.of_its_lease(row)
    if report is None:
        there = snapshot.reports.of_node(row.node)
        absent = not row.node or (there is not None and there.at > row.acted)
        if absent or row.lease_state == "pending":
            yield from _cancelled(row, snapshot, "its user stopped it before it ran")
        return
    making = row.state in ("requested", "building")  # there is no guest to be asked
    method = "poweroff" if making else row.method
    pressed = row.act.partition(" ")[0] == Act.STOP and method != "poweroff"
    if row.state != "stopping" or not pressed:
        yield Action(Act.STOP, row.uid, "its user stopped it", report.url, method)


def _suspended(row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    report = snapshot.of_its_lease(row)
    if report and row.state == "running":
        yield Action(Act.SUSPEND, row.uid, "its user suspended it", report.url, row.method)
