"""A lease: a small batch job whose allocation carries one cloud machine. Its words as values."""

import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.order import LEASE_NAME

LeaseState = Literal["pending", "running", "ended", "unknown"]
COMMENT = "wnodes-lease"  # the job's comment in an LRMS that has one
FEATURE = "wnodes"  # property of the nodes that have a bait, in every LRMS
LEAST_UID = 1000  # below it are root and the system's own users, see login.defs(5)


@dataclass(frozen=True)
class Request:
    """A lease job that is to be submitted."""

    lease: str  # UUID
    user: str  # the local user that it runs as
    account: str  # what is charged; empty: the LRMS's default
    partition: str  # partition or queue; empty: the LRMS's default
    walltime: int  # seconds
    cores: int
    memory: int  # MiB, with the hypervisor's own
    node: str  # where it must run; empty: anywhere
    program: str  # absolute path
    environment: Mapping[str, str]  # what the program gets, beside the LRMS's own
    features: tuple[str, ...] = ()  # what its node must have, beside FEATURE
    consumables: Mapping[str, int] = field(default_factory=dict)  # how much of what is counted

    @property
    def name(self) -> str:
        """The job's name in the LRMS."""
        return LEASE_NAME + self.lease

    @property
    def needs(self) -> tuple[str, ...]:
        """What its node must have. Where the node is named, that one says what it lacks: to the
        batch system such a lease could only wait for ever."""
        return (FEATURE, *(() if self.node else self.features))


@dataclass(frozen=True)
class Lease:
    """A lease job as the LRMS tells of it."""

    lease: str
    job: str
    user: str
    state: LeaseState
    node: str = ""  # empty: none yet, or the LRMS does not tell
    reason: str = ""  # why it waits, or how it ended
    # When it is to begin, as the LRMS sees it now (seconds since the epoch); 0: it does not tell.
    expected: float = 0.0


class Leases(Protocol):
    """The lease jobs of an LRMS. Every method raises UnknownError if the LRMS does not answer."""

    def submit(self, request: Request) -> str:
        """Submit a lease job; its job id. One that is there already is success.

        Raises RejectedError, with the LRMS's own words, if the job is refused.
        """

    def cancel(self, lease: str, job: str) -> None:
        """End a lease job; one that is gone, or never was, is success."""

    def list(self) -> Sequence[Lease]:
        """The lease jobs that are there; ended ones may be left out."""


def carries_leases(user: str, accounts: Iterable[str]) -> bool:
    """Whether the site lets lease jobs run as this user; `accounts` are those of [cloud].

    hooks/job_submit.lua has the same rule.
    """
    return any(
        user.startswith(account[:-1]) if account.endswith("*") else user == account
        for account in accounts
    )


def account_of(user: str, accounts: Iterable[str]) -> pwd.struct_passwd:
    """The local user that a lease job is to run as.

    Raises RejectedError if the site does not let leases run as them, if they are root or one of the
    system's own, or if this node does not know them.
    """
    if not carries_leases(user, accounts):
        raise RejectedError(f"no lease may run as {user}: [cloud] accounts does not name it")
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise RejectedError(f"the local user {user} is not known on this node") from None
    if found.pw_uid < LEAST_UID:
        raise RejectedError(f"no lease may run as {user}: uid {found.pw_uid} is the system's")
    return found
