"""What Slurm says of its jobs, asked at most about once a second for all walks together."""

import threading
import time
from dataclasses import dataclass

from tests.e2e.conftest import call

_AGE = 0.8  # seconds that an answer is good for


@dataclass(frozen=True)
class Listed:
    """A job that Slurm still knows."""

    number: str
    name: str
    state: str
    reason: str
    node: str


class Queue:
    """`squeue` of all jobs, those that are over too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = 0.0
        self._jobs: dict[str, Listed] = {}

    def jobs(self, fresh: bool = False) -> dict[str, Listed]:
        """By number. While Slurm does not answer: what it said last, or, if it must be fresh, an
        AssertionError."""
        with self._lock:
            if fresh or time.monotonic() - self._at > _AGE:
                try:
                    lines = call(
                        *("squeue", "--noheader", "--states=all"), "--format=%i|%j|%T|%r|%N"
                    ).splitlines()
                    self._jobs = {line.split("|")[0]: Listed(*line.split("|")) for line in lines}
                except AssertionError:
                    if fresh:
                        raise
                self._at = time.monotonic()
            return self._jobs
