"""A walk: what is done with one job or machine, and the moves that it is made for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.environment import Environment
from tests.chaos.faults import Move
from wnodes_lrms.model import Kind, State

Steps = Iterable[tuple[State | None, State | None]]


@dataclass(frozen=True)
class Walk:
    """It is made again, a bounded number of times, while nobody has made these moves."""

    make: Callable[[Environment], None]
    aims: frozenset[Move] = frozenset()


def walk(
    kind: Kind, make: Callable[[Environment], None], *aims: tuple[State | None, State | None]
) -> Walk:
    """A walk that is for these moves of that kind."""
    return Walk(make, frozenset((kind, old, new) for old, new in aims))


def along(*states: State | None) -> Steps:
    """The moves of a machine that comes from each of these states into the next."""
    return pairwise(states)
