"""How far a VM is on its way, and when it ends: what OCCI has no attributes for. Pure."""

from dataclasses import dataclass

from occi_bridge.store.rows import Compute


@dataclass(frozen=True)
class Standing:
    """Times are in seconds since the epoch; None for what has not come to pass.

    `ends` is when its lease is over at the latest, to within some seconds.
    """

    asked: float  # for the VM
    wanted: bool  # it is to run, whether it does or not
    node: str
    state: str  # as its node says; "" where none has it
    queued: float | None = None  # its present lease was asked for
    expected: float | None = None  # that lease is to begin, as the batch system sees it
    began: float | None = None  # its present lease
    ends: float | None = None
    since: float | None = None  # in its present state, as its node says


def standing(row: Compute) -> Standing:
    """The standing of a VM."""
    runs = bool(row.lease) and row.lease_state == "running" and bool(row.began)
    return Standing(
        asked=row.created,
        wanted=row.desired == "active",
        node=row.node,
        state=row.state,
        queued=row.lease_at or None if row.lease else None,
        expected=row.expected or None if row.lease_state == "pending" else None,
        began=row.began if runs else None,
        ends=row.began + row.walltime if runs else None,
        since=row.since or None if row.state else None,
    )
