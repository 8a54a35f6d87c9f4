"""The Slurm of one node, by its own commands: squeue(1), scontrol(1) of Slurm 22.05 and 24.11."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.draining import Drainable
from wnodes_lrms.lrms.jobid import JobId, listed
from wnodes_lrms.lrms.slurm.allocation import (
    SQUEUE_FORMAT,
    block_map,
    job_id,
    parse_allocation,
    parse_drain,
    parse_live,
    parse_place,
)
from wnodes_lrms.lrms.slurm.room import parse_room
from wnodes_lrms.model import Allocation, Room
from wnodes_lrms.run import run
from wnodes_lrms.users import check_owner

_NO_JOB = "Invalid job id specified"  # said by squeue of one that it has forgotten
_DEADLINE = 10.0


def named(name: str, user: str) -> Sequence[JobId]:
    """The jobs of a user that are queued or run by a name. Raises UnknownError."""
    argv = ["squeue", "-h", "-a", f"--name={name}", f"--user={user}", "-o", "%A"]
    return listed(job_id, "squeue", _ask(*argv))


def read_block_map() -> list[int]:
    """`block_map` of this machine. CPUs that do not tell their place are left out."""
    topology = {}
    for folder in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology"):
        with contextlib.suppress(OSError, ValueError):
            socket = int((folder / "physical_package_id").read_text())
            core = int((folder / "core_id").read_text())
            topology[int(folder.parent.name[3:])] = (socket, core)
    return block_map(topology)


class Slurm(Drainable):
    """See Lrms."""

    job_id = staticmethod(job_id)

    def __init__(self, node: str, physical: list[int]) -> None:
        """`physical`: Slurm's CPU numbers → the node's, see block_map."""
        self.node = node
        self.physical = physical

    def allocation(self, job: JobId) -> Allocation:
        """See Lrms."""
        listing = self._listing(job)
        detail = _ask("scontrol", "-d", "show", "job", job)
        granted = parse_allocation(job, listing, detail, self.node, self.physical)
        check_owner(granted.uid, granted.gid)
        return granted

    def where(self, job: JobId) -> str | None:
        """See Lrms."""
        try:
            return parse_place(job, self._listing(job))
        except UnknownError as error:
            if _NO_JOB in str(error):
                return None
            raise

    def live_jobs(self) -> dict[str, bool]:
        """See Lrms."""
        return parse_live(_ask("squeue", "-h", "-a", "-w", self.node, "-o", "%A %t"))

    def room(self) -> Room:
        """See Lrms."""
        return parse_room(self._described())

    def _listing(self, job: str) -> str:
        return _ask("squeue", "-h", "-a", "-j", job, "-O", SQUEUE_FORMAT)

    def _drained(self) -> str | None:
        return parse_drain(self._described())

    def _described(self) -> str:
        return _ask("scontrol", "show", "node", self.node)

    def _begin_drain(self, reason: str) -> None:
        self._update("State=DRAIN", f"Reason={reason}")

    def _end_drain(self) -> None:
        # Not RESUME, which would also take a node back that is DOWN for a reason of its own.
        self._update("State=UNDRAIN")

    def _update(self, *changes: str) -> None:
        _ask("scontrol", "update", f"NodeName={self.node}", *changes)


def _ask(*argv: str) -> str:
    return run(argv, deadline=_DEADLINE, unknown=True)
