"""What a run of the harness found: for people, for programs (build/chaos.json), and, with all that
is needed to understand it afterwards, as a log (build/chaos.log).
"""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from contrib.site.box.layout import REPOSITORY
from tests.chaos.faults import Fault, Move, Plan

_FOLDER = REPOSITORY / "build"


@dataclass
class Report:
    """Filled while the walks go on. Safe to use from many threads."""

    name: str = "chaos"  # of its files
    seed: int = 0
    began: float = field(default_factory=time.monotonic)
    walks: int = 0
    failed: int = 0
    fatal: Counter[Fault] = field(default_factory=Counter)  # in walks in which not all held
    violations: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    lost_machines: list[str] = field(default_factory=list)
    records_lost: list[str] = field(default_factory=list)
    records_doubled: list[str] = field(default_factory=list)
    records_wrong: list[str] = field(default_factory=list)
    records: int = 0
    leases_doubled: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    uncovered: list[Move] = field(default_factory=list)

    def __post_init__(self) -> None:
        _FOLDER.mkdir(exist_ok=True)
        self._log = (_FOLDER / f"{self.name}.log").open("w", buffering=1)
        self._guard = threading.Lock()

    def say(self, text: str) -> None:
        """A line for all, with the time since the beginning."""
        print(f"{time.monotonic() - self.began:7.1f} {text}", flush=True)
        self.note(text)

    def note(self, text: str) -> None:
        """A line for the log alone."""
        with self._guard:
            self._log.write(f"{time.monotonic() - self.began:7.1f} {text}\n")

    def _tell(self, text: str) -> None:
        print(text, flush=True)
        self._log.write(f"{text}\n")

    @property
    def good(self) -> bool:
        """Whether all held."""
        lists = (
            *(self.violations, self.orphans, self.lost_machines, self.records_lost),
            *(self.records_doubled, self.records_wrong, self.leases_doubled),
            *(self.foreign, self.uncovered),
        )
        return not any(lists)

    def show(self, plan: Plan) -> None:
        """Print the tables and each violation, and write the figures."""
        survived = plan.injected - self.fatal
        self._tell(f"\n{'fault':32} injected survived")
        for fault in Fault:
            if plan.injected[fault] or fault in plan.kinds:
                self._tell(f"{fault:32} {plan.injected[fault]:8} {survived[fault]:8}")
        self._tell(f"\n{'move':42} faults")
        for move in plan.moves:
            kind, old, new = move
            text = f"{kind} {old or 'nothing'} → {new or 'nothing'}"
            done = [fault.name.lower() for fault in plan.done.get(move, [])]
            mark = "" if move in plan.covered else "REACHED BY NO WALK"
            left = [fault.name.lower() if fault else "in turn" for fault in plan.pending[move]]
            rest = f"; not injected: {', '.join(left)}" if left else ""
            self._tell(f"{text:42} {len(done):2} {' '.join(sorted(done))}{mark}{rest}")
        for title, lines in (
            ("violations", self.violations),
            ("lost VMs", self.lost_machines),
            ("orphans", self.orphans),
            ("usages lost", self.records_lost),
            ("usages doubled", self.records_doubled),
            ("usages wrong", self.records_wrong),
            ("leases doubled", self.leases_doubled),
            ("foreign things touched", self.foreign),
        ):
            for line in lines:
                self._tell(f"{title}: {line}")
        figures = {
            "seed": self.seed,
            "faults": plan.injected.total(),
            "survived": survived.total(),
            "orphans": len(self.orphans),
            "lost_machines": len(self.lost_machines),
            "records": self.records,
            "records_lost": len(self.records_lost),
            "records_doubled": len(self.records_doubled),
            "records_wrong": len(self.records_wrong),
            "leases_doubled": len(self.leases_doubled),
            "foreign_touched": len(self.foreign),
            "violations": len(self.violations),
            "moves": len(plan.moves),
            "moves_covered": len(plan.covered & set(plan.moves)),
            "walks": self.walks,
            "walks_failed": self.failed,
            "seconds": round(time.monotonic() - self.began),
        }
        text = json.dumps(figures)
        (_FOLDER / f"{self.name}.json").write_text(f"{text}\n")
        self.note(text)
