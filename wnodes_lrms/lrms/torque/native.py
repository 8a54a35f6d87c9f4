"""A lease in the words of pbs-drmaa for Torque: see its submit.c. Pure."""

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms import pbs
from wnodes_lrms.lrms.interface import Drmaa
from wnodes_lrms.lrms.lease import Request


def _native(request: Request) -> list[str]:
    if request.consumables:
        raise RejectedError(
            "Torque counts no resources of nodes: leave `consumable` out of [[bridge.network]]"
        )
    where = request.node or ":".join(("1", *request.needs))
    return [
        *("-l", f"nodes={where}:ppn={request.cores}"),
        *("-l", f"mem={request.memory}mb,walltime={request.walltime}"),
        *pbs.native(request),
    ]


DRMAA = Drmaa(name="torque", native=_native, environment=pbs.ENVIRONMENT)
