"""What a walk has ordered, and what has happened to it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.faults import Fault
from tests.chaos.wire import Seen
from wnodes_lrms.model import State


@dataclass
class Order:
    """What a walk wants done at a move of its machine, or as a device of it comes or goes."""

    old: State | str | None
    new: State | None
    act: Callable[[Seen], None]
    device: str = ""  # as in Seen; `done` too
    done: bool = True

    def fits(self, seen: Seen) -> bool:
        """Whether this is the move; "any" stands for each state."""
        if self.device or seen.device:
            return (self.device, self.done) == (seen.device, seen.done)
        return seen.new == self.new and self.old in ("any", seen.old)


@dataclass
class Case:
    """A machine, or a job, that a walk looks after, and what has happened to it."""

    name: str
    orders: list[Order] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    own: int = 0  # how many of these the walk itself has wanted
    hurt: float = 0.0  # when it was last hurt (monotonic)
    hurts: int = 0
    trouble: list[str] = field(default_factory=list)
    missed: bool = False  # it did not come to where it was to make its move

    def was_hurt(self) -> None:
        """Something was done that it need not survive."""
        self.hurts += 1
        self.hurt = time.monotonic()
