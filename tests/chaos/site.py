"""The site in a box as the harness uses it: its processes, to break and to mend, and its nodes'
disks, which can be filled up.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import tomli_w

from contrib.site.box import main, private
from contrib.site.box.layout import NODES, REPOSITORY, Memory, layout
from contrib.site.box.part import Part, launch
from contrib.site.box.process import Processes, started_at, wait_until
from tests.chaos.records import Death
from tests.chaos.wire import VARIABLE
from tests.e2e.lrms.systems import LRMS, NAME

_GRACE = 10  # seconds, in place of the default
_LOOK = 0.1  # seconds between two looks for new DRMAA sessions
_RESTART = 2.0  # seconds after which a part that has ended is started once more
_CORES = 4  # of each node: walks wait more than they compute, and a plain job has one
_DISK = "6g"  # of each node's state folder while the harness runs
_POOL = 4 << 30  # bytes of the users' volumes' file system, in a file with holes
_LITTLE = 64 << 20  # bytes that are left where it is full, for what others begin


class Box:
    """One site that is up. Its methods are called from many threads."""

    def __init__(self) -> None:
        self.site = layout()
        self.socket = self.site.run / "chaos.sock"
        self.config = self.site.etc / "chaos.toml"
        self.queue = self.site.spool / "chaos-apel"
        memory = Memory(self.site.root / "state.json")
        self.system, self.lrms = NAME, LRMS
        self.processes = Processes(memory, self.site.log)
        parts = main.all_parts(self.site, memory, self.processes)
        self.parts = {part.name: part for part in parts}
        self._plain = {name: self.parts[name] for name in map(bait_of, NODES)}
        self.deaths: list[Death] = []
        self._full = threading.Lock()  # who fills the pool
        self._guard = threading.RLock()  # the site's record of its processes is one file
        self._reading = threading.Lock()
        self._read: dict[str, list[list[str]]] = {}
        self._read_at = 0.0

    # Processes

    def pid(self, name: str) -> int:
        """The number of a part's process; 0 if it is down."""
        with self._guard:
            return self.processes.pid(name) or 0

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        pid = self.pid(name)
        if pid:
            end(pid)

    def start(self, name: str, wait: bool = True) -> None:
        """Start a part that is down, again and again as its unit would, until it answers."""
        part = self.parts[name]
        end = time.monotonic() + part.patience
        while True:
            with self._guard:
                launch(part, self.processes, private.enter(self.processes))
            if not wait or wait_until(part.ready, _RESTART, pause=0.1):
                return
            if time.monotonic() > end:
                raise AssertionError(f"{name} is not ready: see {self.processes.log(name)}")

    def again(self, name: str, pause: float = 0.0) -> None:
        """Kill a part and start it again after a pause, in seconds."""
        self.kill(name)
        time.sleep(pause)
        self.start(name)

    @contextmanager
    def down(self, name: str) -> Iterator[None]:
        """The part is killed, and started again at the end."""
        self.kill(name)
        try:
            yield
        finally:
            self.start(name)

    @contextmanager
    def library_hung(self) -> Iterator[None]:
        """What holds a DRMAA session hangs while this lasts, new ones too."""
        over, hung = threading.Event(), set[int]()

        def stop() -> None:
            while not over.wait(_LOOK):
                for pid in set(self.workers()) - hung:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                    hung.add(pid)

        thread = threading.Thread(target=stop, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            for pid in hung & set(self.workers()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def workers(self) -> list[int]:
        """The processes that hold the baits' DRMAA sessions."""
        return list(self.having("wnodes_lrms.lrms.drmaa.worker"))

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """The part hangs while this lasts."""
        with stopped(self.pid(name)):
            yield

    def having(self, *words: str) -> Iterator[int]:
        """The site's processes with all these words in their command lines, the oldest first.

        No others: another site may run on this machine, with jobs of the same numbers.
        """
        for pid in sorted(private.members(self.processes)):
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if line and all(word in line for word in words) and started_at(pid):
                    yield pid

    def qemu_of(self, machine: str) -> int:
        """The QEMU process of a machine; 0 if it has none."""
        return next(self.having("qemu-system", machine), 0)

    def end_vm(self, machine: str) -> bool:
        """Kill a machine's QEMU, if it has one."""
        if pid := self.qemu_of(machine):
            self.deaths.append(Death(machine, time.monotonic()))
            end(pid)
        return bool(pid)

    def payload_of(self, job: str, program: str) -> int:
        """The process of a job that runs one of our programs (starter, lease.py); 0 without."""
        wanted = f"{self.lrms.variable}={job}".encode()
        for pid in self.having(program):
            with suppress(OSError):
                if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    return pid
        return 0

    # Nodes

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The baits run under watch while this lasts, each with its state on a disk of its own, and
        with the users' volumes on one that they share."""
        state = [self.site.spool / node for node in NODES]
        shutil.rmtree(self.queue, ignore_errors=True)  # of an earlier run on this site
        self.queue.mkdir()
        self.config.write_text(self._configuration())
        for node in NODES:
            self.processes.stop(bait_of(node))
        conf = self.site.slurm_conf.read_text() if self.site.slurm_conf.exists() else ""
        wide = conf.replace("CPUs=2 ", f"CPUs={_CORES} ")
        try:
            self.anew(conf, wide)
            self.lrms.widen(_CORES)
            for folder in state:
                self._inside("mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=711", "t", folder)
            with self._pool_image.open("wb") as file:
                file.truncate(_POOL)
            make = ["mkfs.ext4", "-q", "-F", "-m", "0", str(self._pool_image)]
            subprocess.run(make, check=True, timeout=60)
            self._inside("mount", "-o", "loop", self._pool_image, self._pool)
            for node in NODES:
                self.parts[bait_of(node)] = self._under_watch(self._plain[bait_of(node)])
                self.start(bait_of(node), wait=False)
            for node in NODES:
                self.start(bait_of(node))
            yield
        finally:
            for node in NODES:
                with suppress(Exception):
                    self.processes.stop(bait_of(node))
            for folder in (*state, self._pool):
                with suppress(AssertionError):
                    self._inside("umount", "--lazy", folder)
            self._pool_image.unlink(missing_ok=True)
            self.parts |= self._plain
            self.anew(wide, conf)
            for node in NODES:
                self.start(bait_of(node))

    def anew(self, was: str, conf: str) -> None:
        """Start Slurm anew if it is to have another configuration."""
        if conf == was:
            return
        parts = ("slurmctld", *(f"slurmd-{node}" for node in NODES))
        for name in reversed(parts):
            self.processes.stop(name)
        self.site.slurm_conf.write_text(conf)
        for name in parts:
            self.start(name)

    def disk(self, node: str) -> Path:
        """A node's state folder, from outside of the site's namespace."""
        return self.seen(self.site.spool / node)

    def seen(self, path: Path) -> Path:
        """A path inside the site's namespace, from outside."""
        return Path(f"/proc/{self.pid(private.NAME)}/root{path}")

    def ledgers(self, fresh: bool = False) -> dict[str, list[list[str]]]:
        """What both nodes' ledgers hold, read past the baits; at most half a second old."""
        with self._reading:
            if fresh or time.monotonic() > self._read_at + 0.5:
                files = [self.site.spool / node / "ledger.sqlite" for node in NODES]
                reader = ("/usr/bin/python3", "-I", Path(__file__).with_name("ledgers.py"))
                self._read = json.loads(self._inside(*reader, *files))
                self._read_at = time.monotonic()
            return self._read

    def rows(self) -> dict[str, str]:
        """The machines in both nodes' ledgers, and their states."""
        return {row[0]: row[2] for row in self.ledgers()["machines"]}

    def fill(self, node: str) -> None:
        """Leave no room on a node's disk."""
        for _ in range(20):
            there = os.statvfs(self.disk(node))
            used = (there.f_blocks - there.f_bfree) * there.f_frsize
            if self._resize(node, str(max(used, 4096))):
                return
        raise AssertionError(f"the disk of {node} can't be filled")

    def drain(self, node: str) -> None:
        """Take away what filled it."""
        assert self._resize(node, _DISK)

    @contextmanager
    def pool_full(self) -> Iterator[None]:
        """The users' volumes have no more room than a little while this lasts."""
        with self._full:
            filler = self.volumes / "filler"
            try:
                with filler.open("wb") as file:
                    room = shutil.disk_usage(self.volumes).free - _LITTLE
                    os.posix_fallocate(file.fileno(), 0, room)
                yield
            finally:
                filler.unlink(missing_ok=True)

    @property
    def volumes(self) -> Path:
        """The folder of the users' volumes, from outside of the site's namespace."""
        return self.seen(self._pool)

    @property
    def _pool(self) -> Path:
        return self.site.spool / "volumes"

    @property
    def _pool_image(self) -> Path:
        return self.site.spool / "chaos-pool"

    def _resize(self, node: str, size: str) -> bool:
        folder = self.site.spool / node
        try:
            self._inside("mount", "-o", f"remount,size={size}", folder)
        except AssertionError:  # there is more in it by now
            return False
        return True

    def _inside(self, *argv: str | Path) -> str:
        with self._guard:
            prefix: Sequence[str] = private.enter(self.processes)
        words = [*prefix, *map(str, argv)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def _configuration(self) -> str:
        """The site's, with a short time of grace, and a queue of the harness's own."""
        values = tomllib.loads(self.site.wnodes_config.read_text())
        values["bait"]["grace"] = _GRACE
        values["accounting"] = {"site": "CHAOS", "queue": str(self.queue)}
        return tomli_w.dumps(values)

    def _under_watch(self, part: Part) -> Part:
        environment = {VARIABLE: str(self.socket), "PYTHONPATH": str(REPOSITORY)}
        argv = [*(sys.executable, "-m", "tests.chaos.bait"), *("--config", str(self.config))]
        argv += part.argv[part.argv.index("--node") :]
        return replace(part, argv=argv, env={**part.env, **environment})


def bait_of(node: str) -> str:
    """The name of a node's bait among the site's processes."""
    return f"bait-{node}"


def end(pid: int) -> None:
    """SIGKILL a process, and wait until it is gone; one that is gone already, or 0, is success."""
    if not pid:
        return  # to the kernel that is all of our own group
    born = started_at(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: born is None or (started_at(pid) != born and _threads(pid) < 2), 10)


def _threads(pid: int) -> int:
    """How many a process has: the others may outlive the first, with all that is open."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process hangs while this lasts; 0 is none."""
    with suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGCONT)
