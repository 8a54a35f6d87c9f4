"""What a bait asks the batch system about jobs, when anybody on the node may have it asked.

How often that is does not depend on how many callers there are, nor on how many numbers of jobs
they try. A job that the batch system does not list here is asked for no further, and its listing is
one for all; a stranger to a job costs nothing once its owner is known; and each user has a few
questions, and then one in a while.

An answer is never older than the question that it is for: a job that begins meanwhile is found, and
a job that runs for the second time is not taken for its first run.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from wnodes_lrms.errors import NotListedError, RejectedError, UnknownError, WnodesError
from wnodes_lrms.lrms.interface import Lrms
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import Allocation

T = TypeVar("T")

PAUSE = 2.0  # seconds between two listings, and between two looks at one job
_AT_ONCE = 16  # questions of one user in a row
_EACH = 1.0  # seconds after which a user has one more
_MOST_USERS = 4096  # that are remembered for having asked


class Shared(Generic[T]):
    """One question, put at most once in `pause` seconds, for all who want to know."""

    def __init__(self, question: Callable[[], T], pause: float) -> None:
        self._question = question
        self._pause = pause
        self._lock = threading.Lock()
        self._asked = self._answered = float("-inf")  # when, monotonic
        self._answer: T
        self._fault: WnodesError | None = None

    def ask(self, may: Callable[[], None] = lambda: None) -> T:
        """An answer that was asked for after this call, or trouble that was had after it.

        `may` is called if this caller is the one to put the question, and can refuse by an error.
        """
        came = time.monotonic()
        with self._lock:
            if self._asked < came and not (self._fault and self._answered >= came):
                may()
                time.sleep(max(0.0, self._asked + self._pause - time.monotonic()))
                self._asked = time.monotonic()
                try:
                    self._answer, self._fault = self._question(), None
                except WnodesError as error:
                    self._fault = error
                self._answered = time.monotonic()
            if self._fault:
                raise self._fault.with_traceback(None)
            return self._answer


class RateLimit:
    """Limits how often each user may have a question put."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}  # as if all of their questions had been put from then on

    def take(self, uid: int) -> None:
        """Take one of this user's. Raises UnknownError if there is none left."""
        now = time.monotonic()
        with self._lock:
            since = max(self._since.pop(uid, 0.0), now - _AT_ONCE * _EACH)
            has = since + _EACH <= now
            self._since[uid] = since + _EACH if has else since
            if len(self._since) > _MOST_USERS:
                del self._since[next(iter(self._since))]
        if not has:
            raise UnknownError(f"uid {uid} has asked about many jobs: it is not their turn yet")


@dataclass(frozen=True)
class _Job:
    """A job that is listed here."""

    look: Shared[Allocation]
    owner: int | None = None  # None: not told yet


class Jobs:
    """The batch system's jobs on this node. Safe to use from many threads."""

    def __init__(self, lrms: Lrms, pause: float = PAUSE) -> None:
        self.lrms = lrms
        self._pause = pause
        self._listing = Shared(lrms.live_jobs, pause)
        self._limit = RateLimit()
        self._lock = threading.Lock()
        self._known: dict[JobId, _Job] = {}
        self._last: Mapping[str, bool] = {}

    def live(self) -> Mapping[str, bool]:
        """The jobs that hold an allocation here, and whether each is suspended.

        Raises UnknownError.
        """
        self._last = self._listing.ask()
        return self._last

    def suspended(self, job: str) -> bool:
        """Whether the job is, as its batch system has said last: nobody asks it for that."""
        return self._last.get(job, False)

    def granted(self, job: JobId, uid: int) -> Allocation:
        """What a job was granted that this user says is theirs.

        Raises RejectedError if it is not, NotListedError if there is none here as far as the batch
        system knows, UnknownError if it is not to be known now.
        """
        known = self._listed(job)
        if known.owner not in (None, uid):
            raise _not_yours(job)
        allocation = known.look.ask(lambda: self._limit.take(uid))
        with self._lock:
            if job in self._known:
                self._known[job] = _Job(known.look, allocation.uid)
        if allocation.uid != uid:
            raise _not_yours(job)
        return allocation

    def _listed(self, job: JobId) -> _Job:
        live = self.live()
        with self._lock:
            # One that is not listed may come again as another user's.
            self._known = {each: found for each, found in self._known.items() if each in live}
            if job not in live:
                raise NotListedError(f"the batch system lists no job {job} on this node")
            if job not in self._known:
                look = Shared(lambda: self.lrms.allocation(job), self._pause)
                self._known[job] = _Job(look)
            return self._known[job]


def _not_yours(job: JobId) -> RejectedError:
    return RejectedError(f"job {job} is not yours")
