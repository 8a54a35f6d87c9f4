"""A lease in the words of pbs-drmaa for PBS Pro: see its submit.c. Pure."""

from wnodes_lrms.lrms import pbs
from wnodes_lrms.lrms.interface import Drmaa
from wnodes_lrms.lrms.lease import Request


def _native(request: Request) -> list[str]:
    needs = [f"vnode={request.node}"] if request.node else [f"{n}=True" for n in request.needs]
    needs += [f"{name}={count}" for name, count in request.consumables.items()]
    where = ":".join(needs)
    return [
        *("-l", f"select=1:ncpus={request.cores}:mem={request.memory}mb:{where}"),
        *("-l", f"walltime={request.walltime}"),
        *pbs.native(request),
    ]


DRMAA = Drmaa(name="^(?!.*torque).*pbs", native=_native, environment=pbs.ENVIRONMENT)
