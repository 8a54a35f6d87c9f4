"""What a batch system says of its jobs, in the same words for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Listed:
    """A job, or a task of one, that the batch system still knows."""

    number: str
    name: str
    state: str  # its own word
    reason: str = ""
    runs: bool = False
    over: bool = False


class Lister(Protocol):
    """What lists jobs."""

    def listing(self) -> Mapping[str, Listed]:
        """All jobs that the batch system knows, by number. Raises AssertionError."""
