"""Snapshots for the tests of plan and observe: one VM, and what was seen of it."""

from typing import Any

from occi_bridge.driver.reports import LeasesSeen, Machine, Report, Reports
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.store.rows import Attachment, Compute, Interface, Storage
from wnodes_lrms.lrms.lease import Lease

NOW = 1_000_000.0
UID, CARD, LINK, VOLUME = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "1234")
LEASE = "99999999-0000-4000-8000-000000000000"
COMMON: dict[str, Any] = {
    "owner": "/CN=Anna",
    "shared": "",
    "created": 1.0,
    "mixins": [],
    "attributes": {},
}
HV1, HV2 = "https://hv1:8445", "https://hv2:8445"
# Changes for row(): a VM that runs, and one that is at rest on its node.
RUNS: dict[str, Any] = {"leased": True, "state": "running", "ran": True}
STOPPED: dict[str, Any] = {"state": "stopped", "node": "hv1", "ran": True}


def row(**changes: Any) -> Compute:
    """A VM that is to run; `leased` gives it a lease that the LRMS runs as job 7."""
    if changes.pop("leased", False):
        lease = {"lease": LEASE, "job": "7", "via": HV1, "lease_state": "running"}
        changes = lease | {"lease_at": NOW - 100, "node": "hv1"} | changes
    values: dict[str, Any] = {
        "uid": UID,
        "id": UID,
        "account": "cloud01",
        "walltime": 3600,
        "hostname": "vm",
    }
    size = {"image": "small_linux_x86_64", "cores": 1, "memory": 512}
    return Compute(**(COMMON | values | size | changes))


def card(**changes: Any) -> Interface:
    values = {"uid": CARD, "id": CARD, "compute": UID, "network": "public", "owned": None}
    return Interface(**(COMMON | values | {"mac": "52:54:00:00:00:01"} | changes))


def link(**changes: Any) -> Attachment:
    values = {"uid": LINK, "id": LINK, "compute": UID, "storage": VOLUME}
    return Attachment(**(COMMON | values | changes))


def volume(**changes: Any) -> Storage:
    own = {"uid": VOLUME, "id": VOLUME, "size": 1, "has": 1, "made": True}
    return Storage(**(COMMON | own | changes))


def machine(state: Any, **changes: Any) -> Machine:
    """The VM as its bait has it: under its lease where it lives."""
    over = state in ("stopped", "failed")
    values = {"id": UID, "lease": "" if over else LEASE, "job": "" if over else "7"}
    return Machine(state=state, **(values | changes))


def report(
    *machines: Machine, node: str = "hv1", at: float = NOW, over: str | None = None, waits: str = ""
) -> Report:
    """What a node's bait says: why the lease ended there, which job waits there as that lease."""
    return Report(
        f"https://{node}:8445",
        node,
        at,
        {each.id: each for each in machines},
        {} if over is None else {LEASE: over},
        {LEASE: frozenset({waits})} if waits else {},
    )


def listed(*states: str, at: float = NOW, reason: str = "") -> LeasesSeen:
    """What the LRMS says of the lease: its job 7, and if there are more, 8 and so on."""
    jobs = tuple(
        Lease(LEASE, str(7 + n), "cloud01", state, "hv1" if state == "running" else "", reason)  # type: ignore[arg-type]
        for n, state in enumerate(states)
    )
    return LeasesSeen(at, {LEASE: jobs} if jobs else {})


def snapshot(
    *rows: Compute,
    seen: Report | tuple[Report, ...] = (),
    leases: LeasesSeen | None = None,
    by: str = HV1,
    gone: float | None = None,
    mute: str = "",
    silent: bool = False,
    **more: Any,
) -> Snapshot:
    """`leases`: what the bait `by` lists. `gone`: for how long the batch system has said that there
    is no job 7. `mute`: a bait that can't list leases. `silent`: there is another bait, on hv2,
    that does not answer."""
    reports = (seen,) if isinstance(seen, Report) else seen
    nodes = {"hv1": HV1, "hv2": HV2}
    baits = {each.url: each for each in reports}
    around = Reports(
        baits,
        nodes,
        {by: leases} if leases else {},
        frozenset({mute} if mute else ()),
        {} if gone is None else {"7": gone},
        all_answer=not silent,
    )
    return Snapshot(now=NOW, computes=rows, reports=around, **more)
