"""What a run of the harness found, for people and, in build/chaos.json, for programs."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field

from contrib.site.box.layout import REPOSITORY
from tests.chaos.faults import Fault, Move, Plan

FIGURES = REPOSITORY / "build" / "chaos.json"


@dataclass
class Report:
    """Filled while the walks go on."""

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
    foreign: list[str] = field(default_factory=list)
    uncovered: list[Move] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A line, with the time since the beginning."""
        print(f"{time.monotonic() - self.began:7.1f} {text}", flush=True)

    @property
    def good(self) -> bool:
        """Whether all held."""
        lists = (
            *(self.violations, self.orphans, self.lost_machines, self.records_lost),
            *(self.records_doubled, self.records_wrong, self.foreign, self.uncovered),
        )
        return not any(lists)

    def show(self, plan: Plan) -> None:
        """Print the tables and each violation, and write the figures."""
        survived = plan.injected - self.fatal
        print(f"\n{'fault':32} injected survived")
        for fault in Fault:
            if plan.injected[fault] or fault in plan.kinds:
                print(f"{fault:32} {plan.injected[fault]:8} {survived[fault]:8}")
        print(f"\n{'move':42} faults")
        for move in plan.moves:
            kind, old, new = move
            text = f"{kind} {old or 'nothing'} → {new or 'nothing'}"
            done = [fault.name.lower() for fault in plan.done.get(move, [])]
            mark = "" if move in plan.covered else "REACHED BY NO WALK"
            left = [fault.name.lower() if fault else "in turn" for fault in plan.pending[move]]
            rest = f"; not injected: {', '.join(left)}" if left else ""
            print(f"{text:42} {len(done):2} {' '.join(sorted(done))}{mark}{rest}")
        for title, lines in (
            ("violations", self.violations),
            ("lost machines", self.lost_machines),
            ("orphans", self.orphans),
            ("usages lost", self.records_lost),
            ("usages doubled", self.records_doubled),
            ("usages wrong", self.records_wrong),
            ("foreign things touched", self.foreign),
        ):
            for line in lines:
                print(f"{title}: {line}")
        figures = {
            "faults": plan.injected.total(),
            "survived": survived.total(),
            "orphans": len(self.orphans),
            "lost_machines": len(self.lost_machines),
            "records": self.records,
            "records_lost": len(self.records_lost),
            "records_doubled": len(self.records_doubled),
            "records_wrong": len(self.records_wrong),
            "foreign_touched": len(self.foreign),
            "violations": len(self.violations),
            "moves": len(plan.moves),
            "moves_covered": len(plan.covered),
            "walks": self.walks,
            "walks_failed": self.failed,
            "seconds": round(time.monotonic() - self.began),
        }
        FIGURES.parent.mkdir(exist_ok=True)
        FIGURES.write_text(json.dumps(figures) + "\n")
