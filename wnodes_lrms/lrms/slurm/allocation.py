"""What Slurm says of jobs and nodes. Pure: what asks for these texts is in node.py.

Sources: squeue(1) and scontrol(1) of Slurm 22.05 and 24.11. Fixed-width columns are used because a
job's name, comment and folder are its user's text and could imitate any `Key=value` listing.
"""

import re

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.jobid import grammar
from wnodes_lrms.model import Allocation

# Columns that Slurm fills itself stand first: nothing the user writes can move them.
_COLUMNS = (
    ("JobID", 20),
    ("UserID", 12),
    ("GroupID", 12),
    ("StateCompact", 12),
    ("NumNodes", 8),
    ("NumCPUs", 8),
    ("RestartCnt", 8),
    ("Partition", 64),
    ("tres-alloc", 256),
    ("NodeList", 256),
    ("Account", 64),
    ("admin_comment", 1024),
    ("WorkDir", 4096),
)
_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
_WISH = re.compile(r"(?:^|\s)wnodes_image=(\S+)")
_BY = re.compile(r"(?:^|\s)wnodes_by=(\S+)")
_SCRATCH = re.compile(r"(?:^|\s)wnodes_scratch=(\S+)")
_CPU_IDS = re.compile(r"^ +Nodes=(\S+) CPU_IDs=([0-9,-]+) Mem=\d+", re.MULTILINE)
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_STATES = re.compile(r"([0-9]+ [A-Z]+\n)*")
_NODE_STATE = re.compile(r"^ +State=(\S+)", re.MULTILINE)
# Slurm adds who gave the reason, and when.
_NODE_REASON = re.compile(r"^ +Reason=(.*?)(?: \[[^\]\n]*\])?$", re.MULTILINE)
_LIVE = {"CF", "R", "S", "ST", "CG", "SO", "SI"}
_SUSPENDED = {"S", "ST"}  # with its cores given to others, or by a STOP that was sent to all of it
_ENDING = "CG"  # its processes have ended, or are being ended

# A task of an array has a number of its own, in 32 bits.
job_id = grammar(r"[1-9]\d{0,9}")

SQUEUE_FORMAT = ",".join(f"{name}:{width}" for name, width in _COLUMNS)
_RECORD = sum(width for _name, width in _COLUMNS) + 1  # bytes, with the line's end


def parse_allocation(
    job: str, listing: str, detail: str, node: str, physical: list[int]
) -> Allocation:
    """The allocation that `squeue -O SQUEUE_FORMAT` and `scontrol -d show job` describe.

    `physical` maps Slurm's CPU numbers to the node's (see `block_map`). Raises UnknownError if
    the listing has no such job, RejectedError if the job is ending, or not on this node alone.
    """
    row = _row(job, listing)
    if row["StateCompact"] == _ENDING:
        raise RejectedError(f"job {row['JobID']} is ending")
    if row["NumNodes"] != "1" or row["NodeList"] != node:
        raise RejectedError(
            f"job {row['JobID']} has {row['NumNodes']} node(s) ({row['NodeList']}), "
            f"a VM needs exactly one, here {node}"
        )
    wish, by, scratch = (mark.search(row["admin_comment"]) for mark in (_WISH, _BY, _SCRATCH))
    return Allocation(
        job=row["JobID"],
        restart=int(row["RestartCnt"]),
        uid=int(row["UserID"]),
        gid=int(row["GroupID"]),
        account="" if row["Account"] == "(null)" else row["Account"],
        partition=row["Partition"],
        cores=int(row["NumCPUs"]),
        memory=parse_memory(row["tres-alloc"]),
        cpus=parse_cpus(detail, node, physical),
        workdir=row["WorkDir"],
        tag=wish.group(1) if wish else "",
        by=by.group(1) if by else "",
        scratch=scratch.group(1) if scratch else "",
    )


def parse_place(job: str, listing: str) -> str | None:
    """The one node on which a job of that listing runs, else an empty text; None if it is over."""
    row = _row(job, listing) if listing else None
    if row is None:
        return None
    alone = row["StateCompact"] in _LIVE - {_ENDING} and row["NumNodes"] == "1"
    return row["NodeList"] if alone else ""


def _row(job: str, listing: str) -> dict[str, str]:
    """The columns of one job. The number of an array's last task lists its other tasks too."""
    data = listing.encode("utf-8", "surrogateescape")
    if len(data) % _RECORD:
        raise UnknownError("squeue does not answer in the columns that were asked for")
    # By size, not by lines: a folder's name may have line ends.
    for start in range(0, len(data), _RECORD):
        row, at = {}, start
        for name, width in _COLUMNS:
            row[name] = data[at : at + width].decode("utf-8", "surrogateescape").strip()
            at += width
        if row["JobID"] == job:
            return row
    raise UnknownError("squeue does not list the job")


def parse_memory(tres: str) -> int:
    """MiB in a TRES list such as `cpu=1,mem=1.50G,node=1`; RejectedError if it has no memory."""
    found = re.search(r"(?:^|,)mem=([0-9.]+)([KMGT])", tres)
    if not found:
        raise RejectedError(
            "the job's allocation has no memory of its own: the site must make memory a "
            "resource (SelectTypeParameters=CR_Core_Memory), or the user must give --mem"
        )
    return int(float(found.group(1)) * _UNITS[found.group(2)])


def parse_cpus(detail: str, node: str, physical: list[int]) -> tuple[int, ...]:
    """The node's CPUs of the job, or none where Slurm does not say so beyond doubt."""
    found = [ids for name, ids in _CPU_IDS.findall(detail) if name == node]
    if len(found) != 1:  # a second such line could only be the user's text
        return ()
    numbers: set[int] = set()
    for part in found[0].split(","):
        ends = _RANGE.fullmatch(part)
        if not ends or int(ends[2] or ends[1]) >= len(physical):
            return ()
        numbers.update(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return tuple(sorted(physical[number] for number in numbers))


def block_map(topology: dict[int, tuple[int, int]]) -> list[int]:
    """Slurm's CPU numbers → the node's: Slurm counts by socket, core, thread.

    `topology` gives each CPU's (socket, core), as in /sys/devices/system/cpu/cpu*/topology.
    """
    return sorted(topology, key=lambda cpu: (*topology[cpu], cpu))


def parse_live(listing: str) -> dict[str, bool]:
    """The numbers of the jobs that hold an allocation, and whether each is suspended, from
    `squeue -h -o "%A %t"`. Raises UnknownError for any other text."""
    if not _STATES.fullmatch(listing):
        raise UnknownError("squeue does not answer with numbers and states of jobs")
    states = dict(line.split() for line in listing.splitlines())
    return {job: state in _SUSPENDED for job, state in states.items() if state in _LIVE}


def parse_drain(node: str) -> str | None:
    """Why a node is drained, None if it is not, from `scontrol show node NAME`.

    Raises UnknownError if that is no description of a node.
    """
    state, reason = _NODE_STATE.search(node), _NODE_REASON.search(node)
    if not state:
        raise UnknownError("scontrol does not tell the node's state")
    if "DRAIN" not in re.findall(r"\w+", state[1]):
        return None
    return reason[1] if reason else ""
