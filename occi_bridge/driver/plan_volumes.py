"""What to ask for a volume, and of whom: made, grown, copied, deleted. Pure; see plan.py.

Where nodes keep volumes for themselves, one is made on the node of the first VM that is linked to
it, as soon as that VM has a node, and stays there. What is asked names the VM's lease: in the next
one it is asked anew, whatever came of it before.
"""

from collections.abc import Iterator

from occi_bridge.driver import placement
from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.reports import Report
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Compute, Storage


def actions(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    """What is to be done for a volume now."""
    if row.gone:
        return _deleted(row, snapshot)
    if not row.made:
        return _copied(row, snapshot) if row.source else _made(row, snapshot)
    return _grown(row, snapshot)


def made_for(row: Storage, vm: Compute) -> str:
    """How a volume is asked for that is made for this VM: of Driven.act."""
    return Action(Act.MAKE, row.uid, "", detail=_detail(row, vm)).asked


def _deleted(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    if any(link.storage == row.uid for link in snapshot.attachments):
        return  # some VM may still have it
    if row.act in ("", Act.AWAIT):
        yield Action(Act.FORGET, row.uid, "deleted before it was made")
    elif row.node and row.node not in snapshot.reports.nodes:
        yield Action(Act.FORGET, row.uid, f"deleted, and the site has node {row.node} no more")
    elif bait := _keeper(row.node, snapshot):
        yield Action(Act.DELETE, row.uid, "its owner deleted it", bait)


def _made(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    shared = placement.any_bait(snapshot.reports, shared=True)
    if shared and not row.node:
        yield Action(Act.MAKE, row.uid, "its owner wants it", shared, str(row.size))
        return
    for vm in _vms(row.uid, snapshot):
        report = snapshot.reports.of_node(vm.home)
        if report and report.local_volumes and row.node in ("", vm.home):
            what = _detail(row, vm)
            yield Action(Act.MAKE, row.uid, "its first VM is there", report.url, what, node=vm.home)
            return
    if row.node:  # where it may be
        if bait := _keeper(row.node, snapshot):
            why = "it was asked for there"
            yield Action(Act.MAKE, row.uid, why, bait, str(row.size), node=row.node)
    elif not row.act and snapshot.reports.baits:
        yield Action(Act.AWAIT, row.uid, "it will be where its first VM is")


def _copied(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    node = _node(row.source, snapshot)
    if bait := _holder(row.source, node, snapshot):
        yield Action(Act.COPY, row.uid, "its owner wants a copy", bait, row.source, node=node)


def _grown(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    if row.has < row.size and (bait := _holder(row.uid, row.node, snapshot)):
        yield Action(Act.GROW, row.uid, "its owner wants it larger", bait, str(row.size))


def _detail(row: Storage, vm: Compute) -> str:
    return f"{row.size} {vm.lease}".rstrip()


def _vms(volume: str, snapshot: Snapshot) -> Iterator[Compute]:
    """The VMs that are linked to it, the first of them first."""
    vms = {row.uid: row for row in snapshot.computes}
    for link in snapshot.attachments:
        if link.storage == volume and not link.gone:
            yield vms[link.compute]


def _node(volume: str, snapshot: Snapshot) -> str:
    found = snapshot.by_uid.get(volume)
    return found.node if isinstance(found, Storage) else ""


def _keeper(node: str, snapshot: Snapshot) -> str:
    """The URL of the bait of the node that keeps a volume, of any that shares it if none does; ""
    if that can't be asked now."""
    if node:
        report: Report | None = snapshot.reports.of_node(node)
        return report.url if report else ""
    reports = snapshot.reports
    return placement.any_bait(reports, shared=True) or placement.any_bait(reports)


def _holder(volume: str, node: str, snapshot: Snapshot) -> str:
    """The URL of the bait whose VM has the volume, which this node keeps if any does; of any other
    bait that has it where no VM does.

    A guest has to see it grow, and how it is copied depends on what its VM does.
    """
    if node:
        return _keeper(node, snapshot)
    machines = {row.uid: row for row in snapshot.computes}
    for link in snapshot.attachments:
        vm = machines[link.compute]
        if link.storage == volume and vm.node and (vm.lease or vm.ran):
            if url := snapshot.reports.nodes.get(vm.node, ""):
                return url
            break
    return _keeper("", snapshot)
