"""Slurm 22.05.8 and 24.11.5, for the suite: see `record` in data/slurm-22.05, data/slurm-24.11."""

from tests.unit.wnodes_lrms.lrms.behaviour import (
    AGAIN,
    HELD,
    REQUEST,
    Answers,
    Does,
    Job,
    Recorded,
    read,
)
from wnodes_lrms.lrms.slurm.allocation import SQUEUE_FORMAT
from wnodes_lrms.lrms.slurm.leases import _COLUMNS as LEASE_COLUMNS


def job(version: str, name: str) -> Job:
    listing = read(version, f"{name}.squeue")
    number = listing.split()[0]
    answers = {
        f"squeue -h -a -j * -O {SQUEUE_FORMAT}": listing,
        "scontrol -d show job *": read(version, f"{name}.scontrol"),
    }
    return Job(number, answers)


def node(version: str, state: str) -> Answers:
    return {"scontrol show node hv1": read(version, f"{state}.node")}


def altered(version: str, *words: str) -> Answers:
    """An idle node, with some words in the place of others: as no node was recorded."""
    said = read(version, "idle.node")
    for old, new in zip(words[::2], words[1::2], strict=True):
        assert old in said
        said = said.replace(old, new)
    return {"scontrol show node hv1": said}


def without_reason(version: str) -> Answers:
    """As no node was recorded: slurmctld itself may drain one so."""
    said = read(version, "drained.node")
    lines = [line for line in said.splitlines() if "Reason=" not in line]
    return {"scontrol show node hv1": "\n".join(lines)}


def lease(state: str) -> str:
    """As in leases.squeue."""
    row = {"JobID": "41", "UserName": REQUEST.user, "State": state, "Reason": "None"}
    row["Name"] = REQUEST.name
    return "".join(row.get(name, "").ljust(width) for name, width in LEASE_COLUMNS) + "\n"


REFUSED = Does(
    "echo 'sbatch: error: Batch job submission failed: Requested node configuration is not"
    " available' >&2; exit 1"
)
DRAIN = "scontrol update NodeName=hv1 State=DRAIN Reason=wnodes: why"
UNDRAIN = "scontrol update NodeName=hv1 State=UNDRAIN"
GONE = Does("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
PLAIN = {"cores": 2, "memory": 1500, "partition": "main", "tag": "small_linux_x86_64"}


def recorded(version: str, drms: str, live: dict[str, bool], halted: dict[str, bool]) -> Recorded:
    """`live`: the jobs of states.node, `halted`: those of suspended.states."""

    def named(name: str) -> Job:
        return job(version, name)

    return Recorded(
        version=version,
        node="hv1",
        owner=("nobody", 65534, 65534),
        granted=(
            (named("plain"), {**PLAIN, "restart": 0, "workdir": "/tmp"}),
            (named("cores"), {**PLAIN, "cores": 4, "memory": 2800}),
            (named("requeued"), {"restart": 1}),
            (named("suspended"), {"cores": 2, "memory": 1000, "tag": ""}),
        ),
        refused=(
            (named("two-nodes"), r"has 2 node\(s\) \(hv\[1-2\]\)"),
            (named("no-memory"), "SelectTypeParameters=CR_Core_Memory"),
        ),
        waiting=named("pending"),
        places=(
            (named("plain"), "hv1"),
            (named("suspended"), "hv1"),
            (named("two-nodes"), ""),
            (named("pending"), ""),
            (Job("7", {"squeue *": GONE}), None),
        ),
        live=(
            ({"squeue *": read(version, "states.node")}, live),
            ({"squeue *": read(version, "suspended.states")}, halted),
            ({"squeue *": "7 R\n8 PD\n9 CG\n10 S\n"}, {"7": False, "9": False, "10": True}),
            ({}, {}),
        ),
        rooms=(
            (node(version, "idle"), (8, 16000)),
            (node(version, "mixed"), (6, 15000)),
            (node(version, "drained"), (0, 0)),
            (node(version, "draining"), (0, 0)),
            (node(version, "down"), (0, 0)),
            (
                altered(version, "CPUEfctv=8 ", "", "AllocMem=0 ", "AllocMem=0 MemSpecLimit=500 "),
                (8, 15500),
            ),
            (altered(version, "State=IDLE ", "State=IDLE* "), (0, 0)),
            (altered(version, "State=IDLE ", "State=IDLE+PLANNED "), (8, 16000)),
        ),
        drains=(
            ("drain", node(version, "idle"), "", (DRAIN,)),
            ("drain", node(version, "undrained"), "", (DRAIN,)),
            ("drain", node(version, "drained"), "", (DRAIN,)),
            ("drain", node(version, "draining"), 'a [b] c=d, "e"  two blanks', ()),
            ("drain", without_reason(version), "no reason given", ()),
            ("resume", node(version, "idle"), "", ()),
            ("resume", node(version, "mixed"), "", ()),
            ("resume", node(version, "undrained"), "", ()),
            ("resume", node(version, "drained"), "", (UNDRAIN,)),
            ("resume", node(version, "down-drained"), "", (UNDRAIN,)),
            ("resume", node(version, "down"), "", ()),
            ("resume", node(version, "draining"), 'a [b] c=d, "e"  two blanks', ()),
        ),
        failure=(AGAIN.format("scontrol requeue"), HELD.format("scontrol release")),
        drms=drms,
        commands=("squeue", "scontrol", "sbatch", "scancel"),
        asks=("squeue", "scontrol show", "scontrol -d show"),
        leases={
            "": {"squeue *": "", "sbatch *": "41\n"},
            "refused": {"sbatch *": REFUSED},
            "pending": {"squeue *": lease("PENDING")},
            "running": {"squeue *": lease("RUNNING")},
            "ended": {"squeue *": lease("CANCELLED")},
        },
    )


RECORDED = (
    recorded(
        "slurm-22.05",
        "SLURM 22.05.8",
        dict.fromkeys(["29", "30", "31", "32"], False),
        {"1": False, "2": True},
    ),
    recorded(
        "slurm-24.11",
        "SLURM 24.11.5",
        dict.fromkeys(["24", "25", "26", "27"], False),
        {"1": False, "2": True},
    ),
)
