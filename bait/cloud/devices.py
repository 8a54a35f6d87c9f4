"""What is plugged into a running cloud VM: volumes and network cards."""

import string
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from bait.cloud.build import CloudBuilder
from bait.cloud.offers import vet
from bait.cloud.pools import Pool
from bait.ledger.ledger import Ledger
from bait.ledger.records import Given, Row
from bait.ledger.states import MAKING, RUNS
from bait.machine.hardware import Drive
from bait.machine.tasks import Tasks
from bait.network.addresses import free_address
from bait.network.surroundings import own_macs, surroundings
from wnodes_lrms.errors import ConflictError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.model import Kind, State
from wnodes_lrms.order import Nic, Order
from wnodes_lrms.rates import Rates
from wnodes_lrms.volumes import serial

_NAMES = tuple(f"vd{letter}" for letter in string.ascii_lowercase[2:])  # after disk and seed
_COMING = "cards being plugged in"  # of the ledger's note
_RESTING = (State.STOPPED, State.FAILED)  # no guest, and no memory of one, has a device
_DETACHABLE = (*RUNS, *_RESTING)

_T = TypeVar("_T")


@dataclass(eq=False)
class Devices:
    """The devices of a node's cloud VMs; the ledger says which VM has which volume."""

    ledger: Ledger
    builder: CloudBuilder
    tasks: Tasks
    volumes: Pool
    # Lease and volume that its guest has been asked to let go of, and which request that was. Not
    # in the ledger: a bridge asks again as long as it wants it.
    _leaving: dict[tuple[str, str], object] = field(init=False, default_factory=dict)
    # Who gives a volume, or takes it away, asks the storage that all nodes share, which may hang:
    # so it is not all news that waits.
    _giving: threading.Lock = field(init=False, default_factory=threading.Lock)

    def shown(self, row: Row) -> dict[str, Any]:
        """The cards with their addresses and the volumes with their names, as the API has them.

        What is only written down, or given to the VM, is not in it: a bait may have died in
        between.
        """
        order = Order.model_validate_json(row.spec)
        coming = self._coming()
        has = {str(volume) for volume in order.volumes}
        return {
            "nics": [
                self._shown(nic, row) for nic in order.nics if _coming(row, nic) not in coming
            ],
            "volumes": [
                {"id": volume, "device": given.device}
                for volume, given in self.ledger.attached(row.id).items()
                if volume in has
            ],
        }

    def vet(self, nics: Sequence[Nic], machine: str = "") -> None:
        """Raises RejectedError unless the node can have these new cards.

        They may be in the place of those that `machine` has had.
        """
        rows = [row for row in self.ledger.rows() if row.kind is Kind.CLOUD and row.id != machine]
        others = [nic for row in rows for nic in Order.model_validate_json(row.spec).nics]
        config = self.builder.vms.config
        vet(nics, others, config.cloud.network, own_macs(), surroundings().addresses)
        tunnels, private = config.network.tunnels, any(nic.kind == "isolated" for nic in nics)
        if tunnels and private and self.builder.tunnel_end() is None:
            raise RejectedError(f"this node has no address in {tunnels}: see [network] tunnels")

    def address(
        self, row: Row, order: Order, what: str, being: Collection[State], **values: object
    ) -> Row | None:
        """Give the VM its address on the node's network, if it needs one and has none.

        The other values of its row are changed with it. None, and no change, if the VM is
        not in one of the states `being`.
        """
        with self.tasks.news:  # two VMs must not see the same address free
            address = row.address
            if address is None and any(nic.kind == "nat" for nic in order.nics):
                used = {r.address for r in self.ledger.rows() if r.address}
                address = str(free_address(self.builder.vms.config.network.subnet, used))
            return self.ledger.move(row, what, being, address=address, **values)

    def take_volumes(self, order: Order) -> tuple[Drive, ...]:
        """The volumes that a VM starts with; one that it had keeps its device.

        Raises ConflictError if one is taken, AbsentError if there is none.
        """
        machine, lease = str(order.machine), str(order.lease)
        wanted = [str(volume) for volume in order.volumes]
        for volume in [volume for volume in wanted if (lease, volume) in self._leaving]:
            wanted.remove(volume)  # its domain has ended, and so it has let go
            self._gone(machine, lease, volume)
        for volume in self.ledger.attached(machine).keys() - set(wanted):
            self.ledger.detach(machine, volume)
        readers = {str(volume) for volume in order.readonly}
        for volume, given in self.ledger.attached(machine).items():
            if given.readonly is not (volume in readers):
                self.ledger.detach(machine, volume)  # it is another link now
        return tuple(self._take(machine, volume, volume in readers) for volume in wanted)

    @contextmanager
    def claimed(self, order: Order) -> Iterator[None]:
        """While a VM opens its volumes, as it starts: see Pool.claim."""
        with ExitStack() as claims:
            for volume in order.volumes:
                readonly = volume in order.readonly
                claims.enter_context(self.volumes.claim(str(volume), readonly=readonly))
            yield

    def have_volume(self, volume: str, size: int) -> None:
        """Have a volume of `size` GiB: made, or grown, also for a guest that has it.

        One that is that large, or larger, is success.
        """
        holders = self.ledger.holders(volume)
        rows = [row for row in map(self.ledger.get, holders) if row]
        for row in rows:
            if row.state in MAKING:
                raise ConflictError(f"a VM that has the volume is {row.state}: ask again")
        self.volumes.create(volume, size)
        for row in rows:
            if row.state in RUNS and not holders[row.id].readonly:  # QEMU resizes no other
                drive = Drive(Path(), holders[row.id].device, serial(volume))
                self.builder.grow(row.id, drive, size)

    def has_room(self, row: Row) -> bool:
        """Whether the VM's volumes can be written again."""
        return not self.ledger.attached(row.id) or self.volumes.has_room()

    def are_copied(self, order: Order) -> bool:
        """Whether copies are being made of volumes that a VM is to write on: QEMU could not open
        them."""
        writes = {*order.volumes} - {*order.readonly}
        return any(self.volumes.is_read(str(volume)) for volume in writes)

    def delete_volume(self, volume: str) -> None:
        """Remove a volume; one that is gone is success. Raises ConflictError while a VM has it."""
        with self._giving:  # nobody takes it meanwhile
            for machine in self.ledger.holders(volume):
                raise ConflictError(f"volume {volume} is in VM {machine}")
            self.volumes.delete(volume)

    def attach_volume(self, row: Row, volume: str, readonly: bool = False) -> str:
        """Plug a volume into the running VM; the device that the guest sees. One that is in is
        success."""
        if (row.lease, volume) in self._leaving:
            raise ConflictError("the guest has been asked to let go of it, and has not yet")
        drive, id_ = self._take(row.id, volume, readonly), UUID(volume)
        try:
            if not self.builder.has(row.id, drive):
                with self.volumes.claim(volume, readonly=readonly):
                    self.builder.plug(row.id, drive)
        except UnknownError:
            raise  # it may be in
        except WnodesError:
            self.ledger.detach(row.id, volume)
            raise
        reads = (id_,) if drive.readonly else ()
        self._keep(
            row.id,
            lambda order: {
                "volumes": (*_without(order.volumes, id_), id_),
                "readonly": (*_without(order.readonly, id_), *reads),
            },
        )
        return drive.device

    def detach_volume(self, row: Row, volume: str) -> None:
        """Take a volume out; one that is not in is success.

        Raises ConflictError as long as the guest has not let go of it: until then it is nobody
        else's.
        """
        mine = self.ledger.attached(row.id)
        if volume in mine:
            _detachable(row)
            if row.state in RUNS:
                drive = Drive(Path(), mine[volume].device, serial(volume))
                asked = self._leaving.setdefault((row.lease, volume), object())
                try:
                    self.builder.unplug(row.id, drive)
                except ConflictError:
                    if not self._rests_without(row, volume):  # it may just have stopped
                        raise
                else:
                    self._has_gone(row, volume, asked)
            elif not self._rests_without(row, volume):
                raise ConflictError("the VM has been started meanwhile: ask again")

    def _rests_without(self, row: Row, volume: str) -> bool:
        """Free a volume, if its VM is at rest now, whatever it did when its row was read."""
        with self.tasks.news:  # nobody starts it meanwhile
            now = self.ledger.get(row.id)
            rests = now is not None and now.state in _RESTING
            if rests:
                self._gone(row.id, row.lease, volume)
            return rests

    def let_go(self, row: Row) -> None:
        """The guest has let go of something: a volume may be free."""
        for volume, given in self.ledger.attached(row.id).items():
            asked = self._leaving.get((row.lease, volume))
            drive = Drive(Path(), given.device, serial(volume))
            if asked and not self.builder.has(row.id, drive):
                self._has_gone(row, volume, asked)

    def _has_gone(self, row: Row, volume: str, asked: object) -> None:
        """The guest has let go, as it was asked to; who says so second changes nothing."""
        with self.tasks.news:
            if self._leaving.get((row.lease, volume)) is asked:
                self._gone(row.id, row.lease, volume)
                self.tasks.tell()

    def _gone(self, machine: str, lease: str, volume: str) -> None:
        id_ = UUID(volume)
        self._keep(
            machine,
            lambda order: {
                "volumes": _without(order.volumes, id_),
                "readonly": _without(order.readonly, id_),
            },
        )
        self.ledger.detach(machine, volume)
        self._leaving.pop((lease, volume), None)

    def attach_nic(self, row: Row, nic: Nic) -> dict[str, Any]:
        """Plug a card into the running VM; its addresses. One that is in is success."""
        order = Order.model_validate_json(row.spec)
        there = next((other for other in order.nics if other.id == nic.id), None)
        if nic.rates:
            self._need_limits()
        if there and there.rates != nic.rates:
            self._limit(row, there, nic.rates)
        if there is None:
            if nic.kind == "nat" and any(other.kind == "nat" for other in order.nics):
                raise ConflictError("the VM has a card on the node's own network")
            order = order.model_copy(update={"nics": (*order.nics, nic)})
            with self.tasks.news:  # two cards must not see the same address free
                self.vet((nic,))
                row = self.address(row, order, f"card {nic.id}", RUNS) or row
                self._comes(row, nic)
                self._keep(row.id, lambda order: {"nics": (*order.nics, nic)})
            try:
                self.builder.plug(row.id, self.builder.card(nic, row.address))
            except UnknownError:
                raise  # it may be in
            except WnodesError:
                self._keep(row.id, lambda order: {"nics": _without(order.nics, nic)})
                self._has_come(row, nic)
                raise
            self._has_come(row, nic)
        elif _coming(row, nic) in self._coming():
            self.builder.plug(row.id, self.builder.card(there, row.address))
            self._has_come(row, nic)
        return self._shown(nic, row)

    def _coming(self) -> set[str]:
        """The cards that were written down, and may not be plugged in."""
        return set((self.ledger.note(_COMING) or "").split())

    def _comes(self, row: Row, nic: Nic) -> None:
        leases = {each.lease for each in self.ledger.rows()}
        still = {name for name in self._coming() if name.partition("/")[0] in leases}
        self.ledger.set_note(_COMING, " ".join(sorted({*still, _coming(row, nic)})))

    def _has_come(self, row: Row, nic: Nic) -> None:
        with self.tasks.news:
            coming, gone = self._coming(), _coming(row, nic)
            if gone in coming:
                self.ledger.set_note(_COMING, " ".join(sorted(coming - {gone})) or None)

    def _limit(self, row: Row, there: Nic, rates: Rates) -> None:
        """Have a card that is in carry this much."""
        now = there.model_copy(update=asdict(rates))

        def change(order: Order) -> dict[str, Any]:
            return {"nics": tuple(now if nic.id == now.id else nic for nic in order.nics)}

        self._keep(row.id, change)
        self.builder.vms.shaper.keep()

    def _need_limits(self) -> None:
        """Raises RejectedError if the node refuses cards that are to be limited."""
        try:
            self.builder.vms.shaper.need()
        except WnodesError as error:
            raise RejectedError(error.told) from error

    def detach_nic(self, row: Row, card: str) -> None:
        """Take a card out; one that is not in is success."""
        order = Order.model_validate_json(row.spec)
        found = next((nic for nic in order.nics if str(nic.id) == card), None)
        if found:
            _detachable(row)
            if row.state in RUNS:
                self.builder.unplug(row.id, self.builder.card(found, row.address))
            self._keep(row.id, lambda order: {"nics": _without(order.nics, found)})
            self._has_come(row, found)

    def _keep(self, machine: str, change: Callable[[Order], dict[str, Any]]) -> None:
        """Change the VM's order, for its next start in the same lease."""
        with self.tasks.news:  # another device may come or go at the same time
            now = self.ledger.get(machine)
            if now:
                order = Order.model_validate_json(now.spec)
                spec = order.model_copy(update=change(order)).model_dump_json(exclude_defaults=True)
                self.ledger.change(machine, "its devices have changed", spec=spec)

    def _take(self, machine: str, volume: str, readonly: bool) -> Drive:
        with self._giving:  # nor must two volumes see the same device free
            mine = self.ledger.attached(machine)
            if volume in mine:
                return self._drive(volume, mine[volume])
            taken = {given.device for given in mine.values()}
            device = next((name for name in _NAMES if name not in taken), None)
            if device is None:
                raise ConflictError(f"the VM has {len(mine)} volumes: no more can be attached")
            drive = self._drive(volume, Given(device, readonly))
            if not readonly and self.volumes.is_read(volume):
                raise ConflictError(f"volume {volume} is being copied: ask again")
            # The ledger knows this node's VMs alone.
            self.volumes.check_unused(volume, readonly=readonly)
            if not self.ledger.attach(volume, machine, device, readonly=readonly):
                raise ConflictError(f"volume {volume} is another VM's")
            return drive

    def _drive(self, volume: str, given: Given) -> Drive:
        return Drive(
            self.volumes.source(volume),
            given.device,
            serial(volume),
            self.builder.disk_limit(),
            given.readonly,
        )

    def _shown(self, nic: Nic, row: Row) -> dict[str, Any]:
        own = {"id": str(nic.id), "inbound": nic.inbound, "outbound": nic.outbound}
        if nic.kind != "nat":
            address = nic.address.partition("/")[0] if nic.address else ""
            tap = self.builder.vms.taps.other_card(nic).tap
            return {**own, "mac": nic.mac, "address": address, **self._flows(tap)}
        if not row.address:
            return {**own, "mac": "", "address": ""}
        card = self.builder.vms.taps.own_card(row.address)
        return {**own, "mac": card.mac, "address": row.address, **self._flows(card.tap)}

    def _flows(self, tap: str) -> dict[str, Any]:
        flows = self.builder.vms.shaper.flows().get(tap)
        return (
            {"flows": {way: flow for way, flow in asdict(flows).items() if flow}} if flows else {}
        )


def _detachable(row: Row) -> None:
    if row.state not in _DETACHABLE:
        raise ConflictError(f"the VM is {row.state}: nothing can be taken out of it now")


def _coming(row: Row, nic: Nic) -> str:
    """A card in a lease: in the next one its VM starts with it."""
    return f"{row.lease}/{nic.id}"


def _without(devices: tuple[_T, ...], gone: _T) -> tuple[_T, ...]:
    return tuple(device for device in devices if device != gone)
