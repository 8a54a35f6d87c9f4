"""A lease in the words of slurm-drmaa: see its README. Pure."""

from wnodes_lrms.lrms.drmaa.native import given
from wnodes_lrms.lrms.interface import Drmaa
from wnodes_lrms.lrms.lease import COMMENT, Request
from wnodes_lrms.lrms.slurm.leases import gres


def _native(request: Request) -> list[str]:
    minutes = -(-request.walltime // 60)
    return [
        *("--nodes=1", "--ntasks=1", f"--cpus-per-task={request.cores}"),
        *(f"--mem={request.memory}", f"--time={minutes // 60}:{minutes % 60:02}"),
        *(f"--constraint={'&'.join(request.needs)}", f"--comment={COMMENT}", "--no-requeue"),
        *given(("--account=", request.account), ("--partition=", request.partition)),
        *given(("--nodelist=", request.node), ("--gres=", gres(request))),
    ]


DRMAA = Drmaa(name="slurm", native=_native, environment=("SLURM_CONF",))
