"""What a bait has to do about what it finds: a pure function, from evidence to actions.

Destroying takes two sources that agree: our ledger or a domain's mark names the job, and the LRMS
did answer and does not have it. A source that does not answer (None) changes nothing.
"""

from dataclasses import dataclass
from enum import StrEnum

from bait.hypervisor import Domain
from bait.ledger import Row
from wnodes_lrms.model import State


class Act(StrEnum):
    """What to do with a machine."""

    RESUME = "resume"  # go on making it
    ADOPT = "adopt"  # it boots or runs: go on watching it
    LOST = "lost"  # it should run and does not: tell its job
    END = "end"  # its job is over: remove all it has
    DESTROY = "destroy"  # a domain of ours that no ledger row knows, and whose job is over


@dataclass(frozen=True)
class Action:
    """One line of the plan, with its reason."""

    act: Act
    machine: str
    job: str
    why: str


@dataclass(frozen=True)
class Evidence:
    """What the sources said. None: that source did not answer."""

    rows: tuple[Row, ...]
    domains: dict[str, Domain] | None
    live_jobs: set[str] | None
    worked_on: frozenset[str]  # machines that a thread of this bait has in hand
    now: float  # seconds since the epoch
    grace: float  # seconds that a row must have stood still before its job may count as over


def plan(evidence: Evidence) -> list[Action]:
    """The actions that the evidence asks for, the oldest machine first."""
    actions = [action for row in evidence.rows if (action := _for_row(row, evidence))]
    known = {row.id for row in evidence.rows}
    if evidence.domains is not None and evidence.live_jobs is not None:
        actions += [
            Action(
                Act.DESTROY, domain.id, domain.job, "no ledger row, and the LRMS lists no such job"
            )
            for domain in evidence.domains.values()
            if domain.id not in known and domain.job not in evidence.live_jobs
        ]
    return actions


def _for_row(row: Row, evidence: Evidence) -> Action | None:
    def act(what: Act, why: str) -> Action:
        return Action(what, row.id, row.job, why)

    if row.id in evidence.worked_on:
        return None
    if row.state is State.ENDING:
        return act(Act.END, "its end was begun")
    if evidence.live_jobs is not None and row.job not in evidence.live_jobs:
        if evidence.now - row.since >= evidence.grace:
            return act(Act.END, "the LRMS lists no such job here")
        return None
    if row.state in (State.REQUESTED, State.BUILDING):
        return act(Act.RESUME, "it was promised and not finished")
    if row.state is State.FAILED or evidence.domains is None:
        return None
    if row.id not in evidence.domains:
        return act(Act.LOST, "libvirt does not run it any more")
    if row.state is State.BOOTING:
        return act(Act.ADOPT, "it was booting")
    return None
