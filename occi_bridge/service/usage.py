"""How many core hours a user's VMs have had, day by day. Pure.

Days are UTC's. A VM that was suspended for a while is counted as if it had been so evenly all
along: when it was is not written down.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from occi_bridge.store.usage import Usage

DAYS = 30  # that are shown
_DAY = 86400.0


@dataclass(frozen=True)
class Day:
    """One day, and the core hours in it."""

    date: datetime.date
    core_hours: float


def by_day(usages: Iterable[Usage], now: float) -> list[Day]:
    """The last days until `now` (seconds since the epoch), the oldest first."""
    today = int(now // _DAY)
    hours = dict.fromkeys(range(today - DAYS + 1, today + 1), 0.0)
    for usage in usages:
        length = usage.wall + usage.held
        if length <= 0:
            continue
        cores = usage.cores * usage.wall / length  # on average
        first, last = int(usage.began // _DAY), int(min(usage.end, now) // _DAY)
        for day in range(max(first, today - DAYS + 1), last + 1):
            begin = max(usage.began, day * _DAY)
            end = min(usage.end, now, (day + 1) * _DAY)
            hours[day] += cores * max(end - begin, 0.0) / 3600
    return [Day(datetime.date.fromordinal(_EPOCH + day), sum_) for day, sum_ in hours.items()]


_EPOCH = datetime.date(1970, 1, 1).toordinal()
