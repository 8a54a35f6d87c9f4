"""The faults, which of them belongs at which move, and the list of those that are still to come."""

import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from bait.accounting.publishing import Stage
from bait.ledger.states import AT_REST, MOVES
from tests.chaos.wire import Seen
from wnodes_lrms.model import Kind, State


class Fault(StrEnum):
    """What is done to the site, and to whom."""

    COMMIT = "bait killed before the commit"
    BAIT = "bait killed"
    LIBVIRTD = "libvirtd killed"
    BRIDGE = "bridge killed"
    QEMU = "QEMU killed"
    STARTER = "starter killed"
    LEASE = "lease job's process killed"
    DISK = "disk full"
    IMAGE = "cached image corrupted"
    CONTROLLER = "slurmctld frozen"
    HUNG_LIBVIRTD = "libvirtd frozen"
    HUNG_QEMU = "QEMU frozen"
    FILTER = "guests' tables removed"
    PUBLISHER = "bait killed while it publishes"
    FROZEN = "its node's bait frozen"
    OTHER = "the other node's bait frozen"  # one of the two has submitted its lease
    LIBRARY = "DRMAA library hung"


# One of these at each move, in turn; all others at each move where there is such a process.
IN_TURN = (
    *(Fault.DISK, Fault.IMAGE, Fault.CONTROLLER, Fault.HUNG_LIBVIRTD, Fault.HUNG_QEMU),
    Fault.FILTER,
)
# Those after which a machine may be at its end, or a job in the queue again.
HURT = frozenset({Fault.QEMU, Fault.STARTER, Fault.LEASE, Fault.DISK})

# Those that last longer than the bridge's patience. They hit one bait or its library, and so go on
# beside other faults; a machine gets no more than some of them.
SLOW = frozenset({Fault.FROZEN, Fault.OTHER, Fault.LIBRARY})

# States in which there may be a domain; STARTING: nobody knows.
_WITH_DOMAIN = frozenset(
    {
        *(State.STARTING, State.BOOTING, State.READY, State.PAUSED, State.SUSPENDED),
        *(State.STOPPING, State.HIBERNATING),
    }
)

Move = tuple[Kind, State | None, State | None]


def every_move() -> list[Move]:
    """All moves that the product knows."""
    return sorted(
        ((kind, *move) for kind, moves in MOVES.items() for move in moves),
        key=lambda move: tuple(str(part or "") for part in move),
    )


def wanted(move: Move) -> list[Fault | None]:
    """What belongs at a move; None: the next one in turn."""
    kind, old, new = move
    found: list[Fault | None] = [Fault.COMMIT, Fault.BAIT, Fault.LIBVIRTD, None]
    if new is not None and new not in AT_REST and {old, new} & _WITH_DOMAIN:
        found.append(Fault.QEMU)
    if new is not None and old not in AT_REST | {State.ENDING}:
        found.append(Fault.STARTER if kind is Kind.BATCH else Fault.LEASE)
    if kind is Kind.CLOUD:
        found += (Fault.BRIDGE, Fault.FROZEN, Fault.OTHER, Fault.LIBRARY)
    return found


@dataclass
class Plan:
    """What is to be injected, and what became of it. Safe to use from many threads."""

    moves: Collection[Move]
    kinds: Collection[Fault] = tuple(Fault)
    turns: Collection[Fault] = IN_TURN
    pending: dict[Move, list[Fault | None]] = field(default_factory=dict)
    injected: Counter[Fault] = field(default_factory=Counter)
    done: dict[Move, list[Fault]] = field(default_factory=dict)
    covered: set[Move] = field(default_factory=set)
    # Tried where there was no such process: a domain that is not there yet, a job that is over.
    nothing: dict[Move, Counter[Fault]] = field(default_factory=dict)

    over: bool = False  # nothing more is injected
    rng: Random = field(default_factory=Random)  # decides which fault comes first

    # Steps of messages to APEL, before and after their commit.
    messages: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        if Fault.PUBLISHER in self.kinds:
            self.messages = [(str(stage), done) for stage in Stage for done in (False, True)]
        each = {fault for fault in self.kinds if fault not in self.turns}
        self._turns = [fault for fault in self.turns if fault in self.kinds]
        self.rng.shuffle(self._turns)
        for move in self.moves:
            faults = [f for f in wanted(move) if (f in each if f else self._turns)]
            self.rng.shuffle(faults)  # so that a short run meets some of each
            self.pending[move] = faults

    def take(self, seen: Seen, unfit: Collection[Fault]) -> Fault | None:
        """The fault that is due at this move, and not unfit now; who takes it injects it."""
        move = (seen.kind, seen.old, seen.new)
        with self._lock:
            self.covered.add(move)
            for entry in () if self.over else self.pending.get(move, ()):
                fault = entry or self._in_turn(unfit)
                if fault is None or fault in unfit or (fault is Fault.COMMIT) == seen.done:
                    continue
                self.pending[move].remove(entry)
                self.injected[fault] += 1
                self.done.setdefault(move, []).append(fault)
                return fault
        return None

    def take_message(self, seen: Seen) -> bool:
        """Whether the bait is to be killed at this step of a message."""
        with self._lock:
            if self.over or (seen.message, seen.done) not in self.messages:
                return False
            self.messages.remove((seen.message, seen.done))
            self.injected[Fault.PUBLISHER] += 1
            return True

    def count(self, fault: Fault) -> None:
        """A walk has injected it by itself."""
        with self._lock:
            self.injected[fault] += 1

    def give_back(self, seen: Seen, fault: Fault, absent: bool) -> None:
        """It could not be injected now; `absent`: because there is nothing to do it to.

        Twice absent is enough: then it does not belong here.
        """
        move = (seen.kind, seen.old, seen.new)
        with self._lock:
            self.injected[fault] -= 1
            self.done[move].remove(fault)
            times = self.nothing.setdefault(move, Counter())
            times[fault] += absent
            if times[fault] < 2:
                self.pending[move].append(None if fault in self.turns else fault)

    def left(self) -> dict[Move, int]:
        """How many faults are still to come, for each move that has any."""
        with self._lock:
            return {move: len(faults) for move, faults in self.pending.items() if faults}

    def _in_turn(self, unfit: Collection[Fault]) -> Fault | None:
        fit = [fault for fault in self._turns if fault not in unfit]
        return min(fit, key=lambda fault: self.injected[fault], default=None)
