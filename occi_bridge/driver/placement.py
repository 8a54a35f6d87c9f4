"""Where a VM's next lease has to be, and what it still has to wait for. Pure.

A VM goes to the node that has its disk, or a volume that this node keeps for itself. Where the
nodes have no tunnels, VMs that share a user's own network meet on one node: the first of them that
gets a lease decides for the others.
"""

import hashlib
from dataclasses import dataclass

from occi_bridge.driver.reports import Report, Reports
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.networks import KINDS, of_user
from occi_bridge.store.rows import Attachment, Compute, Storage


@dataclass(frozen=True)
class Placement:
    """The node for a lease, "" for any; or, in a sentence, why it can't be asked for yet."""

    node: str = ""
    wait: str = ""


@dataclass
class _Bound:
    """What has decided so far where a VM has to be, and where that is; node "" for nothing."""

    what: str
    node: str

    def by(self, what: str, node: str) -> str:
        """This has to be there, too; "" for any node. Why it can't be, "" if it can."""
        if node and self.node and node != self.node:
            return f"{self.what} is on {self.node}, {what} is on {node}"
        if not self.node:
            self.what, self.node = what, node
        return ""


class Placements:
    """The answers for one plan, in which a VM that may go keeps others of its network back."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Look at the snapshot once for all VMs."""
        self._snapshot = snapshot
        self._volumes = {row.uid: row for row in snapshot.storages}
        self._one_node = {
            net.uid: net.name
            for net in snapshot.networks
            if KINDS[of_user(net).kind].one_node and not snapshot.spans
        }
        self._on: dict[str, list[Compute]] = {}
        for card in snapshot.interfaces:
            if card.owned in self._one_node and not card.gone:
                self._on.setdefault(card.owned, []).append(snapshot.vms[card.compute])
        self._going: set[str] = set()  # networks whose node a VM of this plan decides

    def of(self, row: Compute) -> Placement:
        """Where this VM's lease has to be."""
        bound = _Bound("its disk", row.node if row.ran else "")
        for link in self._snapshot.volumes.get(row.uid, []):
            volume = self._volumes.get(link.storage)
            if link.gone:
                continue
            if volume is None or not attachable(link, self._snapshot):
                return Placement(wait="waiting for a volume")
            if not volume.made and (row.ran or not made_with_vm(volume, self._snapshot)):
                return Placement(wait="waiting for a volume")
            if apart := bound.by(f"volume {called(volume)}", volume.node):
                return Placement(wait=apart)
        shared = [
            card.owned
            for card in self._snapshot.cards.get(row.uid, [])
            if card.owned in self._one_node and not card.gone
        ]
        for net in shared:
            others = [other for other in self._on[net] if other.uid != row.uid and not other.gone]
            for other in others:
                if apart := bound.by(f"network {self._one_node[net]}", other.home):
                    return Placement(wait=apart)
            # What is under way may have got its lease since its row was read.
            going = any(
                (other.lease or other.uid in self._snapshot.under_way) and not other.home
                for other in others
            )
            if not bound.node and (going or net in self._going):
                return Placement(wait="waiting for another VM of its network to get a node")
        if not bound.node and not row.lease:
            self._going.update(net for net in shared if net)
        return Placement(node=bound.node)


def attachable(link: Attachment, snapshot: Snapshot) -> bool:
    """Whether no other VM has the volume any more, unless all of them only read it, and none is
    made a copy of it.

    Somebody else's copy that has not begun waits for its turn, which may take long: it is made of
    the VM that runs then.
    """
    return not any(
        copy.act or copy.owner == link.owner for copy in snapshot.copies.get(link.storage, ())
    ) and not any(
        other.uid != link.uid
        and not (link.readonly and other.readonly and other.compute != link.compute)
        for other in snapshot.linked.get(link.storage, ())
    )


def made_with_vm(volume: Storage, snapshot: Snapshot) -> bool:
    """Whether a volume that is not made yet will be where its VM's lease comes to."""
    return not volume.source and not any_bait(snapshot.reports, shared=True)


def called(volume: Storage) -> str:
    """How its user knows a volume."""
    return str(volume.attributes.get("occi.core.title") or volume.id or volume.uid)


def any_bait(reports: Reports, first: str = "", *, shared: bool = False) -> str:
    """The URL of a bait that answers, `first` if it does; "" if none does. `shared`: of one whose
    volumes other nodes have too."""
    if first in reports.baits:
        return first
    if shared:
        return next(iter(reports.sharing), "")
    return reports.first


def spread(uid: str, reports: Reports) -> str:
    """As any_bait() for a volume, of those that share theirs if any do: the same for one as long as
    it answers; other volumes have others."""

    def weight(url: str) -> bytes:
        return hashlib.sha256(f"{uid} {url}".encode()).digest()

    return max(reports.sharing or reports.baits, key=weight, default="")


def submitter(row: Compute, reports: Reports) -> str:
    """The URL of the bait to be asked for a VM's lease; "" if none can be now.

    One that may have submitted it is asked again, and while it is silent nobody is: a second job
    could come of that. Otherwise it is one that gets answers from the batch system, if any does.
    """
    if row.lease and row.via in reports.urls:
        return row.via if row.via in reports.baits else ""
    return reports.submits


def witness(row: Compute, claim: Report, reports: Reports) -> str:
    """The URL of the bait to be asked whether the VM's lease job runs where `claim` says.

    It is the one that has submitted the job, else any other; never the claimant alone, unless it
    has submitted the job itself: then nobody knows better. "" if nobody can be asked now.
    """
    if row.via in reports.baits:
        return row.via
    return min((url for url in reports.baits if url != claim.url), default="")
