"""What comes next for a VM: what the plan would do if something changed, in words."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bait.hypervisor.domain import FULL, PANICKED, Domain
from bait.ledger.records import Row
from bait.ledger.states import AT_REST, MAKING
from bait.reconcile.plan import Act, Evidence, plan
from wnodes_lrms.model import State

_COMES = {
    Act.RESUME: "it goes on being made",
    Act.ADOPT: "it goes on being watched until it takes logins",
    Act.HOLD: "it is suspended",
    Act.PAUSE: "it stands still",
    Act.CONTINUE: "it goes on",
    Act.PANIC: "it is shown whether the guest's kernel has panicked",
    Act.WAKE: "the guest goes on",
    Act.FULL: "it is shown whether there is room for what it writes",
    Act.FOLLOW: "it is shown as the guest has it",
    Act.LOST: "it counts as lost, and whoever waits for it hears that",
    Act.EVICT: "the VM is ended, and the batch system is asked to run its job again",
    Act.END: "the VM and all that it has are removed",
    Act.SHUT_DOWN: "the guest is told to shut down, and its disk is kept",
    Act.HALT: "the VM is ended at once, and its disk is kept",
    Act.HIBERNATE: "its memory goes on being written",
}


def as_it_is(row: Row, now: float, notice: float, drain_by: float | None) -> Evidence:
    """What the sources say of a VM when all of them answer and nothing is wrong."""
    has_domain = row.state not in MAKING | AT_REST
    paused = row.state is State.PAUSED
    domain = Domain(
        row.id,
        row.job,
        row.restart,
        stuck=row.state is State.READY and row.reason == FULL,
        held=paused or row.state is State.SUSPENDED,
        asleep=row.state is State.ASLEEP,
        panicked=row.state is State.READY and row.reason == PANICKED,
    )
    return Evidence(
        rows=(row,),
        domains={row.id: domain} if has_domain else {},
        live_jobs={row.job: paused},
        heard=frozenset(),
        moving=frozenset(),
        processes=frozenset(),
        folders={},
        worked_on=frozenset(),
        now=now,
        notice=notice,
        drain_by=drain_by,
    )


@dataclass(frozen=True)
class Coming:
    """What the plan would do with the VM, and why, in words."""

    comes: str
    why: str


def would(evidence: Evidence) -> Coming | None:
    """What the plan would do; None: nothing."""
    for action in plan(evidence):
        grace = ", after [bait] grace" if action.doubtful else ""
        return Coming(_COMES[action.act] + grace, action.why)
    return None


def after(when: str, evidence: Evidence, **changes: Any) -> Iterator[str]:
    """What comes of such a change of the evidence, if it is not what comes anyway."""
    found = would(replace(evidence, **changes))
    if found and found != would(evidence):
        yield f"{when}: {found.comes}"


def then(at: float, evidence: Evidence) -> Iterator[str]:
    """What comes at that time, in seconds since the epoch, if it is not what comes anyway."""
    found = would(replace(evidence, now=at))
    if at > evidence.now and found and found != would(evidence):
        yield f"at {utc(at)}: {found.comes}: {found.why}"


def utc(seconds: float) -> str:
    """A time, from seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
