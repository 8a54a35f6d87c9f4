"""What a bait has to do about what it finds: a pure function, from evidence to actions.

Ending takes two sources that agree: our ledger or a domain's mark names the job, and the LRMS
did answer and does not have it. A source that does not answer (None) changes nothing.
"""

from dataclasses import dataclass
from enum import StrEnum

from bait.hypervisor import Domain
from bait.ledger import Row
from wnodes_lrms.model import Kind, State

AT_REST = frozenset({State.STOPPED, State.HIBERNATED, State.FAILED})  # of a cloud machine


class Act(StrEnum):
    """What to do with a machine."""

    RESUME = "resume"  # go on making it
    ADOPT = "adopt"  # it boots or runs: go on watching it
    LOST = "lost"  # it should run and does not: tell its job
    END = "end"  # its job is over: remove all it has
    SHUT_DOWN = "shut down"  # cloud: have the guest shut down, keep the disk
    HALT = "halt"  # cloud: its lease is over: end it at once, keep the disk
    HIBERNATE = "hibernate"  # cloud: go on with writing its memory
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
    notice: float  # seconds before the end of a lease at which its machine is told to shut down


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
    found = None
    if row.id in evidence.worked_on:
        return None
    if row.state is State.ENDING:
        found = (Act.END, "its end was begun")
    elif row.kind is Kind.CLOUD:
        found = _for_cloud(row, evidence)
    else:
        found = _for_batch(row, evidence)
    return Action(found[0], row.id, row.job, found[1]) if found else None


def _for_batch(row: Row, evidence: Evidence) -> tuple[Act, str] | None:
    if _job_is_over(row, evidence):
        return _after_grace(row, evidence, Act.END)
    if row.state in (State.REQUESTED, State.BUILDING):
        return Act.RESUME, "it was promised and not finished"
    if row.state is State.FAILED or evidence.domains is None:
        return None
    if row.id not in evidence.domains:
        return Act.LOST, "libvirt does not run it any more"
    if row.state is State.BOOTING:
        return Act.ADOPT, "it was booting"
    return None


def _for_cloud(row: Row, evidence: Evidence) -> tuple[Act, str] | None:
    if row.state in AT_REST:
        return None
    if row.state is State.STOPPING:
        act = Act.HALT if _job_is_over(row, evidence) else Act.SHUT_DOWN
        return act, "its shutdown was begun"
    if row.state is State.HIBERNATING:
        return Act.HIBERNATE, "its hibernation was begun"
    if _job_is_over(row, evidence):
        return _after_grace(row, evidence, Act.HALT)
    if row.state in (State.REQUESTED, State.BUILDING):
        return Act.RESUME, "it was promised and not finished"
    if evidence.domains is not None and row.id not in evidence.domains:
        return Act.LOST, "libvirt does not run it any more"
    if row.ends is not None and evidence.now >= row.ends - evidence.notice:
        return Act.SHUT_DOWN, "the walltime of its lease is nearly over"
    return None


def _job_is_over(row: Row, evidence: Evidence) -> bool:
    return evidence.live_jobs is not None and row.job not in evidence.live_jobs


def _after_grace(row: Row, evidence: Evidence, act: Act) -> tuple[Act, str] | None:
    if evidence.now - row.since < evidence.grace:
        return None
    return act, "the LRMS lists no such job here"
