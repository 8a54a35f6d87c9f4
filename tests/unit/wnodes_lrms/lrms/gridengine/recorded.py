"""Grid Engine 8.1.9, for the suite: see data/gridengine-8.1.9/record."""

from tests.unit.wnodes_lrms.lrms.behaviour import Answers, Job, Recorded, read

V = "gridengine-8.1.9"
QUEUES: Answers = {"qstat -f *": read(V, "queues.listing")}


def queues(old: str, new: str) -> Answers:
    """With words in the place of others."""
    said = read(V, "queues.listing")
    assert old in said
    return {"qstat -f *": said.replace(old, new)}


NOBODY = read(V, "none.listing")


def job(name: str, task: str = "", complexes: str = "complexes") -> Job:
    said = read(V, f"{name}.job")
    number = said.split("<JB_job_number>")[1].split("<")[0]
    shares, whole = (
        read(V, f"{name}.{form}") if name != "pending" else NOBODY for form in ("shares", "whole")
    )
    answers = {
        "qstat -xml -j *": said,
        "qstat * -g t*": shares,
        "qstat -xml -s rs *": whole,
        "qconf -sc": read(V, complexes) if complexes else "#name type\n",
    }
    return Job(f"{number}.{task}" if task else number, answers)


MENDED = "in error state: once that is mended, `qmod -cj 12` lets it try again"
RECORDED = Recorded(
    version=V,
    node="hv1",
    owner=("griduser", 1501, 1502),
    granted=(
        (
            job("plain"),
            {"cores": 1, "memory": 1500, "partition": "main", "tag": "small_debian_x86_64"},
        ),
        (job("cores"), {"cores": 2, "memory": 1400, "by": "resource"}),
        (job("array", "3"), {"job": "40.3"}),
        (job("defaults"), {"workdir": "/home/griduser", "memory": 1024}),
    ),
    refused=(
        (job("two-hosts"), "slots on hv1, hv2"),
        (job("plain", complexes=""), "a complex of memory"),
    ),
    waiting=job("pending"),
    places=(
        (job("plain"), "hv1"),
        (job("two-hosts"), ""),
        (Job("1", {"qstat *": read(V, "queued.listing")}), ""),
        (Job("424242", {"qstat *": NOBODY}), None),
    ),
    live=(
        ({"qstat *": read(V, "live.listing")}, {"40.3": False, "40.7": False}),
        ({"qstat *": read(V, "suspended.listing")}, {"5": True, "6.3": True}),
        ({"qstat *": NOBODY}, {}),
    ),
    # A queue has no field for a reason: whose drain it is stands in a file. The queue grid was
    # disabled by somebody else, before.
    rooms=(
        (QUEUES, (2, None)),
        (queues("<slots_used>0", "<slots_used>1"), (1, None)),
        (queues("<slots_resv>0", "<slots_resv>2"), (0, None)),
        (queues("</arch>", "</arch><state>au</state>"), (0, None)),
    ),
    drains=(
        ("drain", QUEUES, "disabled: grid@hv1", ("qmod -d main@hv1",)),
        ("resume", QUEUES, "disabled: grid@hv1", ()),
    ),
    failure=(
        "its job is tried 3 times in all, as its starter asks for it (where that is gone, as after"
        " a reboot, and Grid Engine does not do so by itself, `qmod -rj 12` does), and is then"
        f" {MENDED}",
        f"its job is {MENDED}",
    ),
    drms="SGE 8.1.9",
    commands=("qstat", "qconf", "qmod"),
    asks=("qstat", "qconf -s"),
)
