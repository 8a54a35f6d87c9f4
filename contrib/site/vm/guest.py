"""Boots the VM, and runs commands there over SSH."""

import shlex
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..booted.place import ADDRESS, SOURCES, Place
from ..box.errors import SiteError
from ..box.layout import Memory
from ..box.process import CLEAN, Processes, wait_until

QEMU = "vm"
_BOOT = 1800.0  # seconds
_BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")
# Emulated, as a machine that tests may have no other way: a model that boots without fail there
# (with `max` a boot failed in glibc), and has no virtualization, which would not work.
_OPTIONS = (
    *("-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "2", "-m", "4096"),
    *("-display", "none", "-monitor", "none", "-serial", "stdio"),
)
_KERNEL = "root=/dev/vda rw console=ttyS0 apparmor=1 security=apparmor"


class Guest:
    """The VM of one Debian, up or not. What it changes on its disk is gone with it."""

    def __init__(self, place: Place) -> None:
        self.folder = place.folder / "vm"
        self._memory = Memory(self.folder / "state.json")
        self._processes = Processes(self._memory, self.folder)

    @property
    def console(self) -> Path:
        """All that its kernel and its units have said."""
        return self._processes.log(QEMU)

    def boot(self) -> None:
        """Start it, unless it is up, and wait until systemd has started all. Raises SiteError."""
        if self._processes.pid(QEMU) is None:
            self.console.unlink(missing_ok=True)
            self._memory.set("port", _free_port())
            self._processes.start(QEMU, self._command(), {"TMPDIR": str(self.folder)})
        self._await(before="")

    def reboot(self) -> None:
        """As an administrator does it; comes back when it is up again. Raises SiteError."""
        before = self.output(*_BOOT_ID)
        self.output("systemctl", "reboot")
        self._await(before)

    def down(self) -> None:
        """End it, at once: nothing of it is kept."""
        self._processes.stop(QEMU)

    def output(self, *argv: str) -> str:
        """What a command says in there, whatever its exit code; nothing if it can't be run."""
        done = subprocess.run(
            self._ssh(argv), env=CLEAN, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def command(self, argv: Sequence[str]) -> list[str]:
        """What runs a command there, in the sources, with our streams."""
        return self._ssh(["env", f"--chdir={SOURCES}", "DEBIAN_FRONTEND=noninteractive", *argv])

    def unpack(self, packed: bytes, folder: str) -> None:
        """Unpack a tar file in a folder there, all of it root's. Raises SiteError."""
        argv = self._ssh(["tar", "--extract", "--no-same-owner", f"--directory={folder}"])
        done = subprocess.run(argv, env=CLEAN, input=packed, capture_output=True, check=False)
        if done.returncode != 0:
            raise SiteError(f"files can't be put into {folder}: {done.stderr.decode()}", "see why")

    def _await(self, before: str) -> None:
        """Wait until it is up, in another boot than the one named. Raises SiteError."""
        said = ""

        def up() -> bool:
            nonlocal said
            if self._processes.pid(QEMU) is None:
                return True
            if self.output(*_BOOT_ID) in ("", before):
                return False
            said = self.output("systemctl", "is-system-running")
            return said in ("running", "degraded")

        if not wait_until(up, _BOOT, pause=2) or self._processes.pid(QEMU) is None:
            raise SiteError(f"the VM does not boot: {said or 'no answer'}", "see", self.console)
        if said == "degraded":
            failed = self.output("systemctl", "--failed", "--plain", "--no-legend")
            raise SiteError(f"a unit failed in the VM: {failed}", "see its journal")

    def _command(self) -> list[str]:
        port = self._memory.get("port")
        return [
            *("qemu-system-x86_64", *_OPTIONS, "-append", _KERNEL),
            *("-kernel", str(self.folder / "kernel"), "-initrd", str(self.folder / "initrd")),
            "-drive",
            f"file={self.folder}/disk,format=raw,if=virtio,snapshot=on,cache=unsafe",
            *("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-{ADDRESS}:22"),
        ]

    def _ssh(self, argv: Sequence[str]) -> list[str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "20",
            # One connection for all: each takes over a second to be made.
            "ControlMaster": "auto",
            "ControlPath": f"{self.folder}/ssh",
            "ControlPersist": "600",
            "IdentityFile": f"{self.folder}/key",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "20",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        port = str(self._memory.get("port"))
        return ["ssh", "-F", "none", *words, "-p", port, "root@127.0.0.1", shlex.join(argv)]


def _free_port() -> int:
    """One of this machine's own, that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
