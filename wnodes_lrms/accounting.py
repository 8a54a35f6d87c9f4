"""Compares the journal of wallclock with the batch system's own accounting. Pure.

Both see the same time from two sides: a VM lives within its job. The job is rightly the longer one,
as the VM is made and shut down in it. How much longer is worth reporting, and how far clocks and
the batch system's own delays may differ, is set here, and explained in docs/accounting.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wnodes_lrms.lrms.interface import Run
from wnodes_lrms.model import Kind

SLACK = (
    120.0  # seconds that times of the two may differ, and that news takes to get to the accounting
)
MAKING = 900.0  # seconds of a lease that making its machine, and shutting it down, may take
_SHARE = 0.1  # of a long lease: the same


@dataclass(frozen=True)
class Spent:
    """What the journal has of a VM in one job."""

    machine: str
    kind: Kind
    job: str
    cores: int
    memory: int  # MiB
    began: float  # seconds since the epoch
    seconds: float  # that it ran, or was suspended
    ended: float | None  # None: it goes on

    @property
    def until(self) -> float:
        """Its last known moment."""
        return self.began + self.seconds


@dataclass(frozen=True)
class Difference:
    """One thing on which the two do not agree."""

    what: str
    job: str
    machine: str  # empty: there is none
    detail: str


def spent(usage: Mapping[str, Any]) -> Spent:
    """A usage as the bait tells it."""
    return Spent(
        machine=usage["machine"],
        kind=Kind(usage["kind"]),
        job=usage["job"],
        cores=usage["cores"],
        memory=usage["memory"],
        began=usage["began"],
        seconds=usage["wall"] + usage["held"],
        ended=usage["ended"],
    )


def differences(
    journal: Sequence[Spent], runs: Sequence[Run], since: float, now: float
) -> list[Difference]:
    """All differences that concern the time from `since` on; VMs first, then leases.

    Both lists must reach further back than `since`, so that what ended about then is in both.
    """
    of_job: defaultdict[str, list[Run]] = defaultdict(list)
    in_job: defaultdict[str, list[Spent]] = defaultdict(list)
    for run in runs:
        of_job[run.job].append(run)
    for each in journal:
        in_job[each.job].append(each)
    found: list[Difference] = []
    for each in journal:
        if each.ended is None or each.ended >= since:
            found += _of_machine(each, _its(each, of_job[each.job], now), now)
    for run in runs:
        if run.end is None or run.end >= since:
            found += _of_lease(run, in_job[run.job], now)
    return found


def _its(each: Spent, runs: Sequence[Run], now: float) -> Run | None:
    """The run of its job that a VM belongs to: the one that shares most seconds with it."""

    def shared(run: Run) -> float:
        return min(each.until, run.end or now) - max(each.began, run.start)

    return max(runs, key=shared, default=None)


def _of_machine(each: Spent, run: Run | None, now: float) -> Iterable[Difference]:
    def told(what: str, detail: str) -> Difference:
        return Difference(what, each.job, each.machine, detail)

    if run is None:
        if now - each.began > SLACK:
            yield told("no job", "the batch system's accounting has no such job on this node")
        return
    if each.began < run.start - SLACK:
        yield told("outside", f"it began {run.start - each.began:.0f} s before its job")
    if run.end is not None:
        if each.ended is None and now - run.end > SLACK:
            yield told("open", f"it still counts, {now - run.end:.0f} s after its job's end")
        elif each.until > run.end + SLACK:
            yield told("outside", f"it ended {each.until - run.end:.0f} s after its job")
    # Fewer is right: a batch system may give whole cores, and some memory is QEMU's own.
    if each.cores > run.cores:
        yield told("cores", f"it has {each.cores}, its job {run.cores}")
    if run.memory and each.memory > run.memory:
        yield told("memory", f"it has {each.memory} MiB, its job {run.memory}")


def _of_lease(run: Run, machines: Sequence[Spent], now: float) -> Iterable[Difference]:
    if not run.lease and not any(each.kind is Kind.CLOUD for each in machines):
        return
    elapsed = (run.end or now) - run.start
    if not machines:
        if elapsed > SLACK:
            yield Difference("no VM", run.job, "", f"a lease of {elapsed:.0f} s without one")
        return
    counted = sum(each.seconds for each in machines)
    if elapsed - counted > max(MAKING, _SHARE * elapsed):
        detail = f"a lease of {elapsed:.0f} s, and a VM in it for {counted:.0f} s"
        yield Difference("idle", run.job, machines[-1].machine, detail)
