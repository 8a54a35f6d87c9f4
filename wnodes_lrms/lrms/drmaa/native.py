"""What DRMAA's native specification says of a lease, in the words of the library's LRMS. Pure.

DRMAA 1.0 (GFD.133) has no attribute for cores, memory, node or account; a library takes the options
of its LRMS's submission command as one text, cut at blanks.
"""

import re
from collections.abc import Iterable

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.interface import Drmaa
from wnodes_lrms.lrms.lease import Request

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")


def native(drms: str, request: Request, dialects: Iterable[Drmaa]) -> str:
    """The native specification of a lease. `drms` is what the library calls its LRMS.

    Raises RejectedError if a value can't be said in it, or if the LRMS is none of the dialects'.
    """
    for what in ("account", "partition", "node"):
        value = getattr(request, what)
        if value and not _WORD.fullmatch(value):
            raise RejectedError(f"{what}: «{value}» can't be passed to the batch system")
    for dialect in dialects:
        if re.search(dialect.name, drms, re.IGNORECASE):
            return " ".join(dialect.native(request))
    raise RejectedError(f"leases can't be submitted to «{drms}»: no native specification is known")


def given(*options: tuple[str, str]) -> list[str]:
    """The options that have a value."""
    return [option + value for option, value in options if value]
