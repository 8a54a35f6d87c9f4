"""A node's bait, as it is, under watch: python -m tests.chaos.bait --config … --node …

The harness hears of every change of a machine's state twice: before its transaction is committed,
and after that, before the act that follows. It also hears of each device that comes to a machine
that runs, or leaves it: before libvirt is asked, and when libvirt has done it. The thread that
makes the change waits each time.
"""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import bait.__main__ as program
import bait.cloud.controller as controller
import bait.ledger.ledger as ledger
from bait.cloud.build import CloudBuilder
from bait.ledger.records import Moved
from bait.ledger.store import Store
from bait.machine.hardware import Drive
from bait.network.cards import Card
from tests.chaos.wire import Seen, tell
from wnodes_lrms.model import Kind, State

NODE = sys.argv[sys.argv.index("--node") + 1]
Rows = dict[str, tuple[Kind, State, str]]


class WatchedStore(Store):
    """Tells of the changes of states in a transaction before that is committed."""

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        with super().change() as db:
            old, sent, changes = _states(db), _messages(db), db.total_changes
            yield db
            if db.total_changes == changes:
                return
            moves = [*_moves(old, _states(db)), *_steps(_messages(db) - sent)]
            for seen in moves:
                tell(seen)
        for seen in moves:
            if seen.message:  # of a machine's moves the ledger tells
                tell(replace(seen, done=True))


class WatchedLedger(ledger.Ledger):
    """Tells of each move when it is on disk."""

    _on_move: Callable[[Moved], None]

    @property
    def on_move(self) -> Callable[[Moved], None]:
        return self._heard

    @on_move.setter
    def on_move(self, callback: Callable[[Moved], None]) -> None:
        self._on_move = callback

    def _heard(self, moved: Moved) -> None:
        self._on_move(moved)
        tell(Seen(NODE, True, moved.kind, moved.old, moved.new, moved.machine, moved.job))


class WatchedBuilder(CloudBuilder):
    """Tells of devices that come and go."""

    def plug(self, machine: str, device: Card | Drive) -> None:
        with _told(machine, "plug"):
            super().plug(machine, device)

    def unplug(self, machine: str, device: Card | Drive) -> None:
        with _told(machine, "unplug"):
            super().unplug(machine, device)


@contextmanager
def _told(machine: str, device: str) -> Iterator[None]:
    seen = Seen(NODE, False, Kind.CLOUD, None, None, machine, "", device=device)
    tell(seen)
    yield
    tell(replace(seen, done=True))


def _states(db: sqlite3.Connection) -> Rows:
    found = db.execute("SELECT id, kind, state, job FROM machine")
    return {machine: (Kind(kind), State(state), job) for machine, kind, state, job in found}


def _moves(old: Rows, new: Rows) -> Iterator[Seen]:
    for machine in old.keys() | new.keys():
        before, after = old.get(machine), new.get(machine)
        known = before or after
        states = before and before[1], after and after[1]
        if known and states[0] != states[1]:
            yield Seen(NODE, False, known[0], *states, machine, known[2])


def _messages(db: sqlite3.Connection) -> set[tuple[int, str]]:
    return set(db.execute("SELECT number, state FROM message"))


def _steps(news: set[tuple[int, str]]) -> Iterator[Seen]:
    for number, stage in sorted(news):
        yield Seen(NODE, False, Kind.CLOUD, None, None, "", str(number), stage)


if __name__ == "__main__":
    vars(ledger)["Store"] = WatchedStore
    vars(program)["Ledger"] = WatchedLedger
    vars(controller)["CloudBuilder"] = WatchedBuilder
    sys.exit(program.main())
