"""Leases through Slurm's own commands. Pure halves make argv and read text; the class runs them.

Sources: sbatch(1), squeue(1), scancel(1) of Slurm 22.05 and 24.11. The columns of squeue have fixed
widths because a job's name is its user's text, and stands last.
"""

import os
import pwd
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms import refusals
from wnodes_lrms.lrms.lease import (
    COMMENT,
    Lease,
    LeaseState,
    Request,
    account_of,
    carries_leases,
)
from wnodes_lrms.lrms.slurm.allocation import job_id
from wnodes_lrms.order import LEASE_NAME
from wnodes_lrms.run import Ended, run, run_as

_COLUMNS = (
    ("JobID", 20),
    ("UserName", 64),
    ("State", 20),
    ("NodeList", 256),
    ("Reason", 256),
    ("Name", 64),
)
SQUEUE_FORMAT = ",".join(f"{name}:{width}" for name, width in _COLUMNS)
_RECORD = sum(width for _name, width in _COLUMNS) + 1  # bytes, with the line's end

_NAME = re.compile(re.escape(LEASE_NAME) + r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STATES: dict[LeaseState, frozenset[str]] = {
    "pending": frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}),
    "running": frozenset(
        {"CONFIGURING", "RUNNING", "COMPLETING", "STAGE_OUT", "SUSPENDED", "STOPPED", "SIGNALING"}
        | {"RESIZING"}
    ),
    "ended": frozenset(
        {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
        | {"DEADLINE", "OUT_OF_MEMORY", "REVOKED"}
    ),
}
# What sbatch and scancel say when they have no answer, or none of the controller's own
# (slurm_errno.c); all else is a refusal.
_NO_ANSWER = (
    ": fatal:",
    "Unable to contact slurm controller",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "standby mode",
    "temporarily unable to accept job",
    "temporarily unavailable",
    "Protocol authentication error",
    "Unexpected message received",
    "Munge",
    "munge",
    "Connection refused",
    "Connection reset",
)
_GONE = ("Invalid job id", "already completing or completed")
_LONGEST_SENTENCE = 400
_KEPT = ("PATH", "SLURM_CONF")  # of our own environment
_MOST_NOTICE = 65535  # seconds; sbatch takes no more
_SUBMISSION = 30.0  # seconds; the site's own job_submit plug-ins take their time too
_DEADLINE = 10.0
# After a listing that took its time a bridge must still get it: see _LISTS in
# bait/frontend/leases.py.
_OF_THE_PLAN = 3.0
_PLANNED = 30.0  # seconds: as often as Slurm's backfill plans by default (bf_interval)
_MOST_PLANNED = 200  # jobs that are asked about


def submission(request: Request, notice: int) -> list[str]:
    """sbatch's argv. The token is not in it: everybody on the node can read that.

    `notice` is how many seconds before the walltime is over the program gets USR1; Slurm itself
    gives a job only KillWait (30 s) between TERM and KILL.
    """
    notice = min(notice, request.walltime // 4, _MOST_NOTICE)
    argv = [
        *("sbatch", "--parsable", f"--job-name={request.name}", f"--comment={COMMENT}"),
        *(f"--constraint={'&'.join(request.needs)}", "--nodes=1", "--ntasks=1"),
        *(f"--cpus-per-task={request.cores}", f"--mem={request.memory}M"),
        *(f"--time={-(-request.walltime // 60)}", f"--signal=B:USR1@{notice}"),
        # A second job of this name, from a request that crossed another, never runs beside it.
        *("--no-requeue", "--dependency=singleton"),
        *("--output=/dev/null", "--chdir=/", "--propagate=NONE"),
    ]
    for option, value in (
        ("account", request.account),
        ("partition", request.partition),
        ("nodelist", request.node),
        ("gres", gres(request)),
    ):
        if value:
            argv.append(f"--{option}={value}")
    return [*argv, request.program]


def gres(request: Request) -> str:
    """What a lease takes of what its node has been given of each, as Slurm writes it."""
    return ",".join(f"{name}:{count}" for name, count in request.consumables.items())


def parse_leases(listing: str) -> Sequence[Lease]:
    """The jobs named as leases in the output of `squeue -h -a -t all -O SQUEUE_FORMAT`.

    Raises UnknownError if the text does not have these columns.
    """
    data = listing.encode("utf-8", "surrogateescape")
    if len(data) % _RECORD:
        raise UnknownError("squeue does not answer in the columns that were asked for")
    found = []
    for start in range(0, len(data), _RECORD):  # by size: a name may have line ends
        row, at = {}, start
        for name, width in _COLUMNS:
            row[name] = data[at : at + width].decode("utf-8", "surrogateescape").rstrip(" ")
            at += width
        if _NAME.fullmatch(row["Name"]):
            found.append(_lease(row))
    return found


def parse_expected(listing: str) -> dict[str, float]:
    """When jobs are to begin, in the output of `squeue -h -O JobID:20,StartTime:20`, where times
    are in seconds since the epoch. Those for which nothing is planned (N/A) are left out."""
    words = (line.split() for line in listing.splitlines())
    return {each[0]: float(each[1]) for each in words if len(each) == 2 and _is_time(each[1])}


def _is_time(word: str) -> bool:
    return word.isascii() and word.isdigit() and 0 < len(word) < 12


def _lease(row: Mapping[str, str]) -> Lease:
    said = row["State"]
    state: LeaseState = "unknown"
    for known, words in _STATES.items():
        state = known if said in words else state
    reasons = [] if said in ("PENDING", "RUNNING", "COMPLETED") else [said]
    if row["Reason"] not in ("", "None") and said != "CANCELLED":  # then it tells why it waited
        reasons.append(row["Reason"])
    return Lease(
        lease=row["Name"].removeprefix(LEASE_NAME),
        job=row["JobID"],
        user=row["UserName"],
        state=state,
        node="" if row["NodeList"] == "(null)" else row["NodeList"],
        reason=", ".join(reasons),
    )


def parse_submitted(ended: Ended) -> str:
    """The job id that `sbatch --parsable` tells (`id` or `id;cluster`).

    Raises RejectedError with Slurm's sentence, UnknownError if Slurm gave none.
    """
    job = ended.output.strip().partition(";")[0]
    if ended.status == 0 and job.isascii() and job.isdigit():
        return job_id(job)
    said = _sentence(ended.errors)
    if ended.status <= 0 or not said or _has(ended.errors, _NO_ANSWER):
        raise UnknownError(
            f"sbatch: {said or 'no answer'}", told="the batch system does not answer"
        )
    raise RejectedError(f"Slurm refuses the lease: {said}", told=refusals.told(said))


def check_cancelled(ended: Ended) -> None:
    """Raises UnknownError unless scancel did it, or the job was over already."""
    if ended.status != 0 and not _has(ended.errors, _GONE):
        said = _sentence(ended.errors) or "no answer"
        raise UnknownError(f"scancel: {said}", told="the batch system does not answer")


def _has(text: str, phrases: Sequence[str]) -> bool:
    return any(phrase in text for phrase in phrases)


def _sentence(errors: str) -> str:
    """What a command said, in one line; the site's own plug-ins may have said more than Slurm."""
    said: list[str] = []
    for line in errors.splitlines():
        for prefix in ("sbatch: ", "scancel: ", "error: ", "Batch job submission failed: "):
            line = line.removeprefix(prefix)
        if line.strip() and line.strip() not in said:
            said.append(line.strip())
    if len(said) > 1:
        said = [line for line in said if line != "Unspecified error"]
    return "; ".join(said)[:_LONGEST_SENTENCE]


class SlurmLeases:
    """The leases of this Slurm. Safe to use from many threads."""

    def __init__(self, accounts: Sequence[str], notice: int) -> None:
        """`accounts`: users that leases may run as; `notice`: see `submission`."""
        self.accounts = accounts
        self.notice = notice
        self._one_at_a_time = threading.Lock()
        self._expected: Mapping[str, float] = {}
        self._asked: set[str] = set()
        self._planned = float("-inf")  # when it was asked for that, on the monotonic clock

    def submit(self, request: Request) -> str:
        """See Leases. However often it is asked for, one job of the lease stays."""
        user = account_of(request.user, self.accounts)
        with self._one_at_a_time:
            there = self._named(request.lease, request.user)
            if there:
                return there[0].job
            ended = run_as(
                user,
                submission(request, self.notice),
                deadline=_SUBMISSION,
                environment={**_own_environment(), **request.environment},
            )
            job = parse_submitted(ended)
            # Another bait may have been asked at the same time: the first of the jobs stays.
            rows = self._named(request.lease, request.user)
            for spare in rows[1:]:
                self._cancel(user, spare.job)
            return rows[0].job if rows else job

    def cancel(self, lease: str, job: str) -> None:
        """See Leases. Slurm is asked by the lease's name: a wrong `job` ends nothing else."""
        for found in self._named(lease):
            if found.state != "ended" and job in ("", found.job):
                self._cancel(account_of(found.user, self.accounts), found.job)

    def list(self) -> Sequence[Lease]:
        """See Leases: every lease in this Slurm, whichever bait has submitted it."""
        first: dict[tuple[str, str], Lease] = {}
        for row in self._list():
            first.setdefault((row.lease, row.user), row)
        rows = first.values()
        expected = self._plan([row.job for row in rows if row.state == "pending"])
        return tuple(replace(row, expected=expected.get(row.job, 0.0)) for row in rows)

    def _plan(self, jobs: Sequence[str]) -> Mapping[str, float]:
        """When these are to begin, as of half a minute ago at most; {} if Slurm does not tell."""
        now = time.monotonic()
        if not jobs or (now - self._planned < _PLANNED and set(jobs) <= self._asked):
            return self._expected
        asked = jobs[-_MOST_PLANNED:]
        argv = ["env", "SLURM_TIME_FORMAT=%s", "squeue", "--noheader", "--all"]
        argv += [f"--jobs={','.join(asked)}", "--Format=JobID:20,StartTime:20"]
        try:
            listing = run(argv, deadline=_OF_THE_PLAN, unknown=True)
        except UnknownError:
            listing = ""  # nothing hangs on it, and one of them may just have gone
        self._expected, self._asked, self._planned = parse_expected(listing), set(jobs), now
        return self._expected

    def _named(self, lease: str, user: str | None = None) -> Sequence[Lease]:
        """The jobs of one lease."""
        found = self._list(f"--name={LEASE_NAME}{lease}")
        return [row for row in found if row.lease == lease and user in (None, row.user)]

    def _list(self, *options: str) -> Sequence[Lease]:
        """All lease jobs; of the same lease, one that lives first, then by age."""
        argv = ["squeue", "--noheader", "--all", "--states=all", *options]
        listing = run([*argv, f"--Format={SQUEUE_FORMAT}"], deadline=_DEADLINE, unknown=True)
        # Anybody may call a job so; only those users are ours.
        mine = [row for row in parse_leases(listing) if carries_leases(row.user, self.accounts)]
        return sorted(mine, key=lambda row: (row.state == "ended", int(row.job)))

    def _cancel(self, user: pwd.struct_passwd, job: str) -> None:
        """As the job's owner, who may end nobody else's."""
        argv = ["scancel", "--", job_id(job)]
        ended = run_as(user, argv, deadline=_DEADLINE, environment=_own_environment())
        check_cancelled(ended)


def _own_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _KEPT if name in os.environ}
