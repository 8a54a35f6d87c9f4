"""APEL's cloud usage records, version 0.4, as text. Pure.

Sources: the messages that the loader and schemas/cloud.sql of apel 2.5 take, and for units and
states what cASO and oneacct-export publish. Wallclock only: a cloud VM's CPU time is nobody's
to know.

APEL keeps one row for a VMUUID and month, and the record that is loaded last replaces it. The month
is that of RecordCreateTime while the VM runs and of EndTime once it is over. Both are counted
here from the start by the VM's own clocks, not read from a clock that may be set back: so they
only ever grow, and the row of a month never tells less than before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bait.ledger.records import Clock, Usage

MOST = 100  # records in a message

_HEADER = "APEL-cloud-message: v0.4"
_LONGEST = 255  # characters: what a column of the database takes
_GB = 2**30
_STATUS = {Clock.RUNS: "started", Clock.HELD: "suspended", Clock.CLOSED: "completed"}


@dataclass(frozen=True)
class Publisher:
    """What a site says of itself in each record."""

    site: str  # its name in GOCDB
    service: str  # its name for this cloud; may be empty
    product: str  # what makes the VMs, with its version


def message(usages: Sequence[Usage], users: Mapping[int, str], publisher: Publisher) -> str:
    """A message with a record for each usage, at most MOST. `users`: names of local users."""
    records = (record(usage, users, publisher) for usage in usages)
    texts = ("".join(f"{key}: {value}\n" for key, value in each.items()) for each in records)
    return f"{_HEADER}\n" + "%%\n".join(texts)


def record(usage: Usage, users: Mapping[int, str], publisher: Publisher) -> dict[str, str | int]:
    """The fields of one record, in APEL's order; what is not known is not there."""
    start, wall, held = round(usage.began), round(usage.wall), round(usage.held)
    measured = start + wall + held
    uid = usage.uid
    found: dict[str, str | int | None] = {
        "RecordCreateTime": measured,
        "VMUUID": usage.id,
        "SiteName": publisher.site,
        "CloudComputeService": publisher.service,
        "MachineName": usage.machine,
        "LocalUserId": None if uid is None else users.get(uid, str(uid)),
        "GlobalUserName": usage.dn,
        "FQAN": usage.fqan,
        "Status": _STATUS[usage.clock],
        "StartTime": start,
        "EndTime": measured if usage.clock is Clock.CLOSED else None,
        "SuspendDuration": held,
        "WallDuration": wall,
        "CpuCount": usage.cores,
        "NetworkInbound": usage.inbound // _GB,
        "NetworkOutbound": usage.outbound // _GB,
        "Memory": usage.memory,
        "Disk": usage.disk or None,
        "ImageId": usage.tag,
        "CloudType": publisher.product,
    }
    return {
        key: _safe(value) if isinstance(value, str) else value
        for key, value in found.items()
        if value not in (None, "")
    }


def _safe(text: str) -> str:
    """The text as a value: SSM takes ASCII only, APEL splits at line ends and at %%.

    Other bytes become \\xHH, as in names of certificates. Longer than a column, it is cut: the
    database would refuse it, and with it the whole message.
    """
    plain = "".join(
        c if " " <= c <= "~" else "".join(f"\\x{byte:02X}" for byte in c.encode("utf-8", "replace"))
        for c in text
    )
    return plain.replace("%%", "\\x25\\x25")[:_LONGEST]
