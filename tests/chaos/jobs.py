"""What the batch system says of its jobs, asked at most about once a second for all walks."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.e2e.lrms.listing import Listed, Lister
from wnodes_lrms.order import LEASE_NAME

_AGE = 0.8  # seconds that an answer is good for
_PAUSE = 2.0  # seconds between two looks at all leases


class Queue:
    """Its listing, with those that are over if it knows them."""

    def __init__(self, lrms: Lister) -> None:
        self._lrms = lrms
        self._lock = threading.Lock()
        self._at = 0.0
        self._jobs: Mapping[str, Listed] = {}
        self._ran: dict[str, set[str]] = defaultdict(set)  # lease's name → its jobs that ran

    def jobs(self, fresh: bool = False) -> Mapping[str, Listed]:
        """By number. While it does not answer: what it said last, or, if it must be fresh, an
        AssertionError."""
        with self._lock:
            if fresh or time.monotonic() - self._at > _AGE:
                try:
                    self._jobs = self._lrms.listing()
                except AssertionError:
                    if fresh:
                        raise
                self._at = time.monotonic()
                for job in self._jobs.values():
                    if job.runs and job.name.startswith(LEASE_NAME):
                        self._ran[job.name].add(job.number)
            return self._jobs

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Every few seconds while this lasts, whoever asks."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(_PAUSE):
                self.jobs()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def doubled(self) -> list[str]:
        """The leases that have run in more than one job, a line each."""
        return [
            f"{name} has run in the jobs {', '.join(sorted(jobs))}"
            for name, jobs in self._ran.items()
            if len(jobs) > 1
        ]
