"""What a bait has to do about what it finds: a pure function, from evidence to actions.

Nothing ends on one source's word. A job counts as over when the LRMS does answer and does not list
it, and no process of that job has been heard of on this node. A VM counts as gone when libvirt
does answer and does not list it, and the kernel has no such process. What rests on the LRMS's
silence about a job has to stand for a time before it is acted on: a controller that has just
started may list nothing. A source that does not answer (None) changes nothing.

A VM stands still as long as the LRMS says that its job is suspended.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bait.hypervisor.domain import FULL, PANICKED, Domain
from bait.ledger.records import Row
from bait.ledger.states import AT_REST, MAKING
from wnodes_lrms.model import Kind, State

_RUNS = frozenset({State.BOOTING, State.READY, State.PAUSED, State.SUSPENDED, State.ASLEEP})


class Act(StrEnum):
    """What to do with a VM."""

    RESUME = "resume"  # go on making it
    ADOPT = "adopt"  # it boots or runs: go on watching it
    WAKE = "wake"  # it is held and should run: its disk could not be written, or it was resumed
    HOLD = "hold"  # cloud: it runs and should be suspended
    PAUSE = "pause"  # its job is suspended: so is the VM
    CONTINUE = "continue"  # its job goes on: so does the VM
    FOLLOW = "follow"  # cloud: the guest has put itself to sleep, or has woken: write that down
    FULL = "full"  # cloud: there was no room for what it wrote, or there is again: write that down
    PANIC = "panic"  # its guest's kernel has panicked, or does not stand still for that any more
    LOST = "lost"  # it should run and does not: tell its job
    EVICT = "evict"  # batch: the node is to be empty: requeue its job
    END = "end"  # its job is over: remove all it has
    SHUT_DOWN = "shut down"  # cloud: have the guest shut down, keep the disk
    HALT = "halt"  # cloud: its lease is over: end it at once, keep the disk
    HIBERNATE = "hibernate"  # cloud: go on with writing its memory
    SWEEP = "sweep"  # it must not run and does: end its domain
    DESTROY = "destroy"  # no ledger row knows it, and its job is over: remove all it has
    REPORT = "report"  # the sources contradict each other: nothing is done, a person should look


@dataclass(frozen=True)
class Action:
    """One line of the plan, with its reason."""

    act: Act
    machine: str
    job: str
    why: str
    doubtful: bool = False  # to be acted on only when it has stood for the time of grace


@dataclass(frozen=True)
class Evidence:
    """What the sources said. None: that source did not answer."""

    rows: tuple[Row, ...]
    domains: dict[str, Domain] | None
    live_jobs: Mapping[str, bool] | None  # job → whether it is suspended
    heard: frozenset[str]  # jobs of which a process on this node was heard just now
    moving: frozenset[str]  # jobs of which a process on this node is known not to be stopped
    processes: frozenset[str]  # VMs that a QEMU process runs
    folders: dict[str, bool]  # VMs that have files here; whether a user's disk is among them
    worked_on: frozenset[str]  # VMs that have a task, or an action of the plan, just now
    now: float  # seconds since the epoch
    notice: float  # seconds before the end of a lease at which its VM is told to shut down
    drain_by: float | None = None  # when the node is to be empty, seconds since the epoch


_Found = tuple[Act, str] | tuple[Act, str, bool]


def plan(evidence: Evidence) -> list[Action]:
    """The actions that the evidence asks for, the oldest VM first."""
    actions = [
        Action(found[0], row.id, row.job, *found[1:])
        for row in evidence.rows
        if row.id not in evidence.worked_on and (found := _for_row(row, evidence))
    ]
    return [*actions, *_for_strangers(evidence)]


def _for_row(row: Row, evidence: Evidence) -> _Found | None:
    if row.state is State.ENDING:
        return Act.END, "its end was begun"
    begun = row.state in (State.STOPPING, State.HIBERNATING)
    if _is_over(row.job, evidence) and row.job in evidence.heard and not begun:
        return Act.REPORT, "the LRMS lists no such job here, but a process of it lives"
    if _is_lost_from_sight(row, evidence):
        return Act.REPORT, "libvirt does not list it, but its QEMU process lives: restart libvirtd"
    return _for_cloud(row, evidence) if row.kind is Kind.CLOUD else _for_batch(row, evidence)


def _for_batch(row: Row, evidence: Evidence) -> _Found | None:
    if _is_over(row.job, evidence):
        return Act.END, "the LRMS lists no such job here", True
    late = evidence.drain_by is not None and evidence.now >= evidence.drain_by
    if late and row.state is not State.FAILED:
        return Act.EVICT, "the node is to be empty by now"
    if row.state is State.STARTING:
        # Not before libvirt has said whether it has the domain.
        if evidence.domains is None:
            return None
        if row.id in evidence.domains:
            return Act.ADOPT, "its domain was created"
    if row.state in MAKING:
        return Act.RESUME, "it was promised and not finished"
    if row.state is State.FAILED:
        return (Act.SWEEP, "it has failed and runs") if _runs(row, evidence) else None
    if _is_gone(row, evidence):
        return Act.LOST, "libvirt does not list it, and no process runs it"
    domain = evidence.domains.get(row.id) if evidence.domains else None
    if domain and domain.panicked and row.state in (State.READY, State.PAUSED):
        return Act.PANIC, PANICKED
    if row.state is State.BOOTING and evidence.domains is not None:
        return Act.ADOPT, "it was booting"
    return _as_its_job(row, evidence) or _awake(row, evidence)


def _for_cloud(row: Row, evidence: Evidence) -> _Found | None:
    if row.state in AT_REST:
        return (Act.SWEEP, f"it is {row.state} and runs") if _runs(row, evidence) else None
    if row.state is State.STOPPING:
        over = _is_over(row.job, evidence) and row.job not in evidence.heard
        return Act.HALT if over else Act.SHUT_DOWN, "its shutdown was begun"
    if row.state is State.HIBERNATING:
        return Act.HIBERNATE, "its hibernation was begun"
    if _is_over(row.job, evidence):
        return Act.HALT, "the LRMS lists no such job here", True
    if evidence.drain_by is not None and evidence.now >= evidence.drain_by - evidence.notice:
        return Act.SHUT_DOWN, "the node is to be empty soon"
    if row.state in MAKING:
        return Act.RESUME, "it was promised and not finished"
    if _is_gone(row, evidence):
        return Act.LOST, "libvirt does not list it, and no process runs it"
    if row.ends is not None and evidence.now >= row.ends - evidence.notice:
        return Act.SHUT_DOWN, "the walltime of its lease is nearly over"
    found = _panic(row, evidence) or _as_its_job(row, evidence) or _full(row, evidence)
    return found or _as_suspended(row, evidence)


def _for_strangers(evidence: Evidence) -> Iterator[Action]:
    """What no row of the ledger knows: domains that bear our mark, and files."""
    if evidence.domains is None or evidence.live_jobs is None:
        return
    known = {row.id for row in evidence.rows} | evidence.worked_on
    for domain in evidence.domains.values():
        if domain.id not in known:
            if domain.job in evidence.live_jobs or domain.job in evidence.heard:
                act, why = Act.REPORT, "no ledger row knows it, but its job lives"
            else:
                act, why = Act.DESTROY, "no ledger row, and the LRMS lists no such job"
            yield Action(act, domain.id, domain.job, why, act is Act.DESTROY)
    for machine, precious in evidence.folders.items():
        if machine not in known and machine not in evidence.domains:
            act, why = Act.REPORT, "files that no ledger row knows"
            if machine in evidence.processes:
                why += ", and a QEMU process that libvirt does not know"
            elif precious:
                why += ", with a user's disk: remove them by hand if nobody misses it"
            else:
                act = Act.DESTROY
            yield Action(act, machine, "", why, act is Act.DESTROY)


def _is_over(job: str, evidence: Evidence) -> bool:
    return evidence.live_jobs is not None and job not in evidence.live_jobs


def _is_gone(row: Row, evidence: Evidence) -> bool:
    """For one that is not lost from sight: so no process runs it, either."""
    return evidence.domains is not None and row.id not in evidence.domains


def _is_lost_from_sight(row: Row, evidence: Evidence) -> bool:
    return (
        row.state in _RUNS
        and evidence.domains is not None
        and row.id not in evidence.domains
        and row.id in evidence.processes
    )


def _runs(row: Row, evidence: Evidence) -> bool:
    return evidence.domains is not None and row.id in evidence.domains


def _as_its_job(row: Row, evidence: Evidence) -> _Found | None:
    """A job that is suspended has no cores: others may run on them.

    Some batch systems say so some time before they stop the job, and give it notice.
    """
    jobs, domain = evidence.live_jobs, evidence.domains.get(row.id) if evidence.domains else None
    if jobs and row.state is State.READY and jobs[row.job]:
        early = row.job in evidence.moving
        return Act.PAUSE, "the batch system has suspended its job", early
    if jobs and row.state is State.PAUSED and not jobs[row.job]:
        return Act.CONTINUE, "the batch system lets its job go on"
    if row.state is State.PAUSED and domain and not _stands_still(domain):
        return Act.PAUSE, "its pause was begun"
    return None


def _stands_still(domain: Domain) -> bool:
    return domain.held or domain.stuck or domain.asleep or domain.panicked


def _awake(row: Row, evidence: Evidence) -> _Found | None:
    domain = evidence.domains[row.id] if evidence.domains else None
    if domain and domain.panicked:
        return None
    if row.state is State.READY and domain and domain.held:
        return Act.WAKE, "its resumption was begun"
    if row.state is State.READY and domain and domain.stuck:
        return Act.WAKE, "its disk could not be written"
    if row.state is State.READY and domain and domain.asleep:
        return Act.WAKE, "the guest has put itself to sleep, and its job waits"
    return None


def _panic(row: Row, evidence: Evidence) -> _Found | None:
    """The ledger has the panic of a cloud VM's guest as the reason of its state."""
    domain = evidence.domains[row.id] if evidence.domains else None
    if row.state is not State.READY or domain is None:
        return None
    if domain.panicked and row.reason != PANICKED:
        return Act.PANIC, PANICKED
    if row.reason == PANICKED and not domain.panicked:
        return Act.PANIC, "the guest has been started anew"
    return None


def _full(row: Row, evidence: Evidence) -> _Found | None:
    """The ledger has it as the reason of its state, as with a panic."""
    domain = evidence.domains[row.id] if evidence.domains else None
    if row.state is not State.READY or domain is None:
        return None
    if domain.stuck and row.reason != FULL:
        return Act.FULL, "there was no room for what it wrote"
    if domain.stuck:
        return Act.WAKE, "there may be room again"
    if row.reason == FULL and not domain.stuck:
        return Act.FULL, "it goes on"
    return None


def _as_suspended(row: Row, evidence: Evidence) -> _Found | None:
    """A bait may have been killed between the word and the deed."""
    domain = evidence.domains[row.id] if evidence.domains else None
    if domain and row.state is State.READY and domain.asleep:
        return Act.FOLLOW, "the guest has put itself to sleep"
    if domain and row.state is State.ASLEEP and not domain.asleep:
        return Act.FOLLOW, "the guest has woken"
    if domain and row.state is State.SUSPENDED:
        return None if _stands_still(domain) else (Act.HOLD, "its suspension was begun")
    return _awake(row, evidence)


def grounds(machine: str, job: str, evidence: Evidence) -> dict[str, str]:
    """What each source says of a VM, in words."""
    row = next((row for row in evidence.rows if row.id == machine), None)
    said = {"ledger": "no row"}
    if row:
        said["ledger"] = f"{row.kind}, {row.state} for {max(0.0, evidence.now - row.since):.0f} s"
    suspended = ", suspended" if evidence.live_jobs and evidence.live_jobs.get(job) else ""
    lists = f"lists job {job}{suspended}"
    said["LRMS"] = _says(evidence.live_jobs, job, lists, "lists no such job here")
    said["job's process"] = "heard just now" if job in evidence.heard else "not heard"
    said["libvirt"] = _says(evidence.domains, machine, "lists its domain", "lists no such domain")
    said["QEMU"] = "runs" if machine in evidence.processes else "no process"
    said["files"] = "here" if machine in evidence.folders else "none"
    return said


def _says(answer: Container[str] | None, name: str, yes: str, no: str) -> str:
    if answer is None:
        return "does not answer"
    return yes if name in answer else no
