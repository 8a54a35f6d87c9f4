"""What a user may have at most, and whether something more still fits. Pure.

What a user has is summed in transaction.py.

VMs and volumes are what a site grants; the rest is what nobody needs more of, so that no user
fills the database or makes each look at it slow.
"""

from dataclasses import dataclass, fields

from wnodes_lrms.config.load import Grant

MIXINS = 64  # of a user's own
TAGS = 64  # mixins that an entity has
LINKS = 16  # network cards of a VM; volumes too
GOING = 256  # entities that a user has deleted, and that the baits have not yet taken away
FAILED = 16  # failed images that are remembered of a user

_UNITS = {"memory": " MiB", "storage": " GiB"}


@dataclass(frozen=True)
class Amount:
    """VMs, and what they are made of. The fields are named as the limits in a grant."""

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


def full(what: str, used: int, allowed: int, asked: int = 1) -> str | None:
    """The same for what is counted one by one."""
    if used + asked <= allowed:
        return None
    return f"quota of {what}: {used} used, {asked} asked, {allowed} allowed"
