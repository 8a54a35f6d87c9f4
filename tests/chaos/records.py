"""Whether each second is accounted once: the usages against what the harness itself has seen."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.wire import At
from wnodes_lrms.model import Kind, State

# Seconds by which a usage may differ from what was seen: the harness holds moves while it injects,
# and a bait books what it has seen alive, and may be away at the beginning or at the end.
SLACK = 45.0
_PROVEN = {Kind.BATCH: State.BOOTING, Kind.CLOUD: State.READY}
_ENDS = {State.STOPPED, State.HIBERNATED, State.FAILED, State.ENDING, None}


@dataclass
class Verdict:
    """What is wrong with the records, in words."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    checked: int = 0


@dataclass(frozen=True)
class Run:
    """A stretch of a machine in one allocation, as seen from outside (monotonic seconds)."""

    kind: Kind
    machine: str
    job: str
    began: float
    ended: float | None


@dataclass(frozen=True)
class Death:
    """A machine's QEMU was killed by the harness (monotonic)."""

    machine: str
    time: float


def runs(moves: Iterable[At], deaths: Iterable[Death] = ()) -> list[Run]:
    """The stretches in which each machine certainly ran, from the moves, the oldest first.

    One that was killed ran until then, though its bait notes that later.
    """
    found: list[Run] = []
    begun: dict[str, tuple[float, str]] = {}
    started: dict[str, float] = {}  # the last time: a cold restart goes on in the same stretch
    died: dict[str, list[float]] = defaultdict(list)
    for death in deaths:
        died[death.machine].append(death.time)
    proven: set[str] = set()
    kinds: dict[str, Kind] = {}
    for at in moves:
        seen, machine = at.seen, at.seen.machine
        kinds[machine] = seen.kind
        if seen.new is State.STARTING:
            started[machine] = at.time
        if seen.new is State.STARTING and machine not in proven:
            begun[machine] = (at.time, seen.job)
        elif seen.new is _PROVEN[seen.kind] and machine in begun:
            proven.add(machine)
        elif seen.new in _ENDS and machine in begun:
            time, job = begun.pop(machine)
            if machine in proven:
                proven.discard(machine)
                dead = (d for d in died[machine] if started[machine] < d < at.time)
                found.append(Run(seen.kind, machine, job, time, min(dead, default=at.time)))
    for machine in proven:
        time, job = begun[machine]
        found.append(Run(kinds[machine], machine, job, time, None))
    return found


def judge(seen: Iterable[Run], usages: Iterable[Mapping[str, Any]]) -> Verdict:
    """Each run has one usage, that is closed, and as long as it was seen to last."""
    verdict = Verdict()
    by_run: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for usage in usages:
        by_run[usage["machine"], usage["job"]].append(usage)
    for run in seen:
        verdict.checked += 1
        found = by_run.get((run.machine, run.job), [])
        name = f"{run.kind} VM {run.machine} in job {run.job}"
        if not found:
            verdict.lost.append(f"{name} ran, and has no usage")
        for usage in found:
            if usage["ended"] is None:
                verdict.wrong.append(f"{name}: usage {usage['number']} is open")
            elif run.ended is not None and len(found) == 1:
                lasted, booked = run.ended - run.began, usage["wall"] + usage["held"]
                if abs(lasted - booked) > SLACK:
                    verdict.wrong.append(
                        f"{name}: it lasted {lasted:.0f} s, booked are {booked:.0f} s"
                    )
    for (machine, job), found in by_run.items():
        keys = [(usage["id"], usage["restart"]) for usage in found]
        if len(set(keys)) != len(keys) or len(found) > 1:
            numbers = ", ".join(str(usage["number"]) for usage in found)
            verdict.doubled.append(f"VM {machine} in job {job} has the usages {numbers}")
    return verdict


def published(queue: Path, usages: Iterable[Mapping[str, Any]]) -> Verdict:
    """Each cloud machine's completed usage is in one message, and in no other."""
    texts = [path.read_text() for path in queue.glob("[0-9a-f]*/*") if path.is_file()]
    records = [_fields(part) for text in texts for part in text.split("%%")]
    ended = Counter(r["VMUUID"] for r in records if r.get("Status") == "completed")
    verdict = Verdict()
    for usage in usages:
        if usage["kind"] == Kind.CLOUD and usage["ended"] is not None:
            verdict.checked += 1
            if not ended[usage["id"]]:
                verdict.lost.append(f"usage {usage['number']} of {usage['id']} is in no message")
    for name, times in ended.items():
        if times > 1:
            verdict.doubled.append(f"the end of {name} is in {times} messages")
    return verdict


def _fields(part: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in part.splitlines() if ": " in line)
