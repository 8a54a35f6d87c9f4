"""Which walk is made next, several at once, until no fault is left to come."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from tests.chaos.case import Case
from tests.chaos.environment import Environment
from tests.chaos.faults import HURT, Move, Plan
from tests.chaos.jobs import Queue
from tests.chaos.listener import Listener
from tests.chaos.patience import Violation, tolerant
from tests.chaos.report import Report
from tests.chaos.site import Box
from tests.chaos.walk import Walk
from tests.e2e.box import call
from tests.e2e.occi import USERS, Cloud, Key
from wnodes_lrms.config.load import Config
from wnodes_lrms.model import Kind, State

_AT_ONCE = {"batch": 3, "cloud": 3}  # walks; a cloud user has four machines
_MISSED = 4  # times that a walk is made again because it did not come to its point
_UNCOVERED = 12  # the same, while a move that it is for has been made by none
# Runs of a walk in which no fault found its place: then it is not made again. The second is for one
# with a move at which there has been no fault at all.
_BARREN, _BARREN_UNHIT = 2, 8
# Walks that change images which others use, or close the queues.
_ALONE = ("image", "fails while requested", "fails while building", "queued")


@dataclass
class Scheduler:
    """One run of the harness on a site that is up and watched."""

    walks: Mapping[str, Walk]
    plan: Plan
    report: Report
    box: Box
    listener: Listener
    config: Config
    key: Key
    queue: Queue
    passed: dict[str, set[Move]] = field(default_factory=dict)  # the moves of each walk, by now
    barren: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    again: set[str] = field(default_factory=set)  # they missed what they are for
    _guard: threading.Condition = field(default_factory=threading.Condition)

    def run(self, seconds: float, once: bool) -> None:
        """Make walks until all faults are injected, or no walk finds a place for one more.

        seconds: begin none after this time; once: make each walk once.
        """
        until = time.monotonic() + seconds
        threads: list[threading.Thread] = []
        while time.monotonic() < until:
            with self._guard:
                name = self._next(once)
                if name is None and not self.running.total():
                    break
                if name is None:
                    self._guard.wait(1)
                    continue
                self.running[name] += 1
                self.passed.setdefault(name, set())
            thread = threading.Thread(target=self._walk, args=(name,), daemon=True)
            threads.append(thread)
            thread.start()
        for thread in threads:
            thread.join()

    def _next(self, once: bool) -> str | None:
        """The walk with the most faults still to come on its way; those never made come first."""
        kinds = Counter(name.split(":")[0] for name in self.running.elements())
        alone = any(_alone(name) for name in self.running.elements())
        free = [
            name
            for name in self.walks
            if kinds[name.split(":")[0]] < _AT_ONCE[name.split(":")[0]]
            and not (alone and _alone(name))
        ]
        new = [
            name for name in free if name not in self.passed or (name in self.again and not once)
        ]
        if new:
            self.again.discard(new[0])
            return new[0]
        if once:
            return None
        left = self.plan.left()
        for name in self.running.elements():  # these may take one each
            for move in self.passed[name]:
                left[move] = left.get(move, 0) - 1
        scores = {
            name: sum(left.get(move, 0) > 0 for move in self.passed[name])
            + (name.endswith("published") and bool(self.plan.messages))
            for name in free
            if self.barren[name] < self._patience(name)
        }
        best = max(scores, key=lambda name: scores[name], default=None)
        return best if best and scores[best] > 0 else None

    def _patience(self, name: str) -> int:
        left = self.plan.left()
        unhit = any(move in left and not self.plan.done.get(move) for move in self.passed[name])
        return _BARREN_UNHIT if unhit else _BARREN

    def _walk(self, name: str) -> None:
        case = Case(name)
        env = Environment(case, self.box, self.listener, self.queue, self.config, self.key)
        began, fault = time.monotonic(), ""
        self.report.note(f"begun  {name}")
        try:
            self.walks[name].make(env)
        except Violation as error:
            fault = str(error)
        except Exception as error:
            fault = f"the walk itself failed: {error!r}"
        moves = [at for at in self.listener.moves if self.listener.case_of(at.seen) is case]
        lost = _lost(case, [at.seen.step for at in moves])
        with self._guard:
            self.report.walks += 1
            if fault:
                self.report.failed += 1
                steps = ", ".join(f"{at.seen.step} ({at.seen.job})" for at in moves[-8:])
                ids = ", ".join(sorted({f"{at.seen.node} {at.seen.machine}" for at in moves}))
                faults = ", ".join(case.faults) or "no fault"
                self.report.violations.append(f"{name}: {fault} [{ids}; {steps}; {faults}]")
                self.report.fatal.update(case.faults)
            self.report.lost_machines += [f"{name}: {line}" for line in lost]
            self.passed[name] |= {(at.seen.kind, at.seen.old, at.seen.new) for at in moves}
            barren = len(case.faults) == case.own
            self.barren[name] = self.barren[name] + 1 if barren else 0
            if self.missed[name] < self._tries(name, case):
                self.missed[name] += 1
                self.again.add(name)
            self.running[name] -= 1
            if not self.running[name]:
                del self.running[name]
            self._guard.notify_all()
        took = time.monotonic() - began
        self.report.say(
            f"{'FAILED' if fault else 'ok    '} {name} ({took:.0f} s, "
            f"{len(case.faults)} faults; {sum(self.plan.left().values())} to come)"
            + (f": {fault}" if fault else "")
        )
        if fault:
            self._clean(name, case)

    def _tries(self, name: str, case: Case) -> int:
        """How often the walk is made again at most, because of what it has not reached."""
        if self.walks[name].aims - self.plan.covered:
            return _UNCOVERED
        return _MISSED if case.missed or case.orders else 0

    def _clean(self, name: str, case: Case) -> None:
        user = Cloud(USERS / "alice" / "vomsproxy.pem")
        for known in self.listener.names_of(case):
            if name.startswith("batch"):
                tolerant(partial(call, "scancel", known, check=False))
            else:
                tolerant(partial(user.ask, "DELETE", f"/compute/{known}"))


def _alone(name: str) -> bool:
    return any(word in name for word in _ALONE)


def _lost(case: Case, steps: list[str]) -> list[str]:
    """Machines that ran, and ended though nothing was done that may end them."""
    if case.hurts or set(case.faults) & HURT or case.name.endswith("by an administrator"):
        return []
    lost = [f"{Kind.BATCH} {state} → {State.FAILED}" for state in (State.BOOTING, State.READY)]
    return [f"{step}, after {case.faults}" for step in lost if step in steps]
