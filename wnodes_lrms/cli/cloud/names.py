"""Which of several things a user means, by a name, an id, or the beginning of either. Pure."""

import difflib
from collections.abc import Sequence
from typing import Any

from wnodes_lrms.cli.cloud.faults import NoneSuchError
from wnodes_lrms.errors import RejectedError

_TOLD = 5  # of those that it could be

Row = dict[str, Any]


def one(rows: Sequence[Row], given: str, what: str, keys: Sequence[str] = ("id", "name")) -> Row:
    """The row that is meant: one of this id, of this name, whose id or name begins so.

    What is exactly so comes before what begins so, and the first key before the second; of those
    that come first there has to be just one. Raises NoneSuchError with the nearest names;
    RejectedError where it could be several, or `given` is empty.
    """
    if not given:  # as of a shell's variable that is not set
        raise RejectedError(f"which {what}? Its name or id is needed, and is empty")
    for found in _ranked(rows, given, keys):
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(_shown(row, keys) for row in found[:_TOLD])
            more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
            raise RejectedError(f"{what} «{given}» could be several: {several}{more}")
    raise NoneSuchError(f"there is no {what} «{given}»{_nearest(rows, given, what, keys)}")


def _ranked(rows: Sequence[Row], given: str, keys: Sequence[str]) -> list[list[Row]]:
    exactly = [[row for row in rows if row[key] == given] for key in keys]
    beginning = [row for row in rows if any(str(row[key]).startswith(given) for key in keys)]
    return [*exactly, beginning]


def _nearest(rows: Sequence[Row], given: str, what: str, keys: Sequence[str]) -> str:
    names = list(dict.fromkeys(str(row[key]) for key in keys for row in rows if row[key]))
    near = difflib.get_close_matches(given, names, _TOLD, 0.5)
    near += [name for name in names if given in name and name not in near]
    if near:
        return f"; the nearest: {', '.join(near[:_TOLD])}"
    if not rows:
        return f": there is no {what} at all"
    if len(names) <= _TOLD:
        return f"; there are {', '.join(names)}"
    return ""


def _shown(row: Row, keys: Sequence[str]) -> str:
    first, *others = (str(row[key]) for key in keys)
    return f"{first} ({others[0]})" if others and others[0] else first
