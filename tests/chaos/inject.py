"""Doing the faults, one at a time where they hit all machines of the site."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bait.network.firewall import there
from bait.network.ruleset import FAMILIES, table
from contrib.site.box.layout import NODES
from contrib.site.box.process import wait_until
from tests.chaos.faults import HURT, SLOW, Fault
from tests.chaos.site import Box, bait_of, end, stopped
from tests.chaos.wire import Seen
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.model import State
from wnodes_lrms.run import run

_AWAY = 1.0  # seconds that a killed daemon is down
_HUNG = 5.0  # seconds that a frozen one hangs
_FULL = 2.0  # seconds that a disk is full
# Seconds in which a bait makes the tables again: a round, and what may be done to it meanwhile.
_HELD_AGAIN = 120.0
SLOW_FOR = (
    22.0  # seconds: more than the bridge remembers, less than a starter's or lease's patience
)
_LIBRARY = "drmaa"


class NothingThereError(Exception):
    """There is no such process, or file, at this move."""


class Injector:
    """Breaks things, and mends what an administrator or a unit's restart would mend."""

    def __init__(self, box: Box, config: Config) -> None:
        self._box = box
        self._config = config
        self.one = threading.Lock()  # at a time
        self.unmended: list[str] = []  # what a bait should have mended, and has not
        self._locks = {name: threading.Lock() for name in (*map(bait_of, NODES), _LIBRARY)}
        self._slowed = dict.fromkeys(self._locks, -SLOW_FOR)  # when that was over (monotonic)
        self._acts: dict[Fault, Callable[[Seen], None]] = {
            Fault.COMMIT: self._bait,
            Fault.BAIT: self._bait,
            Fault.PUBLISHER: self._bait,
            Fault.LIBVIRTD: lambda _seen: box.again("libvirtd", _AWAY),
            Fault.BRIDGE: lambda _seen: box.again("bridge", _AWAY),
            Fault.QEMU: self._qemu,
            Fault.STARTER: lambda seen: self._payload(seen.job, "/hooks/starter"),
            Fault.LEASE: lambda seen: self._payload(seen.job, "lease.py"),
            Fault.DISK: self._disk,
            Fault.IMAGE: self._image,
            Fault.CONTROLLER: lambda _seen: self._freeze(box.lrms.controller),
            Fault.HUNG_LIBVIRTD: lambda _seen: self._freeze("libvirtd"),
            Fault.HUNG_QEMU: self._hung_qemu,
            Fault.FILTER: self._filter,
            **{fault: partial(self._slow, fault) for fault in SLOW},
        }

    def inject(self, fault: Fault, seen: Seen) -> None:
        """Do it, and return when what was broken is back. Raises NothingThereError."""
        self._acts[fault](seen)

    def lock(self, fault: Fault, node: str) -> threading.Lock:
        """What is held while it is done there."""
        return self._locks[_victim(fault, node)] if fault in SLOW else self.one

    @contextmanager
    def slowed(self, fault: Fault, node: str) -> Iterator[None]:
        """A bait, or the library, does not answer while this lasts. Raises NothingThereError."""
        if fault is Fault.LIBRARY:
            _there(len(self._box.workers()))
            hung = self._box.library_hung()
        else:
            hung = self._box.frozen(_victim(fault, node))
        try:
            with hung:
                yield
        finally:
            self._slowed[_victim(fault, node)] = time.monotonic()

    def unfit(self, seen: Seen, building: int, spared: bool) -> set[Fault]:
        """The faults that would prove nothing at this move, or hurt what must not be hurt.

        building: machines that are being made on that node; spared: nothing may end this one.
        """
        unfit: set[Fault] = set(HURT) if spared else set()
        # A machine whose image is in place already, and not yet open, would run on the wrong one.
        if building or seen.new is State.STARTING:
            unfit.add(Fault.IMAGE)
        if not self._box.qemu_of(seen.machine):
            unfit.add(Fault.HUNG_QEMU)
        return unfit | {fault for fault in SLOW if not self._rested(_victim(fault, seen.node))}

    def _rested(self, victim: str) -> bool:
        """Whether it has answered for as long as it did not before: else nothing would get on."""
        over = self._slowed[victim]
        return not self._locks[victim].locked() and time.monotonic() > over + SLOW_FOR

    def _bait(self, seen: Seen) -> None:
        self._box.again(bait_of(seen.node))

    def _qemu(self, seen: Seen) -> None:
        if not self._box.end_vm(seen.machine):
            raise NothingThereError

    def _hung_qemu(self, seen: Seen) -> None:
        with stopped(_there(self._box.qemu_of(seen.machine))):
            time.sleep(_HUNG)

    def _filter(self, seen: Seen) -> None:
        """As by `nft flush ruleset`, which would also take what is not this node's. The VM goes on
        at once: its bait makes the tables again by itself, whatever it is doing."""
        lines = [f"delete table {family} {table(seen.node)}" for family in FAMILIES]
        try:
            run(["nft", "; ".join(lines)], deadline=10)
        except WnodesError as error:  # there are none yet
            raise NothingThereError from error
        threading.Thread(target=self._await_filter, args=(seen,), daemon=True).start()

    def _await_filter(self, seen: Seen) -> None:
        if not wait_until(lambda: _are_held(seen.node), _HELD_AGAIN, pause=1):
            self.unmended.append(f"{Fault.FILTER} at {seen.step}: {seen.node} has none since")

    def _payload(self, job: str, program: str) -> None:
        # The job's prolog may go on.
        wait_until(lambda: self._box.payload_of(job, program) > 0, 3, pause=0.2)
        end(_there(self._box.payload_of(job, program)))

    def _freeze(self, name: str) -> None:
        with self._box.frozen(name):
            time.sleep(_HUNG)

    def _slow(self, fault: Fault, seen: Seen) -> None:
        with self.slowed(fault, seen.node):
            time.sleep(SLOW_FOR)

    def _disk(self, seen: Seen) -> None:
        self._box.fill(seen.node)
        try:
            time.sleep(_FULL)
        finally:
            self._box.drain(seen.node)

    def _image(self, seen: Seen) -> None:
        """Another file takes the place of each, one byte in it changed: its size, its time and
        its name are as before. Machines that run have the old one open."""
        files = cached(self._config, seen.node)
        _there(len(files))
        for file in files:
            corrupt(file)


def _are_held(node: str) -> bool:
    """Whether the kernel has the tables that hold a node's guests."""
    try:
        return there(node)
    except WnodesError:
        return False


def cached(config: Config, node: str) -> list[Path]:
    """The image files in a node's cache."""
    folder = Path(config.images.cache_dir.replace("%n", node))
    return [path for path in folder.glob("*") if not path.suffix and path.is_file()]


def corrupt(file: Path) -> None:
    """Change a byte in the middle."""
    was = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    new = file.with_suffix(".chaos")
    new.write_bytes(content)
    new.chmod(was.st_mode)
    os.utime(new, ns=(was.st_atime_ns, was.st_mtime_ns))
    new.replace(file)


def _victim(fault: Fault, node: str) -> str:
    """Who does not answer after a slow fault on that node."""
    if fault is Fault.LIBRARY:
        return _LIBRARY
    (other,) = (name for name in NODES if name != node)
    return bait_of(node if fault is Fault.FROZEN else other)


def _there(number: int) -> int:
    if not number:
        raise NothingThereError
    return number
