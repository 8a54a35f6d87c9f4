"""What a bait's refusal changes in the row that it was asked for. Pure."""

from occi_bridge.driver.actions import Act
from occi_bridge.driver.snapshot import Values
from wnodes_lrms.errors import AbsentError, ConflictError, RejectedError


def consequence(act: Act, refusal: RejectedError, later: float) -> Values | None:
    """The new columns; None where asking again is all that can be done.

    `later` is when to ask again at the earliest for what the user may still get.
    """
    if _passing(act, refusal):
        return None
    said = str(refusal)
    over: Values = {"act": "", "tries": 0}
    match act:
        case Act.SUBMIT:
            no_lease: Values = {"lease": "", "job": "", "via": "", "lease_state": ""}
            return over | no_lease | {"desired": "inactive", "fault": True, "reason": said}
        case Act.RESTART:
            return over | {"restart": "", "reason": said}
        case Act.SUSPEND:
            return over | {"desired": "active", "reason": said}
        case Act.SAVE:
            return over | {"state": "failed", "reason": said}
        case Act.PLUG | Act.ATTACH | Act.MAKE | Act.GROW | Act.COPY:
            return {"tries": 0, "reason": said, "again": later}
    return None


def _passing(act: Act, refusal: RejectedError) -> bool:
    """Whether the refusal is of this moment: the bait's next report will tell what to do."""
    if act in (Act.SUBMIT, Act.SAVE):
        return False
    if act is Act.COPY and isinstance(refusal, AbsentError):
        return False
    return isinstance(refusal, AbsentError | ConflictError)
