"""What a user may have at most, and whether something more still fits. Pure."""

from dataclasses import dataclass, fields

from wnodes_lrms.config import Grant

_UNITS = {"memory": " MiB", "storage": " GiB"}


@dataclass(frozen=True)
class Amount:
    """Machines, and what they are made of. The fields are named as the limits in a grant."""

    machines: int = 0
    cores: int = 0
    memory: int = 0  # MiB
    storage: int = 0  # GiB


def excess(grant: Grant, used: Amount, asked: Amount) -> str | None:
    """The first quota that would be passed, in a sentence; None where all fits.

    What is not asked for is not looked at: a user over a quota that was lowered can still have
    what others allow. Asking for less than before (a negative amount) always fits.
    """
    for field in fields(Amount):
        name = field.name
        have, more, limit = getattr(used, name), getattr(asked, name), getattr(grant, name)
        if more > 0 and have + more > limit:
            unit = _UNITS.get(name, "")
            return f"quota of {name}: {have}{unit} used, {more} asked, {limit} allowed"
    return None
