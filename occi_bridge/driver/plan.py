"""What to ask of the baits next: a pure function, from a snapshot to actions with their reasons.

The rows have what was seen written into them already (driver/observe.py). Every action can be
asked twice: after a crash the same plan comes out again. Nothing follows from a bait that is
silent.
"""

from collections.abc import Iterable, Iterator

from occi_bridge.driver import placement, plan_links, plan_vms, plan_volumes, retry
from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Attachment, Compute, Interface, Saved, Storage
from occi_bridge.store.states import LIVE


def plan(snapshot: Snapshot) -> list[Action]:
    """The actions that are due, those for older rows first."""
    actions: list[Action] = []
    placements = placement.Placements(snapshot)
    for row in snapshot.computes:
        actions += _due(row, snapshot, plan_vms.actions(row, snapshot, placements))
    vms = snapshot.vms
    for card in snapshot.interfaces:
        actions += _due(card, snapshot, plan_links.card(card, vms[card.compute], snapshot))
    for volume in snapshot.attachments:
        actions += _due(volume, snapshot, plan_links.volume(volume, vms[volume.compute], snapshot))
    turns = plan_volumes.Turns(snapshot)
    for storage in snapshot.storages:
        due = _due(storage, snapshot, plan_volumes.actions(storage, snapshot))
        actions += [each for each in due if each.act is not Act.COPY or turns.takes(storage)]
    used = {card.owned for card in snapshot.interfaces}
    actions += [
        Action(Act.FORGET, net.uid, "its owner deleted it and no VM is on it")
        for net in snapshot.networks
        if net.gone and net.uid not in used
    ]
    for image in snapshot.saved:
        actions += _due(image, snapshot, _image(image, snapshot))
    return actions


def unsettled(snapshot: Snapshot) -> bool:
    """Whether something is under way, so that baits' news are worth a look at once."""
    return (
        bool(_unsettled_vms(snapshot))
        or any(row.gone or _grows(row) for row in snapshot.storages)
        or bool(snapshot.saved)
    )


def _grows(row: Storage) -> bool:
    return row.has < row.size and row.act != Act.AWAIT


def concerned(snapshot: Snapshot) -> frozenset[str]:
    """Whom what is under way with VMs concerns, and who is therefore worth asking often: URLs of
    baits that have submitted a lease, and nodes. Where a lease that waits begins, its bait tells as
    news; so what this costs does not grow with the number of nodes."""
    rows = [snapshot.vms[uid] for uid in _unsettled_vms(snapshot)]
    return frozenset(name for row in rows for name in (row.via, row.home) if name)


def _unsettled_vms(snapshot: Snapshot) -> set[str]:
    """The uids of VMs with which something is under way."""
    found = {row.uid for row in snapshot.computes if row.gone or row.restart or not _settled(row)}
    found |= {
        link.compute
        for links in (snapshot.interfaces, snapshot.attachments)
        for link in links
        if link.gone or (not link.attached and snapshot.vms[link.compute].state == "running")
    }
    return found


def _settled(row: Compute) -> bool:
    if row.desired == "active":
        return row.state in ("running", "crashed") and bool(row.lease)
    if row.desired == "suspended":
        return row.state == "suspended"
    return not row.lease and row.state not in LIVE


def _due(
    row: Compute | Interface | Attachment | Storage | Saved,
    snapshot: Snapshot,
    wanted: Iterable[Action],
) -> Iterator[Action]:
    """Those actions that nobody is carrying out, and that were not asked a moment ago."""
    if (row.tag if isinstance(row, Saved) else row.uid) in snapshot.under_way:
        return
    for action in wanted:
        ours = action.act in (Act.AWAIT, Act.TELL, Act.FAIL, Act.FORGET)
        asked = (action.bait, action.witness)
        due = retry.is_due(row.tries, row.again, snapshot.now, asked, snapshot.reports.back)
        if ours or row.act != action.asked or due:
            yield action


def _image(image: Saved, snapshot: Snapshot) -> Iterator[Action]:
    if image.state == "gone":
        if bait := placement.any_bait(snapshot.reports):
            yield Action(Act.UNSAVE, image.tag, "its owner deleted it", bait)
        return
    seen = snapshot.saved_seen.get(image.node)
    if image.state != "wanted" or (seen and image.tag in (*seen.busy, *seen.tags)):
        return
    if seen is None and image.act and not image.tries:
        return  # it was taken, and silence does not say that it is not being made
    report = snapshot.reports.of_node(image.node)
    if report:
        yield Action(Act.SAVE, image.tag, "its user wants it", report.url, image.machine)
