"""What to ask of the baits next: a pure function, from a snapshot to actions with their reasons.

The rows have what was seen written into them already (driver/observe.py). Every action can be
asked twice: after a crash the same plan comes out again. Nothing follows from a bait that is
silent.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from occi_bridge.driver import lease_end, placement
from occi_bridge.driver.reports import Report
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Attachment, Compute, Interface, Saved, Storage
from occi_bridge.store.states import LIVE


class Act(StrEnum):
    """What to do. All but TELL and FORGET are requests to a bait."""

    SUBMIT = "submit"  # an order, for a lease
    ORDER = "order"  # a VM, of the node where its lease job waits for that
    CANCEL = "cancel"  # a lease job
    STOP = "stop"
    RESTART = "restart"
    SUSPEND = "suspend"
    RESUME = "resume"
    DESTROY = "destroy"  # a VM, with its disk
    SAVE = "save"  # an image of a VM
    UNSAVE = "unsave"  # remove it
    PLUG = "plug"  # a network card into a running VM
    UNPLUG = "unplug"
    ATTACH = "attach"  # a volume to a running VM
    DETACH = "detach"
    MAKE = "make"  # a volume
    DELETE = "delete"  # a volume
    TELL = "tell"  # the user why nothing happens
    FORGET = "forget"  # the row: nothing is left of it anywhere


@dataclass(frozen=True)
class Action:
    """One line of the plan. `bait` is the URL of the one that is to be asked, `detail` how.

    For an order `detail` is the node, and `witness` who knows whether the lease job runs there.
    """

    act: Act
    uid: str  # of the row that it is for; the tag for SAVE and UNSAVE
    why: str
    bait: str = ""
    detail: str = ""
    witness: str = ""

    @property
    def asked(self) -> str:
        """What goes into Driven.act: equal for the same request."""
        return f"{self.act} {self.detail}".rstrip()


def plan(snapshot: Snapshot) -> list[Action]:
    """The actions that are due, those for older rows first."""
    actions: list[Action] = []
    sites = placement.Sites(snapshot)
    for row in snapshot.computes:
        actions += _due(row, snapshot, _compute(row, snapshot, sites))
    machines = {row.uid: row for row in snapshot.computes}
    for card in snapshot.interfaces:
        actions += _due(card, snapshot, _card(card, machines[card.compute], snapshot))
    for volume in snapshot.attachments:
        actions += _due(volume, snapshot, _volume(volume, machines[volume.compute], snapshot))
    for storage in snapshot.storages:
        actions += _due(storage, snapshot, _storage(storage, snapshot))
    used = {card.owned for card in snapshot.interfaces}
    actions += [
        Action(Act.FORGET, net.uid, "its owner deleted it and no machine is on it")
        for net in snapshot.networks
        if net.gone and net.uid not in used
    ]
    for image in snapshot.saved:
        actions += _due(image, snapshot, _image(image, snapshot))
    return actions


def unsettled(snapshot: Snapshot) -> bool:
    """Whether something is under way, so that baits are worth asking often."""
    machines = {row.uid: row for row in snapshot.computes}
    return (
        any(row.gone or row.restart or not _settled(row) for row in snapshot.computes)
        or any(
            link.gone or (not link.attached and machines[link.compute].state == "running")
            for links in (snapshot.interfaces, snapshot.attachments)
            for link in links
        )
        or any(row.gone or not row.made for row in snapshot.storages)
        or bool(snapshot.saved)
    )


def _settled(row: Compute) -> bool:
    if row.desired == "active":
        return row.state == "running" and bool(row.lease)
    if row.desired == "suspended":
        return row.state == "suspended"
    return not row.lease and row.state not in LIVE


def _due(
    row: Compute | Interface | Attachment | Storage | Saved,
    snapshot: Snapshot,
    wanted: Iterable[Action],
) -> Iterator[Action]:
    """Those actions that nobody is carrying out, and that were not asked a moment ago."""
    if (row.tag if isinstance(row, Saved) else row.uid) in snapshot.in_hand:
        return
    for action in wanted:
        ours = action.act in (Act.TELL, Act.FORGET)
        if ours or row.act != action.asked or snapshot.now >= row.again:
            yield action


def _compute(row: Compute, snapshot: Snapshot, sites: placement.Sites) -> Iterator[Action]:
    if row.gone:
        return _deleted(row, snapshot)
    extra = _double(row, snapshot)
    if extra:
        return iter([extra])
    if row.desired == "active":
        return _active(row, snapshot, sites)
    if row.desired == "suspended":
        return _suspended(row, snapshot)
    return _inactive(row, snapshot)


def _deleted(row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    seen = [report for report, _ in snapshot.seen.get(row.uid, [])]
    for report in seen:
        yield Action(Act.DESTROY, row.uid, "its owner deleted it", report.url, report.node)
    if any(report.node == row.node or not row.node for report in seen):
        return
    if row.lease:
        yield from _cancelled(row, snapshot, "its owner deleted the machine")
        return
    where = snapshot.reports.of_node(row.node)
    sure = where is not None and where.at > row.acted if row.node else snapshot.reports.all_answer
    if sure or not row.lease_at or (row.node and row.node not in snapshot.reports.nodes):
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


def _active(row: Compute, snapshot: Snapshot, sites: placement.Sites) -> Iterator[Action]:
    if not row.lease or not row.job:
        if row.lease or row.state not in LIVE:
            yield from _submitted(row, snapshot, sites)
        return
    report = _of_its_lease(row, snapshot)
    if report is None:
        yield from _ordered(row, snapshot)
        return
    if row.state == "suspended":
        yield Action(Act.RESUME, row.uid, "its user started it", report.url)
    elif row.state == "running" and row.restart:
        yield Action(Act.RESTART, row.uid, "its user restarted it", report.url, row.restart)


def _submitted(row: Compute, snapshot: Snapshot, sites: placement.Sites) -> Iterator[Action]:
    site = sites.of(row)
    bait = placement.submitter(row, snapshot.reports)
    if site.wait or not bait:
        asked = "the bait that was asked for its lease does not answer"
        text = site.wait or (asked if row.lease else "no bait answers")
        if row.reason != text:
            yield Action(Act.TELL, row.uid, text)
        return
    why = "the order was not confirmed" if row.lease else "its user wants it to run"
    yield Action(Act.SUBMIT, row.uid, why, bait, site.node)


def _ordered(row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    """Give the order to whoever says that the lease job waits there, if a witness says so too."""
    for report in snapshot.reports.baits.values():
        waits = row.job in report.waiting.get(row.lease, ()) and report.at > row.acted
        witness = placement.witness(row, report, snapshot.reports)
        if waits and witness and (report.node == row.node or not row.ran):
            why = "its lease job waits there"
            yield Action(Act.ORDER, row.uid, why, report.url, report.node, witness)


def _inactive(row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    if not row.lease:
        return
    report = _of_its_lease(row, snapshot)
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
    report = _of_its_lease(row, snapshot)
    if report and row.state == "running":
        yield Action(Act.SUSPEND, row.uid, "its user suspended it", report.url, row.method)


def _of_its_lease(row: Compute, snapshot: Snapshot) -> Report | None:
    """The report in which the VM lives under its lease, if its row was written after that."""
    found = snapshot.report_of(row)
    if not found or not row.lease or found[1].lease != row.lease or found[0].at <= row.acted:
        return None
    return found[0]


def _card(card: Interface, row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    return _linked(card, row, snapshot, Act.PLUG, Act.UNPLUG)


def _volume(link: Attachment, row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    if not link.gone and not placement.attachable(link, snapshot):
        return iter(())
    return _linked(link, row, snapshot, Act.ATTACH, Act.DETACH)


def _linked(
    link: Interface | Attachment, row: Compute, snapshot: Snapshot, join: Act, part: Act
) -> Iterator[Action]:
    """A running VM is changed at once, one at rest only forgets what it had; it gets its
    links with the next order, which is on its way while it has a lease and does not run."""
    if row.gone:
        return  # its links go with it
    report = _of_its_lease(row, snapshot)
    at_rest = snapshot.reports.of_node(row.node) if row.state and not row.lease else None
    if link.gone and at_rest:
        yield Action(part, link.uid, "its owner deleted it", at_rest.url)
    elif link.gone and not row.lease and not row.state:
        yield Action(Act.FORGET, link.uid, "its owner deleted it, and no node has the machine")
    elif report and row.state == "running":
        if link.gone:
            yield Action(part, link.uid, "its owner deleted it", report.url)
        elif not link.attached and report.at > max(link.acted, row.acted):
            yield Action(join, link.uid, "the machine runs without it", report.url)


def _storage(row: Storage, snapshot: Snapshot) -> Iterator[Action]:
    bait = placement.any_bait(snapshot.reports)
    if row.gone and not row.act:
        yield Action(Act.FORGET, row.uid, "deleted before it was made")
    elif row.gone and bait and all(link.storage != row.uid for link in snapshot.attachments):
        yield Action(Act.DELETE, row.uid, "its owner deleted it", bait)
    elif not row.gone and not row.made and bait:
        yield Action(Act.MAKE, row.uid, "its owner wants it", bait, str(row.size))


def _image(image: Saved, snapshot: Snapshot) -> Iterator[Action]:
    if image.state == "gone":
        if bait := placement.any_bait(snapshot.reports):
            yield Action(Act.UNSAVE, image.tag, "its owner deleted it", bait)
        return
    seen = snapshot.saved_seen.get(image.node)
    if image.state != "wanted" or (seen and image.tag in (*seen.busy, *seen.tags)):
        return
    report = snapshot.reports.of_node(image.node)
    if report:
        yield Action(Act.SAVE, image.tag, "its user wants it", report.url, image.machine)
