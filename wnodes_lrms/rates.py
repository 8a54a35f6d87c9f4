"""How much a card may carry: what is asked for, and what a site allows of it. Pure."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import Strict

MOST = 100_000  # Mbit/s

Mbits = Annotated[int, Strict(), Ge(1), Le(MOST)]  # 1,000,000 bits a second, of frames


@dataclass(frozen=True)
class Rates:
    """The throughput of a card, in Mbit/s, as its guest sees it. None: there is no limit."""

    inbound: int | None = None
    outbound: int | None = None

    def __bool__(self) -> bool:
        return self != Rates()

    def within(self, most: int | None) -> "Rates":
        """The same, but neither way above `most`."""
        return Rates(least(self.inbound, most), least(self.outbound, most))


UNLIMITED = Rates()


def least(*limits: int | None) -> int | None:
    """The lowest of some limits; None if there are none."""
    return min((each for each in limits if each is not None), default=None)


@dataclass(frozen=True)
class Flow:
    """What a card carries one way."""

    limit: int  # Mbit/s
    passing: int = 0  # bits a second, over the last seconds
    passed: int = 0  # bytes since the limit is there
    dropped: int = 0  # packets


@dataclass(frozen=True)
class Flows:
    """What a card carries. None: there is no limit."""

    inbound: Flow | None = None
    outbound: Flow | None = None

    @property
    def limits(self) -> Rates:
        """The limits that are in force."""
        return Rates(
            self.inbound.limit if self.inbound else None,
            self.outbound.limit if self.outbound else None,
        )
