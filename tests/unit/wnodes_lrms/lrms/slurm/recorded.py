"""Slurm 22.05.8, for the suite: see data/slurm-22.05/record."""

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

V = "slurm-22.05"


def job(name: str) -> Job:
    listing = read(V, f"{name}.squeue")
    number = listing.split()[0]
    answers = {
        f"squeue -h -a -j * -O {SQUEUE_FORMAT}": listing,
        "scontrol -d show job *": read(V, f"{name}.scontrol"),
    }
    return Job(number, answers)


def node(state: str, reason: str = "") -> Answers:
    said = f"   Reason={reason} [root@2026-11-23T00:04:44]\n" if reason else ""
    text = f"NodeName=hv1 Arch=x86_64\n   State={state} Boards=1\n{said}   Owner=N/A\n"
    return {"scontrol show node hv1": text}


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
GONE = Does("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
PLAIN = {"cores": 2, "memory": 1500, "partition": "main", "tag": "small_linux_x86_64"}
RECORDED = Recorded(
    version=V,
    node="hv1",
    owner=("nobody", 65534, 65534),
    granted=(
        (job("plain"), {**PLAIN, "restart": 0, "workdir": "/tmp"}),
        (job("cores"), {**PLAIN, "cores": 4, "memory": 2800}),
        (job("requeued"), {"restart": 1}),
    ),
    refused=(
        (job("two-nodes"), r"has 2 node\(s\) \(hv\[1-2\]\)"),
        (job("no-memory"), "SelectTypeParameters=CR_Core_Memory"),
    ),
    waiting=job("pending"),
    places=(
        (job("plain"), "hv1"),
        (job("two-nodes"), ""),
        (job("pending"), ""),
        (Job("7", {"squeue *": GONE}), None),
    ),
    live=(
        ({"squeue *": read(V, "states.node")}, dict.fromkeys(["29", "30", "31", "32"], False)),
        ({"squeue *": "7 R\n8 PD\n9 CG\n10 S\n"}, {"7": False, "9": False, "10": True}),
        ({}, {}),
    ),
    drains=(
        ("drain", node("IDLE"), "", (DRAIN,)),
        ("drain", node("MIXED+DRAIN", "wnodes: why"), "", ()),
        ("drain", node("IDLE+DRAIN", "wnodes: x"), "", (DRAIN,)),
        ("drain", node("IDLE+DRAIN", "bad disk"), "bad disk", ()),
        ("drain", node("IDLE+DRAIN"), "no reason given", ()),
        ("resume", node("IDLE"), "", ()),
        (
            *("resume", node("MIXED+DRAIN", "wnodes: x"), ""),
            ("scontrol update NodeName=hv1 State=UNDRAIN",),
        ),
        ("resume", node("IDLE+DRAIN", "bad disk"), "bad disk", ()),
    ),
    failure=(AGAIN.format("scontrol requeue"), HELD.format("scontrol release")),
    drms="SLURM 22.05.8",
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
