"""The meter: brings the journal of usage up to date for what runs."""

import logging
import os
from collections.abc import Collection
from pathlib import Path

from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from bait.ledger.records import Load
from bait.machine.files import paths
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import WnodesError

_GIB = 1 << 30
_QCOW2 = b"QFI\xfb"

log = logging.getLogger(__name__)


class Meter:
    """Says in the ledger what the VMs of one node use: time, disk, traffic of their cards."""

    def __init__(self, config: Config, ledger: Ledger, hypervisor: Hypervisor) -> None:
        self._config = config
        self._ledger = ledger
        self._hypervisor = hypervisor
        self._sizes: dict[str, int] = {}

    def tick(self, running: Collection[str]) -> None:
        """Count what all VMs that were just seen running have used."""
        if running:
            self._sizes = {id_: size for id_, size in self._sizes.items() if id_ in running}
            self.weigh(running)

    def weigh(self, machines: Collection[str]) -> None:
        """Count what these VMs have used."""
        try:
            traffic = self._hypervisor.traffic()
            loads = {id_: Load(self._size(id_), traffic.get(id_, {})) for id_ in machines}
            self._ledger.tick(loads)
        except WnodesError as error:  # the next one catches up
            log.debug("usage: %s", error)

    def _size(self, machine: str) -> int:
        """GiB that the VM's disk can hold, asked once; 0: not known."""
        if machine not in self._sizes:
            try:
                size = _size_of(paths(self._config, machine).disk)
            except OSError:
                return 0
            if size is None:
                return 0
            self._sizes[machine] = -(-size // _GIB)
        return self._sizes[machine]


def _size_of(disk: Path) -> int | None:
    """Bytes of the disk that a guest sees, by its header (QEMU's manual, "qcow2").

    No program looks into it: whoever has broken out into QEMU may have written it, and a header
    can name other files. Raises OSError.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(disk, flags), "rb") as file:
        head = file.read(32)
    if len(head) < 32 or not head.startswith(_QCOW2):
        return None
    return int.from_bytes(head[24:32], "big")
