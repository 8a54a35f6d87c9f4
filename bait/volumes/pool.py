"""Where users' volumes are: what a bait asks of it, whatever keeps them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from bait.machine.hardware import BlockDevice, RbdImage
from bait.volumes.directory import Directory
from bait.volumes.rbd import Rbd
from bait.volumes.thin import Thin
from wnodes_lrms.config.load import Cloud


class Pool(Protocol):
    """Where volumes live. Every method raises WnodesError if the pool can't do it."""

    forgets: float  # seconds until a QEMU or a bait that was killed is not taken to have a volume

    @property
    def local(self) -> bool:
        """Whether they are this node's alone: VMs of other nodes can't have them."""

    def create(self, volume: str, size: int) -> None:
        """Make a volume of `size` GiB, or have it grow to that; one that has it is success."""

    def delete(self, volume: str) -> None:
        """Remove a volume; one that is gone is success. Raises ConflictError for one in use."""

    def check_unused(self, volume: str, *, readonly: bool = False) -> None:
        """Raises ConflictError where a VM, of whatever node, has a volume; `readonly`: where one
        writes on it."""

    def claim(self, volume: str, *, readonly: bool) -> AbstractContextManager[None]:
        """While a VM of this node opens a volume: none of another node does so meanwhile, as far as
        QEMU's own locks do not hold that.

        Raises ConflictError where one has it, or is about to.
        """

    def is_read(self, volume: str) -> bool:
        """Whether somebody, on whatever node, reads the volume so that no QEMU could write on it
        now."""

    def copy(
        self,
        source: str,
        volume: str,
        moment: AbstractContextManager[object],
        by_qemu: Callable[[Path], None] | None = None,
    ) -> None:
        """Make a volume that is a copy of another, whole or not at all.

        `moment` is entered once, and lasts while that of the copy is taken. Where a running VM of
        this node writes on the volume, `by_qemu` has its QEMU write a copy of that moment into a
        file as large; any other VM that does is a ConflictError. Raises ConflictError, too, where
        the new one is there, or is being made; RejectedError where there is no room.
        """

    def list(self) -> dict[str, int]:
        """Every volume and its size in GiB."""

    def size(self, volume: str) -> int:
        """Its size in GiB. Raises AbsentError if there is no such volume."""

    def has_room(self) -> bool:
        """Whether what is written into volumes finds room."""

    def source(self, volume: str) -> Path | RbdImage | BlockDevice:
        """What QEMU opens. Raises AbsentError if there is no such volume."""

    def sweep(self) -> None:
        """Go on with what a killed bait has left to be done, to its end. Raises nothing."""


def pool_of(cloud: Cloud, node: str) -> Pool:
    """The pool that the site has chosen, as this node uses it."""
    if cloud.pool.kind == "rbd":
        return Rbd(cloud.pool, node)
    if cloud.pool.kind == "lvm":
        return Thin(cloud.pool, wipe=cloud.wipe)
    return Directory(Path(cloud.volumes), wipe=cloud.wipe, local=not cloud.pool.shared)
