"""Who is about to have a job's VM begun, so that the end of the job reaches them in time.

A VM is begun once the batch system has said what its job was granted. That answer may take its
time, and some batch systems go on listing a job for a while after its epilog: a VM that is begun on
such an answer would be one of a job that is over.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from wnodes_lrms.errors import NotListedError


class Call:
    """A hook or a starter that speaks for one run of a job."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.over = False  # the job has ended since it came


class Calls:
    """The calls that are not answered yet. Safe to use from many threads."""

    def __init__(self) -> None:
        # A call that nobody waits for is given up by whoever collects garbage: maybe by its holder.
        self._lock = threading.RLock()
        self._calls: set[Call] = set()

    @contextmanager
    def of(self, job: str) -> Iterator[Call]:
        """A call for this job, while this lasts."""
        call = Call(job)
        with self._lock:
            self._calls.add(call)
        try:
            yield call
        finally:
            with self._lock:
                self._calls.discard(call)

    def end(self, job: str) -> None:
        """The job is over, and so is every call for it that has come by now."""
        with self._lock:
            for call in self._calls:
                call.over = call.over or call.job == job

    @contextmanager
    def holding(self, call: Call) -> Iterator[None]:
        """Its job does not end while this lasts. Raises NotListedError if it has already."""
        with self._lock:
            if call.over:
                raise NotListedError("the job has ended meanwhile")
            yield
