"""Core hours by day: days are UTC's, and only what is in them counts."""

import datetime

import pytest

from occi_bridge.service.usage import DAYS, by_day
from occi_bridge.store.usage import Usage

NOON = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC).timestamp()
HOUR = 3600.0


def usage(began: float, wall: float, cores: int = 1, held: float = 0.0) -> Usage:
    """One that began so many hours before that noon; lengths in hours."""
    return Usage(1, "anna", cores, NOON + began * HOUR, wall * HOUR, held * HOUR)


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([], {}),
        ([usage(-3, 2, cores=4)], {28: 8.0}),
        ([usage(-3, 2), usage(-1, 1, cores=2)], {28: 4.0}),
        ([usage(-13, 3)], {27: 1.0, 28: 2.0}),  # over midnight
        ([usage(-36, 36, cores=2)], {27: 48.0, 28: 24.0}),
        ([usage(-6, 2, held=2)], {28: 2.0}),
        ([usage(-14, 2, held=2)], {27: 1.0, 28: 1.0}),  # evenly
        ([usage(-1, 0)], {}),
        ([usage(1, 2)], {}),  # a node whose clock is ahead
        ([usage(-1, 1e6)], {28: 1.0}),  # or that says what can't be
        ([usage(-24 * 400, 1)], {}),
    ],
)
def test_hours_of_the_days(usages: list[Usage], expected: dict[int, float]) -> None:
    found = by_day(usages, NOON)
    assert [found[0].date, found[-1].date] == [
        datetime.date(2026, 10, 30),
        datetime.date(2026, 11, 28),
    ]
    assert len(found) == DAYS
    got = {day.date.day: day.core_hours for day in found[2:] if day.core_hours}
    assert got == pytest.approx(expected)


def test_a_vm_that_runs_for_longer_than_is_shown() -> None:
    found = by_day([usage(-24 * 100, 24 * 100, cores=2)], NOON)
    assert [day.core_hours for day in found] == pytest.approx([48.0] * (DAYS - 1) + [24.0])
