"""OpenPBS 23.06, for the suite: see data/openpbs-23.06/record."""

from tests.unit.wnodes_lrms.lrms.behaviour import AGAIN, HELD, Answers, Does, Job, Recorded, read

V, NODE = "openpbs-23.06", "pbsbox"


def job(name: str, old: str = "\0", new: str = "") -> Job:
    listing = read(V, f"{name}.qstat").replace(old, new)
    return Job(listing.split()[2], {"qstat -f -w -- *@server": listing})


def node(name: str) -> Answers:
    return {f"pbsnodes -H {NODE}": read(V, f"{name}.node")}


def vnodes(*names: str) -> Answers:
    """A host with several, as none was recorded."""
    return {f"pbsnodes -H {NODE}": "\n".join(read(V, f"{name}.node") for name in names)}


DRAIN, RESUME = f"pbsnodes -o -C wnodes: why {NODE}", f"pbsnodes -r -C  {NODE}"
GONE = Does("echo 'qstat: Unknown Job Id 12.pbs' >&2; exit 153")
RECORDED = Recorded(
    version=V,
    node=NODE,
    owner=("pbsu", 4001, 4001),
    granted=(
        (job("plain"), {"cores": 2, "memory": 1500, "partition": "workq", "tag": ""}),
        (job("wished"), {"cores": 3, "memory": 1024, "tag": "small", "by": "environment"}),
        (job("chunks"), {"cores": 5, "memory": 700}),
        (job("rerun"), {"restart": 1}),
        (job("suspended"), {"restart": 1}),
        (job("array"), {"job": f"26[3].{NODE}"}),
    ),
    refused=(
        (job("chunks", f"+({NODE}:", "+(hv2:"), "runs on hv2, pbsbox"),
        (job("no-memory"), "has no memory of its own"),
        (job("plain", "job_state = R", "job_state = E"), "is ending"),
    ),
    waiting=job("held"),
    places=(
        (job("plain"), NODE),
        (job("suspended"), NODE),
        (job("chunks", f"+({NODE}:", "+(hv2:"), ""),
        (job("held"), ""),
        (Job("12.pbs", {"qstat *": GONE}), None),
    ),
    live=(
        (node("jobs"), {f"26[3].{NODE}": False, f"26[4].{NODE}": False}),
        (
            {
                **node("suspended"),
                "qselect *": f"25.{NODE}\n",
                f"qstat -f -w -- 25.{NODE}@server": read(V, "suspended.qstat"),
            },
            {f"25.{NODE}": True},
        ),
        (node("free"), {}),
    ),
    rooms=(
        (node("free"), (16, 24105)),
        (node("jobs"), (14, 23705)),
        (node("offline"), (0, 0)),
        (vnodes("free", "jobs"), (16, 24105)),
        (vnodes("offline", "jobs"), (14, 23705)),
    ),
    drains=(
        ("drain", node("free"), "", (DRAIN,)),
        ("drain", node("ours-offline"), "", (DRAIN,)),
        ("drain", node("offline"), "the fan is loud", ()),
        ("resume", node("free"), "", ()),
        ("resume", node("ours-offline"), "", (RESUME,)),
        ("resume", node("offline"), "the fan is loud", ()),
    ),
    failure=(AGAIN.format("qrerun"), HELD.format("qrls")),
    drms="PBS Professional 23.06",
    drmaa_job="{}.server",
    commands=("qstat", "qselect", "pbsnodes"),
    asks=("qstat", "qselect", "pbsnodes -H"),
)
