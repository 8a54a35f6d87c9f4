"""LVM's own programs, asked about one thin pool: what is in it, and to change that.

Their reports have the fields and the form (`--reportformat json`) of lvm2 2.03.16, see lvs(8) and
lvmreport(7).

A bait that systemd has started sees no devices and may not change any: its unit says so, and that
is to stay. systemd, which root may ask for that, runs these programs beside it.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wnodes_lrms.errors import ConflictError, UnknownError, WnodesError
from wnodes_lrms.run import call, told

_FIELDS = (
    *("lv_name", "lv_size", "segtype", "pool_lv", "lv_tags", "lv_active", "lv_device_open"),
    *("data_percent", "metadata_percent", "zero", "lv_when_full", "kernel_discards"),
)
# A site's lvm.conf may say otherwise.
_FORM = 'report {binary_values_as_numeric=0 compact_output=0 list_item_separator=","}'
# See systemd-run(1); what a program says is ours to read, and not the journal's.
_BESIDE = (
    *("systemd-run", "--quiet", "--collect", "--pipe", "--wait", "--setenv=LC_ALL=C.UTF-8"),
    "--property=LogLevelMax=warning",
)
# Seconds for a change. One that is killed before its end may leave a device suspended, and then who
# writes on it hangs: so it has long.
_CHANGING = 600.0
_DISCARDING = 3600.0
_FAILED = "the site's storage has failed"
_TAKEN = re.compile(r"in use|used by another device|already exists")  # and exit status 5


@dataclass(frozen=True)
class LogicalVolume:
    """A thin volume, whoever has made it."""

    name: str
    size: int  # bytes that it was promised
    tags: frozenset[str]
    active: bool
    open: bool  # somebody on this node has its device open


@dataclass(frozen=True)
class ThinPool:
    """What the volumes share."""

    size: int  # bytes
    data: float  # percent of it that is taken
    metadata: float  # percent taken of the room in which LVM notes what is whose
    zeroes: bool  # what a volume is given has nothing in it of whoever had it before
    fails: bool  # who writes when it is full is told at once, and does not hang
    discards: str  # how the kernel handles them: passdown, nopassdown, ignore

    @property
    def free(self) -> int:
        """Bytes that may be written."""
        return int(self.size * (100 - self.data) / 100)


@dataclass(frozen=True)
class Contents:
    """A thin pool and its volumes, by name."""

    pool: ThinPool
    volumes: Mapping[str, LogicalVolume]

    @property
    def promised(self) -> int:
        """Bytes of all volumes' sizes, whatever of that is written."""
        return sum(each.size for each in self.volumes.values())


@dataclass(frozen=True)
class Lvm:
    """A thin pool of a volume group. Names of volumes are for the caller to have made."""

    group: str
    pool: str
    patience: float = 60.0  # seconds for an answer

    def path(self, name: str) -> str:
        """The device of a volume that is active."""
        return f"/dev/{self.group}/{name}"

    def look(self) -> Contents:
        """What is there now. Raises UnknownError if that can't be told."""
        argv = ["lvs", "--reportformat", "json", "--units", "b", "--nosuffix"]
        argv += ["--config", _FORM, "--options", ",".join(_FIELDS), self.group]
        # To kill systemd-run does not end what it has started: where LVM hangs, that would pile up.
        bound = f"--property=RuntimeMaxSec={self.patience:g}"
        ended = call(_beside(argv, bound), deadline=self.patience)
        if ended.status:
            raise UnknownError(told("lvs", _one_line(ended.errors)), told=_FAILED)
        return contents(ended.output, self.pool)

    def create(self, name: str, size: int, tag: str) -> None:
        """Make a volume of so many bytes. Raises ConflictError if the name is taken."""
        what = ["--type", "thin", "--thinpool", self.pool, "--virtualsize", f"{size}b"]
        self._change("lvcreate", "--yes", *what, "--name", name, "--addtag", tag, self.group)

    def snapshot(self, source: str, name: str, tag: str) -> None:
        """Make a volume that is what another is at this moment; from then on each is its own."""
        what = ["--snapshot", "--setactivationskip", "n", "--name", name, "--addtag", tag]
        self._change("lvcreate", "--yes", *what, self._full(source))

    def extend(self, name: str, size: int) -> None:
        """Have a volume grow to so many bytes; it has fewer."""
        self._change("lvextend", "--yes", "--size", f"{size}b", self._full(name))

    def activate(self, name: str) -> None:
        """Have a volume's device be there."""
        self._change("lvchange", "--yes", "--activate", "y", self._full(name))

    def rename(self, name: str, new: str) -> None:
        """Call a volume otherwise, also one that is active."""
        self._change("lvrename", "--yes", self.group, name, new)

    def remove(self, name: str) -> None:
        """Remove a volume. Raises ConflictError if somebody has it open."""
        self._change("lvremove", "--yes", self._full(name))

    def discard(self, name: str) -> None:
        """Give all blocks of an active volume back, and tell the disk below that nobody needs what
        is in those that no other volume shares."""
        # Without --force it looks, as root, for what a user may have written there.
        self._change("blkdiscard", "--force", self.path(name), deadline=_DISCARDING)

    def _full(self, name: str) -> str:
        return f"{self.group}/{name}"

    def _change(self, *argv: str, deadline: float = _CHANGING) -> None:
        ended = call(_beside(argv), deadline=deadline)
        if ended.status:
            kind = ConflictError if _TAKEN.search(ended.errors) else WnodesError
            raise kind(told(argv[0], _one_line(ended.errors)), told=_FAILED)


def _beside(argv: Sequence[str], *properties: str) -> Sequence[str]:
    started = "INVOCATION_ID" in os.environ  # systemd.exec(5): this is a unit's process
    return [*_BESIDE, *properties, "--", *argv] if started else argv


def contents(report: str, pool: str) -> Contents:
    """What lvs has reported of the group of this thin pool. Pure.

    Raises UnknownError if it is no such report, or has no such pool, or the pool is not active.
    """
    try:
        rows = [row for part in json.loads(report)["report"] for row in part.get("lv", ())]
        found = {row["lv_name"]: row for row in rows}
        its = {name: row for name, row in found.items() if row["pool_lv"] == pool}
        has = found.get(pool)
        if has is None or has["segtype"] != "thin-pool":
            raise UnknownError(f"lvs: there is no thin pool {pool}", told=_FAILED)
        if not has["data_percent"]:
            raise UnknownError(f"lvs: thin pool {pool} is not active", told=_FAILED)
        return Contents(_pool(has), {name: _volume(row) for name, row in its.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnknownError(f"lvs: its report can't be read: {error!r}", told=_FAILED) from error


def _pool(row: Mapping[str, str]) -> ThinPool:
    return ThinPool(
        int(row["lv_size"]),
        float(row["data_percent"]),
        float(row["metadata_percent"]),
        row["zero"] == "zero",
        row["lv_when_full"] == "error",
        row["kernel_discards"],
    )


def _volume(row: Mapping[str, str]) -> LogicalVolume:
    return LogicalVolume(
        row["lv_name"],
        int(row["lv_size"]),
        frozenset(filter(None, row["lv_tags"].split(","))),
        row["lv_active"] == "active",
        row["lv_device_open"] == "open",
    )


def _one_line(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines()]
    said = [line for line in lines if line and not line.startswith("WARNING:")]
    return "; ".join(said) or "it does not say why"
