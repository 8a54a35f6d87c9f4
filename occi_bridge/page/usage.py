"""What a user's VMs have had, drawn and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from occi_bridge.service.usage import Day

_WIDE, _HIGH = 20, 160  # of a day's column in the drawing
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Bar:
    """A day's column: where it is in the drawing, from the upper left."""

    x: int
    y: float
    height: float
    day: Day


@dataclass(frozen=True)
class Chart:
    """The drawing. `top` are the core hours that its height stands for."""

    width: int
    height: int
    top: float
    bars: Sequence[Bar]


def found(days: Sequence[Day]) -> dict[str, object]:
    """What the page shows of these days."""
    total = sum(day.core_hours for day in days)
    return {"chart": chart(days), "days": days, "total": total}


def chart(days: Sequence[Day]) -> Chart:
    """The columns of these days."""
    top = _round_up(max(day.core_hours for day in days))
    heights = [round(_HIGH * day.core_hours / top, 1) for day in days]
    bars = [
        Bar(_WIDE * place, round(_HIGH - height, 1), height, day)
        for place, (height, day) in enumerate(zip(heights, days, strict=True))
    ]
    return Chart(_WIDE * len(days), _HIGH, top, bars)


def _round_up(hours: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, …"""
    power = 1.0
    while True:
        for step in _STEPS:
            if step * power >= hours:
                return step * power
        power *= 10
