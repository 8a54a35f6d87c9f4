"""What to ask for the links of a VM: network cards and volumes. Pure; see plan.py."""

from collections.abc import Iterator

from occi_bridge.driver import placement
from occi_bridge.driver.actions import Act, Action
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Attachment, Compute, Interface, Storage

_OUT = "out"  # makes another request of it, that is not held back by pauses between tries


def card(link: Interface, row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    """What is to be done for a network card."""
    return _linked(link, row, snapshot, Act.PLUG, Act.UNPLUG)


def volume(link: Attachment, row: Compute, snapshot: Snapshot) -> Iterator[Action]:
    """What is to be done for a linked volume."""
    storage = snapshot.by_uid.get(link.storage)
    if isinstance(storage, Storage) and not link.gone:
        if storage.node and row.home and storage.node != row.home:
            what = f"the volume is on {storage.node}, the VM on {row.home}"
            return iter(() if link.reason == what else [Action(Act.TELL, link.uid, what)])
        if not storage.made:
            return iter(())
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
    report = snapshot.of_its_lease(row)
    at_rest = snapshot.reports.of_node(row.node) if row.state and not row.lease else None
    if link.gone and at_rest:
        # Asked at once where a guest has not let go before, for now there is none.
        yield Action(
            part, link.uid, "its owner deleted it", at_rest.url, _OUT if link.tries else ""
        )
    elif link.gone and not row.lease and not row.state:
        yield Action(Act.FORGET, link.uid, "its owner deleted it, and no node has the VM")
    elif report and row.state == "running":
        if isinstance(link, Attachment) and link.gone and link.tries and _out(link, row, snapshot):
            yield Action(part, link.uid, "the guest has let go of it", report.url, _OUT)
        elif link.gone:
            yield Action(part, link.uid, "its owner deleted it", report.url)
        elif not link.attached and report.at > max(link.acted, row.acted):
            yield Action(join, link.uid, "the VM runs without it", report.url)
        elif isinstance(link, Interface) and report.at > max(link.acted, row.acted):
            seen = {nic.id: nic for nic in report.machines[row.uid].nics}.get(link.uid)
            if seen and seen.rates != link.rates:
                yield Action(join, link.uid, "its throughput is another", report.url)


def _out(link: Attachment, row: Compute, snapshot: Snapshot) -> bool:
    found = snapshot.report_of(row)
    return found is not None and all(each.id != link.storage for each in found[1].volumes)
