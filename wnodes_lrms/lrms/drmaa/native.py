"""What DRMAA's native specification says of a lease, in each LRMS's own words. Pure.

DRMAA 1.0 (GFD.133) has no attribute for cores, memory, node or account; a library takes the options
of its LRMS's submission command as one text, cut at blanks. Sources: the README of slurm-drmaa, the
source of pbs-drmaa (submit.c), qsub(1) and drmaa_attributes(3) of Grid Engine.
"""

import re
from collections.abc import Callable

from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.lease import COMMENT, FEATURE, Request

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")


def native(drms: str, request: Request) -> str:
    """The native specification of a lease. `drms` is what the library calls its LRMS.

    Raises RejectedError if a value can't be said in it, or if the LRMS is none that is known here.
    """
    for what in ("account", "partition", "node"):
        value = getattr(request, what)
        if value and not _WORD.fullmatch(value):
            raise RejectedError(f"{what}: «{value}» can't be passed to the batch system")
    for pattern, dialect in _DIALECTS.items():
        if re.search(pattern, drms, re.IGNORECASE):
            return " ".join(dialect(request))
    raise RejectedError(f"leases can't be submitted to «{drms}»: no native specification is known")


def _slurm(request: Request) -> list[str]:
    minutes = -(-request.walltime // 60)
    return [
        *("--nodes=1", "--ntasks=1", f"--cpus-per-task={request.cores}"),
        *(f"--mem={request.memory}", f"--time={minutes // 60}:{minutes % 60:02}"),
        *(f"--constraint={FEATURE}", f"--comment={COMMENT}", "--no-requeue"),
        *_given(("--account=", request.account), ("--partition=", request.partition)),
        *_given(("--nodelist=", request.node)),
    ]


def _torque(request: Request) -> list[str]:
    where = request.node or f"1:{FEATURE}"
    return [
        *("-l", f"nodes={where}:ppn={request.cores}"),
        *("-l", f"mem={request.memory}mb,walltime={request.walltime}"),
        *_pbs(request),
    ]


def _openpbs(request: Request) -> list[str]:
    where = f"vnode={request.node}" if request.node else f"{FEATURE}=True"
    return [
        *("-l", f"select=1:ncpus={request.cores}:mem={request.memory}mb:{where}"),
        *("-l", f"walltime={request.walltime}"),
        *_pbs(request),
    ]


def _pbs(request: Request) -> list[str]:
    return ["-r", "n", *_given(("-A ", request.account), ("-q ", request.partition))]


def _grid_engine(request: Request) -> list[str]:
    where = f"hostname={request.node}" if request.node else f"{FEATURE}=true"
    slots = ["-pe", "smp", str(request.cores)] if request.cores > 1 else []
    memory = -(-request.memory // request.cores)  # asked for each slot
    return [
        *("-l", f"h_rt={request.walltime},mem_free={memory}M,{where}"),
        *slots,
        *("-b", "y", "-r", "n", "-notify"),
        *_given(("-A ", request.account), ("-q ", request.partition)),
    ]


def _given(*options: tuple[str, str]) -> list[str]:
    return [option + value for option, value in options if value]


_DIALECTS: dict[str, Callable[[Request], list[str]]] = {
    r"slurm": _slurm,
    r"torque": _torque,
    r"pbs": _openpbs,
    r"\b[su]?ge\b|grid engine": _grid_engine,
}
