"""When what has failed is asked of a bait again. Pure."""

from collections.abc import Iterable, Mapping

CEILING = 60.0  # seconds between two tries at most
_STEPS = 10  # doublings: by then the ceiling is reached, whatever it is


def pause(tries: int) -> float:
    """Seconds before the next try, after so many that have failed."""
    return min(2.0 ** min(tries, _STEPS), CEILING)


def is_due(
    tries: int, again: float, now: float, asked: Iterable[str], back: Mapping[str, float]
) -> bool:
    """Whether a request may be made again: its pause is over, or of those that were asked (URLs)
    one has been heard again since the last try failed. Times are seconds since the epoch.
    """
    if now >= again:
        return True
    failed = again - pause(tries)
    return tries > 0 and any(back.get(url, 0.0) > failed for url in asked)
