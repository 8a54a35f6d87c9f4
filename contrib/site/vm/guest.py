"""Boots the VM, and runs commands there over SSH.

What it changes on its disk lies in a file above that, and a state of the whole VM can be saved
there, to which it comes back.
"""

import shlex
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..booted.place import ADDRESS, SOURCES, Place
from ..box.errors import SiteError
from ..box.layout import Memory
from ..box.process import CLEAN, Processes, run, wait_until
from . import monitor

QEMU = "vm"
_BOOT = 3600.0  # seconds; that much on a machine that has more to do
_SAVE = 1800.0
_SAVED = "saved"
_BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")
# Emulated, as a machine that tests may have no other way: a model that boots without fail there
# (with `max` a boot failed in glibc), and has no virtualization, which would not work.
_OPTIONS = (
    *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2"),
    *("-m", "4096"),
    *("-display", "none", "-serial", "stdio"),
)
# What protects a CPU from speculation is dear where there is none: a kernel that hides its pages
# from programs changes page tables with each system call and each interrupt, and an emulator then
# forgets all addresses that it has looked up. With addresses that are the same in all processes it
# has less to translate. A watchdog would take the TSC, which is read at once, for a bad clock, and
# reading another one takes an emulated device. And no line of AppArmor's may fall out of the log.
_KERNEL = (
    "root=/dev/vda rw console=ttyS0 apparmor=1 security=apparmor"
    " mitigations=off norandmaps tsc=reliable log_buf_len=4M"
)


class Guest:
    """The VM of one Debian, up or not."""

    def __init__(self, place: Place) -> None:
        self.folder = place.folder / "vm"
        self.memory = Memory(self.folder / "state.json")
        self._processes = Processes(self.memory, self.folder)

    @property
    def console(self) -> Path:
        """All that its kernel and its units have said."""
        return self._processes.log(QEMU)

    def boot(self) -> None:
        """Start it, with the disk as it was made, and wait until systemd has started all.

        Raises SiteError.
        """
        for name in (_SAVED, "passed"):
            self.memory.set(name, None)
        create = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw")
        run([*create, "-b", str(self.folder / "disk"), str(self._changes)])
        self.console.unlink(missing_ok=True)
        self._start()
        self.await_boot(before="")

    def save(self) -> None:
        """Remember its state, memory and disk, in place of one from before. Raises SiteError."""
        if self.memory.get(_SAVED):
            monitor.tell(self._monitor, f"delvm {_SAVED}", _SAVE)
        monitor.tell(self._monitor, f"savevm {_SAVED}", _SAVE)
        self.memory.set(_SAVED, True)

    def resume(self) -> None:
        """Let it go on from the state that was saved. Raises SiteError."""
        if not self.memory.get(_SAVED):
            raise SiteError("no state of the VM was saved", "run it without --again")
        self._start("-loadvm", _SAVED)
        self.await_boot(before="")

    def reboot(self) -> None:
        """As an administrator does it; comes back when it is up again. Raises SiteError."""
        before = self.output(*_BOOT_ID)
        self.output("systemctl", "reboot")
        self._hang_up()
        self.await_boot(before)

    def down(self) -> None:
        """End it, at once. What was saved is kept."""
        if self._processes.names():
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

    def await_boot(self, before: str) -> None:
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

    @property
    def _changes(self) -> Path:
        return self.folder / "changes.qcow2"

    @property
    def _monitor(self) -> Path:
        return self.folder / "monitor"

    def _start(self, *more: str) -> None:
        self.memory.set("port", _free_port())
        command = [*self._command(), *more]
        self._processes.start(QEMU, command, {"TMPDIR": str(self.folder)})

    def _command(self) -> list[str]:
        port = self.memory.get("port")
        return [
            *("qemu-system-x86_64", *_OPTIONS, "-append", _KERNEL),
            *("-kernel", str(self.folder / "kernel"), "-initrd", str(self.folder / "initrd")),
            *("-drive", f"file={self._changes},if=virtio,cache=unsafe,discard=unmap"),
            *("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-{ADDRESS}:22"),
            *("-qmp", f"unix:{self._monitor},server=on,wait=off"),
        ]

    def _hang_up(self) -> None:
        """End the connection that all share: what is at its other end will not say that it goes."""
        argv = self._ssh([])
        argv[1:1] = ["-O", "exit"]
        subprocess.run(argv, env=CLEAN, capture_output=True, check=False)

    def _ssh(self, argv: Sequence[str]) -> list[str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "20",
            # One connection for all: each takes over a second to be made.
            "ControlMaster": "auto",
            "ControlPath": f"{self.folder}/ssh-%p",
            "ControlPersist": "600",
            "IdentityFile": f"{self.folder}/key",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "20",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        port = str(self.memory.get("port"))
        command = [shlex.join(argv)] if argv else []
        return ["ssh", "-F", "none", *words, "-p", port, "root@127.0.0.1", *command]


def _free_port() -> int:
    """One of this machine's own, that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
