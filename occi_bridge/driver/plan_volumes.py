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


class Turns:
    """Whose turn it is: a node makes few copies at a time, so of each owner's one is made."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Those that are being made go on; one of a node that is silent keeps no other waiting."""
        self._turns = {
            row.owner: row.uid
            for row in snapshot.storages
            if _is_being_copied(row, snapshot)
            and (not row.node or snapshot.reports.of_node(row.node))
        }

    def takes(self, row: Storage) -> bool:
        """Whether this copy is the one of its owner, from now on if there was none."""
        return self._turns.setdefault(row.owner, row.uid) == row.uid


def _is_being_copied(row: Storage, snapshot: Snapshot) -> bool:
    """Whether a bait may be at it. One that is deleted meanwhile is made to its end."""
    if row.made or not row.source:
        return False
    refused = (row.tries or row.reason) and not row.gone
    return row.uid in snapshot.under_way or bool(row.act and not refused)


def _deleted(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    if row.uid in snapshot.linked:
        return  # some VM may still have it
    if row.act in ("", Act.AWAIT):
        yield Action(Act.FORGET, row.uid, "deleted before it was made")
    elif row.node and snapshot.reports.has_lost(row.node):
        yield Action(Act.FORGET, row.uid, f"deleted, and the site has node {row.node} no more")
    elif bait := _keeper(row, row.node, snapshot):
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
        if bait := _keeper(row, row.node, snapshot):
            why = "it was asked for there"
            yield Action(Act.MAKE, row.uid, why, bait, str(row.size), node=row.node)
    elif not row.act and snapshot.reports.baits:
        yield Action(Act.AWAIT, row.uid, "it will be where its first VM is")


def _copied(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    """One that was begun in the moment when its source was deleted comes to its end: no bait
    removes a volume that is being read."""
    source = snapshot.by_uid.get(row.source)
    if (not isinstance(source, Storage) or source.gone) and not _is_being_copied(row, snapshot):
        lost = "the volume that it was to be a copy of has been deleted"
    elif isinstance(source, Storage) and source.size != row.size:
        lost = "the volume that it was to be a copy of has been grown since: copy that"
    else:
        node = source.node if isinstance(source, Storage) else row.node
        if bait := _holder(row.source, node, row, snapshot):
            yield Action(Act.COPY, row.uid, "its owner wants a copy", bait, row.source, node=node)
        return
    if row.reason != lost:
        yield Action(Act.TELL, row.uid, lost)


def _grown(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    if row.has < row.size and (bait := _holder(row.uid, row.node, row, snapshot)):
        yield Action(Act.GROW, row.uid, "its owner wants it larger", bait, str(row.size))


def _detail(row: Storage, vm: Compute) -> str:
    return f"{row.size} {vm.lease}".rstrip()


def _vms(volume: str, snapshot: Snapshot) -> Iterator[Compute]:
    """The VMs that are linked to it, the first of them first."""
    for link in snapshot.linked.get(volume, ()):
        if not link.gone:
            yield snapshot.vms[link.compute]


def _keeper(row: Storage, node: str, snapshot: Snapshot) -> str:
    """The URL of the bait to be asked for a volume: that of the node that keeps it, of any that
    shares it if none does; "" if that can't be asked now. Copies take long, and are spread."""
    reports = snapshot.reports
    if node:
        report: Report | None = reports.of_node(node)
        return report.url if report else ""
    if row.source and not row.made:
        return placement.spread(row.uid, reports)
    return placement.any_bait(reports, shared=True) or placement.any_bait(reports)


def _holder(volume: str, node: str, row: Storage, snapshot: Snapshot) -> str:
    """As _keeper(), but where a VM has the volume, which `row` is or is a copy of, its bait.

    A guest has to see it grow, and how it is copied depends on what its VM does.
    """
    for link in snapshot.linked.get(volume, ()) if not node else ():
        vm = snapshot.vms[link.compute]
        if vm.node and (vm.lease or vm.ran):
            if url := snapshot.reports.nodes.get(vm.node, ""):
                return url
            break
    return _keeper(row, node, snapshot)
