"""All that the driver decides from: what users want, what was seen, what is being done. Values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from occi_bridge.driver.replies import SavedImages
from occi_bridge.driver.reports import Machine, Report, Reports
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Saved, Storage

Target = Compute | Interface | Attachment | Storage | Network | Saved
Values = dict[str, object]  # new values of a row's columns


def name(row: Target) -> str:
    """How the log calls a row."""
    if isinstance(row, Saved):
        return f"image {row.tag}"
    return f"{type(row).__name__.lower()} {row.uid}"


@dataclass(frozen=True)
class Snapshot:
    """The rows of the database, and what the baits said. `now` is in seconds since the epoch."""

    now: float
    computes: tuple[Compute, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    storages: tuple[Storage, ...] = ()
    networks: tuple[Network, ...] = ()
    saved: tuple[Saved, ...] = ()
    reports: Reports = field(default_factory=Reports)
    saved_seen: Mapping[str, SavedImages] = field(default_factory=dict)  # by node
    under_way: frozenset[str] = frozenset()  # uids (tags) that something is being done for
    spans: bool = False  # private networks reach from node to node

    @cached_property
    def seen(self) -> dict[str, list[tuple[Report, Machine]]]:
        """Who said what of each VM, by its uid."""
        found: dict[str, list[tuple[Report, Machine]]] = {}
        for report in self.reports.baits.values():
            for machine in report.machines.values():
                found.setdefault(machine.id, []).append((report, machine))
        return found

    @cached_property
    def vms(self) -> dict[str, Compute]:
        """The VMs, by their uid."""
        return {row.uid: row for row in self.computes}

    @cached_property
    def by_uid(self) -> dict[str, Target]:
        """All rows, by their uid (images by their tag)."""
        found: dict[str, Target] = {image.tag: image for image in self.saved}
        for group in (
            self.computes,
            self.interfaces,
            self.attachments,
            self.storages,
            self.networks,
        ):
            found.update({row.uid: row for row in group})
        return found

    def outcomes(self, row: Compute) -> Mapping[str, str]:
        """Why leases ended, as the bait of a VM's own node tells, and nobody else's."""
        report = self.reports.of_node(row.home)
        return report.outcomes if report else {}

    @cached_property
    def leases(self) -> frozenset[str]:
        """The leases that VMs have, by their rows."""
        return frozenset(row.lease for row in self.computes if row.lease)

    @cached_property
    def cards(self) -> dict[str, list[Interface]]:
        """The network cards of each VM."""
        found: dict[str, list[Interface]] = {}
        for card in self.interfaces:
            found.setdefault(card.compute, []).append(card)
        return found

    @cached_property
    def volumes(self) -> dict[str, list[Attachment]]:
        """The linked volumes of each VM."""
        found: dict[str, list[Attachment]] = {}
        for attachment in self.attachments:
            found.setdefault(attachment.compute, []).append(attachment)
        return found

    @cached_property
    def claims(self) -> dict[str, list[Report]]:
        """Who says that a job of a lease waits there for its order, by the lease."""
        found: dict[str, list[Report]] = {}
        for report in self.reports.baits.values():
            for lease in report.waiting:
                found.setdefault(lease, []).append(report)
        return found

    @cached_property
    def linked(self) -> dict[str, list[Attachment]]:
        """The links of each volume, by its uid."""
        found: dict[str, list[Attachment]] = {}
        for attachment in self.attachments:
            found.setdefault(attachment.storage, []).append(attachment)
        return found

    @cached_property
    def copies(self) -> dict[str, list[Storage]]:
        """The copies of each volume that are still to be made, by its uid."""
        found: dict[str, list[Storage]] = {}
        for copy in self.storages:
            if copy.source and not (copy.made or copy.gone or copy.reason):
                found.setdefault(copy.source, []).append(copy)
        return found

    def report_of(self, row: Compute) -> tuple[Report, Machine] | None:
        """What is to be believed of a VM: the word of its own node. None where there is none.

        One that no node has yet can't live under its lease, for no order was given; under another
        it may be found after the database was put back from a backup.
        """
        found = [
            (report, machine)
            for report, machine in self.seen.get(row.uid, [])
            if (report.node == row.home if row.home else machine.lease not in self.leases)
        ]
        return max(found, key=lambda pair: pair[1].since, default=None)

    def of_its_lease(self, row: Compute) -> Report | None:
        """The report in which the VM lives under its lease, if its row was written after that."""
        found = self.report_of(row)
        if not found or not row.lease or found[1].lease != row.lease or found[0].at <= row.acted:
            return None
        return found[0]
