"""What every batch system must be able to do, as types. An adapter is one folder with an entry."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check
from wnodes_lrms.errors import WnodesError
from wnodes_lrms.lrms.hookset import Hooks
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.lease import Leases, Request
from wnodes_lrms.model import Allocation, Room
from wnodes_lrms.policy import Policy


class Lrms(Protocol):
    """The batch system of one node. All raise UnknownError if it does not answer."""

    def job_id(self, text: str, /) -> JobId:
        """The job id that a text is. Raises RejectedError if it is none of this batch system."""

    def allocation(self, job: JobId, /) -> Allocation:
        """What the job was granted on this node, to an owner whom this node knows."""

    def where(self, job: JobId) -> str | None:
        """The node on which a job runs, here or elsewhere; empty if on none yet, or on several.

        None if the batch system does answer, and says that it has no such job, or that it has
        ended.
        """

    def live_jobs(self) -> Mapping[str, bool]:
        """The jobs that hold an allocation on this node, ending ones too, and whether each is
        suspended."""

    def room(self) -> Room:
        """What of this node no job has; nothing where it takes no jobs now.

        For people alone, as it is over when it is told: nothing is decided by it.
        """

    def drain(self, reason: str) -> str:
        """Have it send no more jobs here; asked again, success.

        The reason of a drain that somebody else has set, which stays; empty if there is none.
        """

    def resume(self) -> str:
        """Have it send jobs here again, if it was a bait that has drained the node.

        The reason of a drain that somebody else has set, which stays; empty if there is none.
        """


@runtime_checkable
class Reruns(Protocol):
    """A batch system that lets no owner requeue a job, so that the bait must ask it. All raise
    UnknownError."""

    def runs_once(self, job: JobId, /) -> str:
        """Why the job may not run again, by its user's wish; empty: it may."""

    def requeue(self, job: JobId, /) -> None:
        """End the job's run, and have it run again."""

    def hold(self, job: JobId, reason: str, /) -> None:
        """End the job's run, and have it wait for an operator."""


@dataclass(frozen=True)
class Failure:
    """A job whose VM has failed."""

    job: str
    retry: bool  # whether another try may help
    restart: int  # how often it was tried before
    retries: int  # how often a job is tried again at most


def requeued_or_held(release: str, rerun: str) -> Callable[[Failure], str]:
    """What becomes of a failed job whose starter has it requeued until it is held. `release`: the
    command that lets it go, `rerun`: the one that requeues it; to both the job is added."""

    def told(failed: Failure) -> str:
        if failed.retry and failed.restart < failed.retries:
            return (
                "its job's starter asks the batch system to run the job again: try"
                f" {failed.restart + 2} of {failed.retries + 1}; where the starter is gone, as"
                " after a reboot, and the batch system does not do so by itself,"
                f" `{rerun} {failed.job}` does"
            )
        return (
            "its job's starter asks the batch system to hold the job: once that is mended,"
            f" `{release} {failed.job}` lets it try again; one that may run but once ends"
        )

    return told


@dataclass(frozen=True)
class Run:
    """A job's time on a node, from one start to one end, as the accounting has it."""

    job: str
    state: str
    start: float  # seconds since the epoch
    end: float | None  # None: it goes on
    cores: int
    memory: int  # MiB; 0: the accounting has none for it
    lease: str = ""  # of a lease job that has ended: the lease


class Charging(Protocol):
    """How a batch VM's QEMU gets into its job's control groups, to be metered as the job's own."""

    def trouble(self) -> str | None:
        """Why no VM can be charged to its job on this node; None if it can."""

    def adopt(self, pid: int, node: str, uid: int, job: str, patience: float) -> str:
        """Put a process into the job's groups; what was done, in words. Done again, success.

        Waits `patience` seconds for the groups, where they may still come. Raises WnodesError with
        the reason.
        """

    def set_aside(self, pid: int, node: str, job: str) -> None:
        """Keep a process of a job that is suspended from being frozen with it: who is frozen can't
        be told to pause. `adopt` puts it back. Raises WnodesError.
        """

    def clear(self, node: str, uid: int, job: str) -> None:
        """Remove what the batch system had to leave of a job that is over."""


class NotCharged(Charging):
    """Where the control groups of jobs are not known."""

    def trouble(self) -> str:
        return "where this batch system has the control groups of its jobs is not known"

    def adopt(self, pid: int, node: str, uid: int, job: str, patience: float) -> str:  # noqa: ARG002
        raise WnodesError(self.trouble())

    def set_aside(self, pid: int, node: str, job: str) -> None:
        """It is in no group of its job's."""

    def clear(self, node: str, uid: int, job: str) -> None:
        """There is nothing."""


_NOT_CHARGED = NotCharged()


@dataclass(frozen=True)
class Drmaa:
    """Leases through the system's DRMAA library. `name`: a pattern of what the library calls its
    LRMS, in any case; `native`: the native specification; `environment`: the variables that the
    library reads, as patterns of fnmatch."""

    name: str
    native: Callable[[Request], list[str]]
    environment: tuple[str, ...]


@dataclass(frozen=True)
class System:
    """A batch system. What has a default is what one may lack."""

    job_id: Callable[[str], JobId]  # see Lrms
    # The jobs by a name, of a user, that are queued or run; raises UnknownError.
    named: Callable[[str, str], Sequence[JobId]]
    node: Callable[[Config, str], Lrms]
    hooks: Callable[[Config, Policy], Hooks]
    site_checks: Callable[[Config], Iterator[Check]]
    node_checks: Callable[[Config, str], Iterator[Check]]
    after_failure: Callable[[Failure], str]  # what becomes of the job, in words for its user
    drmaa: Drmaa
    leases: Callable[[Config], Leases] | None = None  # by its own commands; else by DRMAA alone
    # What the accounting has of a node's jobs since a time (epoch); None: it is not read here.
    runs: Callable[[str, float], Sequence[Run]] | None = None
    charging: Charging = _NOT_CHARGED
    # Whether its allocations name their CPUs, for VMs to be pinned to. (It may be set up not to.)
    names_cpus: bool = False
    # The folder with a file for each job that has a VM, where the hooks look for that.
    markers: Callable[[Config], Path] | None = None
