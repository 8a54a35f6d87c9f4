"""Where the files of a VM are."""

from dataclasses import dataclass
from pathlib import Path

from bait.privileges.removal import remove
from wnodes_lrms.config.load import Config

SCRATCH_FILE = "scratch.raw"


@dataclass(frozen=True)
class Paths:
    """Where the files of a VM are."""

    disks: Path  # on disk: overlay and console log
    runtime: Path  # best in memory: seed and keys

    @property
    def disk(self) -> Path:
        """The overlay on the cached image."""
        return self.disks / "disk.qcow2"

    @property
    def scratch(self) -> Path:
        """The scratch disk of a batch VM that has one."""
        return self.disks / SCRATCH_FILE

    @property
    def kernel(self) -> Path:
        """A copy of the image's, for libvirt lends it to QEMU's user, who could change it."""
        return self.disks / "kernel"

    @property
    def initrd(self) -> Path:
        """The same of what the kernel starts with."""
        return self.disks / "initrd"

    @property
    def console(self) -> Path:
        """What the guest wrote on its serial console."""
        return self.disks / "console.log"

    @property
    def ran(self) -> Path:
        """There when the domain is started: from then on the disk has its user's work."""
        return self.disks / "ran"

    @property
    def memory(self) -> Path:
        """A hibernated VM's memory."""
        return self.disks / "memory"

    def share(self, number: int) -> Path:
        """Leads to a shared folder. By this name QEMU's server of it is known as this VM's."""
        return self.disks / f"share{number}"

    @property
    def owner(self) -> Path:
        """Whose the VM is, for the server of its shared folders: uid, gid and the other gids,
        and what its image's kernel can. hooks/virtiofsd.py reads it."""
        return self.disks / "owner"

    @property
    def seed(self) -> Path:
        """The contextualization disk."""
        return self.runtime / "seed.iso"

    @property
    def key(self) -> Path:
        """The private key that opens the owner's account. The owner's starter is told it."""
        return self.runtime / "key"

    @property
    def known_hosts(self) -> Path:
        """The guest's host key, as ssh(1) reads it."""
        return self.runtime / "known_hosts"

    def clear(self) -> None:
        """Remove what is of no use without the domain; what is gone already is success."""
        remove(self.runtime)
        for copy in (self.kernel, self.initrd):
            copy.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all of them; what is gone already is success."""
        remove(self.runtime)
        remove(self.disks)


def paths(config: Config, machine: str) -> Paths:
    """The files of the VM with this id."""
    return Paths(
        Path(config.bait.state_dir) / "machines" / machine,
        Path(config.bait.run_dir) / "machines" / machine,
    )
