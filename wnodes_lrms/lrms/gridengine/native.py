"""A lease in the words of Grid Engine's DRMAA: see qsub(1) and drmaa_attributes(3). Pure."""

from wnodes_lrms.lrms.drmaa.native import given
from wnodes_lrms.lrms.interface import Drmaa
from wnodes_lrms.lrms.lease import Request


def _native(request: Request) -> list[str]:
    where = [f"{need}=true" for need in request.needs]
    if request.node:
        where = [f"hostname={request.node}"]
    # Of consumables that are counted for a job, not for each of its slots (complex(5)).
    where += [f"{name}={count}" for name, count in request.consumables.items()]
    slots = ["-pe", "smp", str(request.cores)] if request.cores > 1 else []
    memory = -(-request.memory // request.cores)  # asked for each slot
    return [
        *("-l", f"h_rt={request.walltime},mem_free={memory}M,{','.join(where)}"),
        *slots,
        *("-b", "y", "-r", "n", "-notify"),
        *given(("-A ", request.account), ("-q ", request.partition)),
    ]


DRMAA = Drmaa(name=r"\b[su]?ge\b|grid engine", native=_native, environment=("SGE_*",))
