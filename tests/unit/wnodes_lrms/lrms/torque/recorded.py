"""Torque 6.1.3, for the suite: see data/torque-6.1.3/record."""

from tests.unit.wnodes_lrms.lrms.behaviour import AGAIN, HELD, Answers, Does, Job, Recorded, read

V, NODE = "torque-6.1.3", "tqhost"


def job(name: str, old: str = "\0", new: str = "") -> Job:
    listing = read(V, f"{name}.qstat").replace(old, new)
    number = listing.partition("<Job_Id>")[2].partition("<")[0]
    return Job(number, {"qstat -f -x -- *@server": listing})


def node(name: str) -> Answers:
    return {f"pbsnodes -x {NODE}": read(V, f"{name}.pbsnodes")}


DRAIN = f"pbsnodes -o -N wnodes: why {NODE}"
GONE = Does("echo 'qstat: Unknown Job Id Error 12.tqhost' >&2; exit 153")
TAG = "small_linux_x86_64"
SUSPENDED = job("plain", "<job_state>R<", "<job_state>S<").answers
RECORDED = Recorded(
    version=V,
    node=NODE,
    owner=("tqu", 1004, 1005),
    granted=(
        (
            job("environment"),
            {"cores": 2, "memory": 1500, "tag": TAG, "by": "environment", "partition": "batch"},
        ),
        (job("plain"), {"cores": 3, "memory": 2100, "tag": ""}),
        (job("array"), {"job": f"27[3].{NODE}"}),
        (job("again"), {"restart": 1}),
    ),
    refused=(
        (job("plain", "tqhost/0-2<", "tqhost/0-1+hv2/0<"), r"2 node\(s\) \(tqhost\+hv2\)"),
        (job("no-memory"), r"-l mem=.*resources_default\.mem"),
        (job("plain", "<job_state>R<", "<job_state>E<"), "is ending"),
    ),
    waiting=job("held"),
    places=(
        (job("plain"), NODE),
        (job("plain", "tqhost/0-2<", "tqhost/0-1+hv2/0<"), ""),
        (job("held"), ""),
        (Job("12.tqhost", {"qstat *": GONE}), None),
        (job("plain", "<job_state>R<", "<job_state>C<"), None),
    ),
    live=(
        ({**node("array"), "qstat *": GONE}, {f"27[3].{NODE}": False, f"27[7].{NODE}": False}),
        ({**node("free"), **SUSPENDED}, {f"26.{NODE}": True}),
        ({**node("free"), **job("plain", "<job_state>R<", "<job_state>C<").answers}, {}),
    ),
    rooms=(
        (node("free"), (4, None)),
        (node("busy"), (1, None)),
        (node("array"), (2, None)),
        (node("ours"), (0, None)),
    ),
    drains=(
        ("drain", node("free"), "", (DRAIN,)),
        ("drain", node("ours"), "", (DRAIN,)),
        ("drain", node("theirs"), "bad disk", ()),
        ("resume", node("free"), "", ()),
        ("resume", node("ours"), "", (f"pbsnodes -c -N n {NODE}",)),
        ("resume", node("theirs"), "bad disk", ()),
    ),
    failure=(AGAIN.format("qrerun"), HELD.format("qrls -h o")),
    drms="Torque 6.1.3",
    drmaa_job="{}.server",
    commands=("qstat", "qselect", "pbsnodes"),
    asks=("qstat", "pbsnodes -x"),
    markers=(f"26.{NODE}", "no job"),
)
