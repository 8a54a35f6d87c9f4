"""Volumes in cloud VMs: each is plugged into one that writes, or into several that only read it."""

import string
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from bait.cloud.build import CloudBuilder
from bait.cloud.devices import RESTING, Orders, check_detachable, has_begun_anew, without
from bait.ledger.ledger import Ledger
from bait.ledger.records import Given, Row
from bait.ledger.states import MAKING, RUNS
from bait.machine.hardware import Drive
from bait.machine.tasks import Tasks
from bait.volumes.pool import Pool
from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError
from wnodes_lrms.order import Order
from wnodes_lrms.volumes import serial

_NAMES = tuple(f"vd{letter}" for letter in string.ascii_lowercase[2:])  # after disk and seed


@dataclass(eq=False)
class Attachments:
    """The volumes in a node's cloud VMs; the ledger says which VM has which."""

    ledger: Ledger
    builder: CloudBuilder
    tasks: Tasks
    volumes: Pool
    orders: Orders
    # Lease and volume that its guest has been asked to let go of, and which request that was. Not
    # in the ledger: a bridge asks again as long as it wants it.
    _leaving: dict[tuple[str, str], object] = field(init=False, default_factory=dict)
    # Who gives a volume, or takes it away, asks the storage that all nodes share, which may hang:
    # so it is not all news that waits.
    _giving: threading.Lock = field(init=False, default_factory=threading.Lock)
    # VM and volume that is being plugged in: a storage that is slow may take longer than who asked
    # has waited.
    _coming: set[tuple[str, str]] = field(init=False, default_factory=set)
    _guard: threading.Lock = field(init=False, default_factory=threading.Lock)
    _deleted: set[str] = field(init=False, default_factory=set)  # volumes that just are

    def shown(self, row: Row) -> list[dict[str, str]]:
        """The VM's volumes with their names, as the API has them.

        What is only given to the VM is not in it: a bait may have died in between.
        """
        has = {str(volume) for volume in Order.model_validate_json(row.spec).volumes}
        return [
            {"id": volume, "device": given.device}
            for volume, given in self.ledger.attached(row.id).items()
            if volume in has
        ]

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
        with self._giving:
            for machine in self.ledger.holders(volume):
                raise ConflictError(f"volume {volume} is in VM {machine}")
            self._check_not_deleted(volume)
            self._deleted.add(volume)  # nobody takes it: of a large one it may take long
        try:
            self.volumes.delete(volume)
        finally:
            self._deleted.discard(volume)

    def _check_not_deleted(self, volume: str) -> None:
        if volume in self._deleted:
            raise ConflictError(f"volume {volume} is being deleted")

    def attach_volume(self, row: Row, volume: str, readonly: bool = False) -> str:
        """Plug a volume into the running VM; the device that the guest sees. One that is in is
        success. Raises UnknownError while it is being plugged in for another request."""
        if (row.lease, volume) in self._leaving:
            raise ConflictError("the guest has been asked to let go of it, and has not yet")
        with self._alone(row.id, volume):
            return self._attach(row, volume, readonly)

    @contextmanager
    def _alone(self, machine: str, volume: str) -> Iterator[None]:
        """One request at a time: what one is at, the fault of another must not take back."""
        with self._guard:
            self._check_not_coming(machine, volume)
            self._coming.add((machine, volume))
        try:
            yield
        finally:
            with self._guard:
                self._coming.discard((machine, volume))

    def _check_not_coming(self, machine: str, volume: str) -> None:
        if (machine, volume) in self._coming:
            raise UnknownError("the volume is being plugged in, and that is slow")

    def _attach(self, row: Row, volume: str, readonly: bool) -> str:
        drive, id_ = self._take(row.id, volume, readonly), UUID(volume)
        try:
            if not self.builder.has(row.id, drive):
                with self.volumes.claim(volume, readonly=readonly):
                    lost = volume not in self.ledger.attached(row.id)  # as in a cold restart
                    if lost or has_begun_anew(self.ledger, row):
                        raise ConflictError("the VM has ended meanwhile, and begun anew: ask again")
                    self.builder.plug(row.id, drive)
        except UnknownError:
            raise  # it may be in
        except WnodesError:
            with self.tasks.news:  # nobody begins meanwhile
                if not has_begun_anew(self.ledger, row):  # then its new order says what it has
                    self.ledger.detach(row.id, volume)
            raise
        reads = (id_,) if drive.readonly else ()
        self.orders.change(
            row.id,
            lambda order: {
                "volumes": (*without(order.volumes, id_), id_),
                "readonly": (*without(order.readonly, id_), *reads),
            },
        )
        return drive.device

    def detach_volume(self, row: Row, volume: str) -> None:
        """Take a volume out; one that is not in is success.

        Raises ConflictError as long as the guest has not let go of it: until then it is nobody
        else's. Raises UnknownError while it is still being plugged in.
        """
        self._check_not_coming(row.id, volume)
        mine = self.ledger.attached(row.id)
        if volume in mine:
            check_detachable(row)
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
            rests = now is not None and now.state in RESTING
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
        self.orders.change(
            machine,
            lambda order: {
                "volumes": without(order.volumes, id_),
                "readonly": without(order.readonly, id_),
            },
        )
        self.ledger.detach(machine, volume)
        self._leaving.pop((lease, volume), None)

    def _take(self, machine: str, volume: str, readonly: bool) -> Drive:
        with self._giving:  # nor must two volumes see the same device free
            mine = self.ledger.attached(machine)
            if volume in mine:
                return self._drive(volume, mine[volume])
            taken = {given.device for given in mine.values()}
            device = next((name for name in _NAMES if name not in taken), None)
            if device is None:
                raise ConflictError(f"the VM has {len(mine)} volumes: no more can be attached")
            self._check_not_deleted(volume)
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
