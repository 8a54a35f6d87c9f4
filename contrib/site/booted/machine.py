"""Boots a root in namespaces of its own, and runs commands there.

All that runs in the container, its mounts and its network are in namespaces that end with one
process, the keeper: whatever happens, nothing is left once that is gone.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..box.errors import SiteError
from ..box.layout import REPOSITORY, Memory
from ..box.process import CLEAN, Processes, wait_until
from .place import HOST, SOURCES, Place

KEEPER = "container"
PROGRAM = Path(__file__).with_name("keeper")
NAMESPACES = (
    *("unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child"),
    "--mount-proc",
)
# Its own sysctl of the network may be written, the machine's other ones not.
ENVIRONMENT = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
}
_LONG = 600  # seconds for what takes some; a machine may be very busy


class Machine:
    """The container of one Debian, up or not."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.memory = Memory(place.state)
        self.processes = Processes(self.memory, place.log)

    def is_up(self) -> bool:
        """Whether it was booted and has not ended."""
        return self.processes.pid(KEEPER) is not None

    def boot(self, *, kept: bool) -> None:
        """Start it, unless it is up, and wait until systemd has started all. Raises SiteError.

        It begins with the files that those before it have left which were `kept`.
        """
        if not self.is_up():
            self.clear()
            layer = self.place.layer(kept=kept)
            for name in ("upper", "work", "root"):
                (layer / name).mkdir(parents=True, exist_ok=True)
            earlier = self.place.layer(kept=True) / "upper"
            below = [earlier] if earlier.exists() and not kept else []
            self._make_groups()
            self.processes.log(KEEPER).unlink(missing_ok=True)
            self.processes.start(
                KEEPER, self._command(layer, [*below, self.place.root]), ENVIRONMENT
            )
        self.await_boot()

    def _command(self, layer: Path, below: Sequence[Path]) -> list[str]:
        place = self.place
        binds = [(place.archives, "/var/cache/apt/archives"), (place.pip, "/root/.cache/pip")]
        devices = [Path("/dev") / name for name in ("net/tun", "fuse", "kvm")]
        return [
            *(*NAMESPACES, str(PROGRAM)),
            *(":".join(map(str, below)), str(layer), self.group),
            *("--quiet", f"--machine={HOST}", f"--hostname={HOST}", "--boot", "--register=no"),
            *("--keep-unit", "--capability=all", "--private-network", "--console=pipe"),
            *("--kill-signal=SIGRTMIN+3", "--resolv-conf=off", "--timezone=off"),
            *(f"--bind={outside}:{inside}" for outside, inside in binds),
            *(f"--bind={device}" for device in devices if device.exists()),
        ]

    def await_boot(self, before: str = "") -> None:
        """Wait until it is up, and for another boot than the one named. Raises SiteError."""
        said = ""

        def up() -> bool:
            nonlocal said
            if not self.is_up():
                return True
            first = self.first()
            if first is None or f"{first}" == before:
                return False
            said = self.output("systemctl", "is-system-running")
            return said in ("running", "degraded")

        if not wait_until(up, _LONG, pause=0.2) or not self.is_up():
            raise SiteError(
                f"the container does not boot: {said or 'no answer'}",
                "see its log; it needs a root that may mount, and control groups that it may write",
                self.processes.log(KEEPER),
            )
        if said == "degraded":
            failed = self.output("systemctl", "--failed", "--plain", "--no-legend")
            raise SiteError(f"a unit failed in the container: {failed}", "see its journal")

    def first(self) -> int | None:
        """The number out here of the first process in there; None if there is none (yet)."""
        keeper = self.processes.pid(KEEPER)
        for pid in _descendants(keeper) if keeper else ():
            status = _status(pid)
            if len(status.get("NSpid", "").split()) == 3 and status["NSpid"].split()[2] == "1":
                return pid if status["Name"].strip() == "systemd" else None
        return None

    def output(self, *argv: str) -> str:
        """What a command says in there, outside any unit; whatever its exit code."""
        done = subprocess.run(
            [*self._enter(), *argv], env=CLEAN, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def command(self, argv: Sequence[str]) -> list[str]:
        """What runs a command there as a unit of its own, in the sources, with our streams."""
        unit = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
        unit += [f"--working-directory={SOURCES}"]
        unit += [f"--setenv={name}={value}" for name, value in _SHELL.items()]
        return [*self._enter(), *unit, "--", *argv]

    def run(self, argv: Sequence[str]) -> int:
        """Run it; its exit code."""
        return subprocess.run(self.command(argv), env=CLEAN, check=False).returncode

    def unpack(self, packed: bytes, folder: str) -> None:
        """Unpack a tar file in a folder there, all of it root's. Raises SiteError."""
        argv = [*self._enter(), "tar", "--extract", "--no-same-owner", f"--directory={folder}"]
        done = subprocess.run(argv, env=CLEAN, input=packed, capture_output=True, check=False)
        if done.returncode != 0:
            raise SiteError(f"files can't be put into {folder}: {done.stderr.decode()}", "see why")

    def reboot(self) -> None:
        """As an administrator does it; comes back when it is up again. Raises SiteError."""
        before = f"{self.first()}"
        self.output("systemctl", "reboot")
        self.await_boot(before)

    def copy_sources(self) -> None:
        """Put this repository's files into it, as a checkout: what is committed or could be."""
        clear = f"mkdir -p {SOURCES} && cd {SOURCES} && find . -mindepth 1 -maxdepth 1"
        self.output("sh", "-c", f"{clear} ! -name .venv ! -name build -exec rm -rf {{}} +")
        files = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others"]
        names = subprocess.run([*files, "--exclude-standard"], stdout=subprocess.PIPE, check=True)
        there = [name for name in names.stdout.split(b"\0") if name and _is_there(name)]
        pack = ["tar", "-C", str(REPOSITORY), "--create", "--null", "--files-from=-"]
        packed = subprocess.run(pack, input=b"\0".join(there), stdout=subprocess.PIPE, check=True)
        self.unpack(packed.stdout, SOURCES)
        self.output("sh", "-c", f"cd {SOURCES} && git init --quiet && git add --all")

    def down(self) -> None:
        """End it: politely, then not. Its changed files go, unless they are kept."""
        self.off()
        self.clear()

    def off(self) -> None:
        """End it: politely, then not. Its changed files stay until it is cleared."""
        keeper = self.processes.pid(KEEPER)
        if keeper is not None and self.first() is not None:
            self.output("systemctl", "poweroff")
            wait_until(lambda: not self.is_up(), _LONG)
        self.processes.stop(KEEPER)

    def forget(self) -> None:
        """Remove the files that were kept. It must be down."""
        shutil.rmtree(self.place.layer(kept=True), ignore_errors=True)

    def clear(self) -> None:
        """Remove what it has left once its processes are gone."""
        for group in self._groups():
            # Those that were killed may take a moment to end.
            if not wait_until(functools.partial(_remove, group), _LONG):
                raise SiteError(f"processes in {group} do not end", "see its cgroup.procs")
        shutil.rmtree(self.place.layer(kept=False), ignore_errors=True)
        work = self.place.layer(kept=True) / "work"
        shutil.rmtree(work, ignore_errors=True)

    @property
    def group(self) -> str:
        """The name of its control groups."""
        return self.place.folder.name

    def _make_groups(self) -> None:
        for name in ("systemd", "unified", "."):
            hierarchy = Path("/sys/fs/cgroup") / name
            if (hierarchy / "cgroup.procs").exists():
                (hierarchy / self.group).mkdir(exist_ok=True)

    def _groups(self) -> list[Path]:
        hierarchies = (Path("/sys/fs/cgroup") / name for name in ("systemd", "unified", "."))
        return [h / self.group for h in hierarchies if (h / self.group / "cgroup.procs").exists()]

    def _enter(self) -> list[str]:
        first = self.first()
        if first is None:
            raise SiteError("the container is not up", f"container {self.place.suite} up")
        return ["nsenter", f"--target={first}", "--all", "--wdns=/"]


# As a login of root's has it, and nobody there to be asked.
_SHELL = {"HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _is_there(name: bytes) -> bool:
    return os.path.lexists(REPOSITORY / os.fsdecode(name))  # one that is deleted is listed too


def _remove(group: Path) -> bool:
    """Remove a control group with those in it, as far as no process is left in them."""
    try:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    except OSError:
        return False
    return True


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _descendants(child)


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value for key, _, value in (line.partition(":") for line in lines)}
