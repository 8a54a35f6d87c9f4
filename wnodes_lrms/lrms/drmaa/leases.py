"""Leases through the site's DRMAA library, one worker process a user.

DRMAA can't list jobs by name, so the leases that were submitted here are kept in a small file. Only
those are listed: each bait tells of its own. A lease is in the file before the library is asked to
submit it: if the library then hangs or crashes, or the bait dies, the batch system's own commands
tell by its name what has come of it.
"""

import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from wnodes_lrms.errors import RejectedError, UnknownError, WnodesError
from wnodes_lrms.folders import PASSED, have
from wnodes_lrms.lrms import refusals
from wnodes_lrms.lrms.drmaa.client import Worker
from wnodes_lrms.lrms.drmaa.native import native
from wnodes_lrms.lrms.interface import Drmaa
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.lease import Lease, LeaseState, Request, account_of
from wnodes_lrms.order import LEASE_NAME

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lease (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    job TEXT NOT NULL,
    ended REAL
) STRICT;
"""
_TOLD = 3600.0  # seconds that a lease is listed after its end
_KEPT = 90 * 86400.0  # seconds that it is known, so that it is not submitted again
# Seconds for which the library must say that a job has failed, or that it knows none, before that
# is believed: an LRMS that has just come back says so of jobs that run.
_SURE = 20.0
# Seconds that the batch system may take to list a job whose submission did not come to its end.
_LATE = 5.0
# Seconds after which a submission that the batch system has never listed has come to nothing.
_NOTHING = 600.0
_SUBMISSION = 30.0  # seconds
_DEADLINE = 15.0
# Said by libraries that have no code of their own for it.
_NO_ANSWER = ("communicat", "connect", "contact", "timed out", "temporar", "try later")


class Register:
    """Which lease is which job: the SQLite file. Every method raises WnodesError."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        try:
            have(path.parent, PASSED)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise WnodesError(f"leases {path}: {error}") from error
        self._forget_old()

    def begin(self, lease: str, user: str) -> None:
        """A lease is about to be submitted."""
        self.add(lease, user, "")

    def drop(self, lease: str) -> None:
        """A lease was not submitted after all."""
        self._do("DELETE FROM lease WHERE id = ?", lease)

    def add(self, lease: str, user: str, job: str) -> None:
        """A lease was submitted."""
        self._do("INSERT OR REPLACE INTO lease (id, user, job) VALUES (?, ?, ?)", lease, user, job)

    def find(self, lease: str) -> tuple[str, str] | None:
        """User and job of a lease; the job is empty while nobody knows what came of it."""
        found = self._do("SELECT user, job FROM lease WHERE id = ?", lease)
        return (found[0][0], found[0][1]) if found else None

    def end(self, lease: str) -> None:
        """A lease has ended; those that ended long ago are forgotten."""
        self._do("UPDATE lease SET ended = ? WHERE id = ?", time.time(), lease)
        self._forget_old()

    def listed(self) -> Sequence[tuple[Lease, bool]]:
        """The leases to tell of, and whether each is over for certain."""
        rows = self._do(
            "SELECT id, job, user, ended FROM lease"
            " WHERE ended IS NULL OR ended > ? ORDER BY rowid",
            time.time() - _TOLD,
        )
        return [
            (Lease(lease, job, user, "unknown" if ended is None else "ended"), ended is not None)
            for lease, job, user, ended in rows
        ]

    def _forget_old(self) -> None:
        self._do("DELETE FROM lease WHERE ended < ?", time.time() - _KEPT)

    def _do(self, statement: str, *values: object) -> list[tuple[str, ...]]:
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                told = "the node's bait can't write down what it does"
                raise WnodesError(f"leases {self._path}: {error}", told=told) from error


class DrmaaLeases:
    """The leases that this bait has submitted through DRMAA. Safe to use from many threads."""

    def __init__(
        self,
        library: str,
        accounts: Sequence[str],
        path: Path,
        job_id: Callable[[str], JobId],
        named: Callable[[str, str], Sequence[JobId]],
        dialects: Sequence[Drmaa],
    ) -> None:
        """`library`: path of libdrmaa; `accounts`: users that leases may run as; `job_id` and
        `named`: the LRMS's, see System; `dialects`: those of all that are known."""
        self.library = library
        self.accounts = accounts
        self.job_id = job_id
        self.named = named
        self.dialects = dialects
        self.register = Register(path)
        self._workers: dict[str, Worker] = {}
        self._lock = threading.Lock()
        self._drms = ""
        # lease → when its submission failed, or was found to be unclear; monotonic
        self._tried: dict[str, float] = {}
        self._gone: dict[str, float] = {}  # lease → since when it is said to be gone, monotonic

    def submit(self, request: Request) -> str:
        """See Leases. A lease that was submitted here once is not submitted again."""
        account_of(request.user, self.accounts)
        worker = self._worker(request.user)
        with worker.lock:
            if job := self._job_of(request.lease):
                return job
            if time.monotonic() < self._tried.get(request.lease, -_LATE) + _LATE:
                raise UnknownError("DRMAA: it is not known yet what came of the last submission")
            self._drms = self._drms or worker.ask(_DEADLINE, op="system")["drms"]
            words = native(self._drms, request, self.dialects)
            self.register.begin(request.lease, request.user)
            try:
                reply = worker.ask(
                    _SUBMISSION,
                    op="submit",
                    name=request.name,
                    program=request.program,
                    environment=dict(request.environment),
                    native=words,
                )
                job = self.job_id(str(reply["job"]))
            except WnodesError as error:
                judged = _judged(error)
                if isinstance(judged, RejectedError):
                    self.register.drop(request.lease)
                else:
                    self._tried[request.lease] = time.monotonic()
                raise judged from error
            self.register.add(request.lease, request.user, job)
            self._tried.pop(request.lease, None)
            return job

    def _clear_up(self) -> None:
        """Find the jobs of submissions that did not come to their end; in time, forget the rest."""
        for lease, _over in self.register.listed():
            if lease.job or self._job_of(lease.lease):
                continue
            tried = self._tried.setdefault(lease.lease, time.monotonic())
            if time.monotonic() - tried > _NOTHING:
                self.register.drop(lease.lease)
                self._tried.pop(lease.lease, None)

    def _job_of(self, lease: str) -> str:
        """The job of a lease; empty if it was not submitted here. Raises UnknownError."""
        user, job = self.register.find(lease) or ("", "")
        if user and not job and (found := self.named(LEASE_NAME + lease, user)):
            job = found[0]
            self.register.add(lease, user, job)
        return job

    def cancel(self, lease: str, job: str) -> None:  # noqa: ARG002 (the register knows the job)
        """See Leases. A lease that another bait has submitted is not known here."""
        mine = self._job_of(lease)
        known = self.register.find(lease)
        if known and mine:
            account_of(known[0], self.accounts)
            self._worker(known[0]).ask(_DEADLINE, op="cancel", job=mine)

    def list(self) -> Sequence[Lease]:
        """See Leases: those that were submitted here."""
        self._clear_up()
        listed = [(lease, over) for lease, over in self.register.listed() if lease.job]
        jobs: dict[str, list[str]] = defaultdict(list)
        for lease, over in listed:
            if not over:
                jobs[lease.user].append(lease.job)
        states: dict[tuple[str, str], str] = {}
        faults: list[UnknownError] = []
        for user, mine in jobs.items():
            try:
                reply = self._worker(user).ask(_DEADLINE, op="states", jobs=mine)
                states |= {(user, job): state for job, state in reply["states"].items()}
            except UnknownError as error:
                faults.append(error)
        if faults and not states:
            raise faults[0]
        found = []
        for lease, over in listed:
            said = lease.state if over else states.get((lease.user, lease.job), "unknown")
            state = self._believed(lease.lease, said)
            if state == "ended" and not over:
                self.register.end(lease.lease)
            found.append(Lease(lease.lease, lease.job, lease.user, state))
        return found

    def _believed(self, lease: str, said: str) -> LeaseState:
        """What follows from a worker's word for a lease's state."""
        if said != "gone":
            self._gone.pop(lease, None)
            return cast(LeaseState, said)
        since = self._gone.setdefault(lease, time.monotonic())
        return "ended" if time.monotonic() - since >= _SURE else "unknown"

    def _worker(self, user: str) -> Worker:
        with self._lock:
            kept = {name for dialect in self.dialects for name in dialect.environment}
            return self._workers.setdefault(user, Worker(self.library, user, kept))


def _judged(error: WnodesError) -> WnodesError:
    """Whether the LRMS has refused, where the library has but one code for all."""
    said = str(error)
    if "InternalException" in said and not any(word in said.lower() for word in _NO_ANSWER):
        return RejectedError(said, told=refusals.told(said))
    return error
