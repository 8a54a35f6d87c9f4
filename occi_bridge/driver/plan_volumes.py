"""What to ask for volumes: that they are made, copied, grown, deleted. Pure; see plan.py."""

from collections.abc import Iterator

from occi_bridge.driver import placement
from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Storage


def actions(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    """What is to be done for a volume now."""
    work = row.source and not row.made  # for long: not all of it is one node's
    reports = snapshot.reports
    bait = placement.spread(row.uid, reports) if work else placement.any_bait(reports)
    if row.gone and not row.act:
        yield Action(Act.FORGET, row.uid, "deleted before it was made")
    elif row.gone and bait and all(link.storage != row.uid for link in snapshot.attachments):
        yield Action(Act.DELETE, row.uid, "its owner deleted it", bait)
    elif not row.gone and not row.made and row.source:
        yield from _copied(row, snapshot, bait)
    elif not row.gone and not row.made and bait:
        yield Action(Act.MAKE, row.uid, "its owner wants it", bait, str(row.size))
    elif not row.gone and row.has < row.size and (bait := _holder(row.uid, snapshot) or bait):
        yield Action(Act.GROW, row.uid, "its owner wants it larger", bait, str(row.size))


class Turns:
    """Whose turn it is: a node makes few copies at a time, so of each owner's one is made."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Those that are being made go on."""
        self._turns = {
            row.owner: row.uid for row in snapshot.storages if _is_being_copied(row, snapshot)
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


def _copied(row: Storage, snapshot: Snapshot, bait: str) -> Iterator[Action]:
    """One that was begun in the moment when its source was deleted comes to its end: no bait
    removes a volume that is being read."""
    source = snapshot.by_uid.get(row.source)
    if (not isinstance(source, Storage) or source.gone) and not _is_being_copied(row, snapshot):
        lost = "the volume that it was to be a copy of has been deleted"
    elif isinstance(source, Storage) and source.size != row.size:
        lost = "the volume that it was to be a copy of has been grown since: copy that"
    else:
        if bait := _holder(row.source, snapshot) or bait:
            yield Action(Act.COPY, row.uid, "its owner wants a copy", bait, row.source)
        return
    if row.reason != lost:
        yield Action(Act.TELL, row.uid, lost)


def _holder(volume: str, snapshot: Snapshot) -> str:
    """The URL of the bait whose VM has the volume; "" for any.

    A guest has to see it grow, and how it is copied depends on what its VM does.
    """
    machines = {row.uid: row for row in snapshot.computes}
    for link in snapshot.attachments:
        vm = machines[link.compute]
        if link.storage == volume and vm.node and (vm.lease or vm.ran):
            return snapshot.reports.nodes.get(vm.node, "")
    return ""
