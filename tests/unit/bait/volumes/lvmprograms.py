"""LVM's programs as bait/volumes/lvm.py calls them, for what needs a kernel of its own.

What they print and refuse was recorded (tests/unit/data/lvm-2.03.16), but without a kernel that has
thin pools: what such a one adds was read in the sources of lvm2 2.03.16 (lib/report/values.h,
lib/activate/activate.c). Words that the real ones were not called with are a fault here. The real
ones, with such a kernel: `make vm-test`.
"""

import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

GROUP, POOL = "data", "volumes"
BESIDE = "--quiet --collect --pipe --wait --setenv=LC_ALL=C.UTF-8 --property=LogLevelMax=warning"
PROGRAMS = ("blkdiscard", "lvchange", "lvcreate", "lvextend", "lvremove", "lvrename", "lvs")
FIELDS = (
    *("lv_name", "lv_size", "segtype", "pool_lv", "lv_tags", "lv_active", "lv_device_open"),
    *("data_percent", "metadata_percent", "zero", "lv_when_full", "kernel_discards"),
)
_STATE = "LVM_PROGRAMS_STATE"
_EXTENT = 4 << 20  # bytes
_POOL_ROW = {
    "segtype": "thin-pool",
    "lv_active": "active",
    "data_percent": "0.00",
    "metadata_percent": "10.84",
    "zero": "zero",
    "lv_when_full": "error",
    "kernel_discards": "passdown",
}
# What each change is asked with; groups of a pattern are what it takes from there.
_WORDS = {
    "lvcreate": (
        rf"--yes --type thin --thinpool {POOL} --virtualsize (?P<size>\d+)b --name (?P<name>\S+)"
        rf" --addtag (?P<tag>\S+) {GROUP}"
        r"|--yes --snapshot --setactivationskip n --name (?P<copy>\S+) --addtag (?P<copytag>\S+)"
        rf" {GROUP}/(?P<source>\S+)"
    ),
    "lvextend": rf"--yes --size (?P<size>\d+)b {GROUP}/(?P<name>\S+)",
    "lvchange": rf"--yes --activate y {GROUP}/(?P<name>\S+)",
    "lvrename": rf"--yes {GROUP} (?P<name>\S+) (?P<new>\S+)",
    "lvremove": rf"--yes {GROUP}/(?P<name>\S+)",
    "blkdiscard": rf"--force /dev/{GROUP}/(?P<name>\S+)",
    "lvs": (
        r"--reportformat json --units b --nosuffix --config report \{binary_values_as_numeric=0"
        rf' compact_output=0 list_item_separator=","\}} --options {",".join(FIELDS)} {GROUP}'
    ),
}


class Programs:
    """A volume group with a thin pool of so many GiB, and what was done with it."""

    def __init__(self, folder: Path, gib: int, monkeypatch: "pytest.MonkeyPatch") -> None:
        self._file = folder / "lvm.json"
        rows = {POOL: _POOL_ROW | {"lv_size": str(gib << 30)}}
        self._file.write_text(json.dumps({"rows": rows, "calls": []}))
        programs = folder / "programs"
        programs.mkdir()
        for name in PROGRAMS:
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {__file__} {name} "$@"\n')
            script.chmod(0o755)
        run = programs / "systemd-run"
        said = f'case "$*" in "{BESIDE} "*) ;; *) exit 2 ;; esac; shift {len(BESIDE.split())}'
        more = 'bound=; case "$1" in --property=RuntimeMaxSec=*) bound=${1#*Sec=}; shift ;; esac'
        more += f'; [ "$1" = -- ] || exit 2; shift; echo "$1 $bound" >>{folder}/beside'
        run.write_text(f'#!/bin/sh\n{said}\n{more}\nexec "$@"\n')
        run.chmod(0o755)
        self.beside = folder / "beside"  # what systemd was asked to run, and for how many seconds
        monkeypatch.delenv("INVOCATION_ID", raising=False)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv(_STATE, str(self._file))

    @property
    def rows(self) -> dict[str, dict[str, str]]:
        """What the group has, by name."""
        found: dict[str, dict[str, str]] = json.loads(self._file.read_text())["rows"]
        return found

    @property
    def names(self) -> set[str]:
        """Of the volumes."""
        return set(self.rows) - {POOL}

    @property
    def calls(self) -> list[str]:
        """The programs that were called for a change, oldest first."""
        found: list[str] = json.loads(self._file.read_text())["calls"]
        return found

    def put(self, name: str, **values: str) -> None:
        """Change what is reported of a volume, or the pool; or have one more."""
        with _state(self._file) as state:
            state["rows"][name] = state["rows"].get(name, {}) | values


def report(rows: dict[str, dict[str, str]]) -> str:
    """As `lvs --reportformat json` prints it."""
    every = [dict.fromkeys(FIELDS, "") | row | {"lv_name": name} for name, row in rows.items()]
    lines = [
        "{" + ", ".join(f'"{name}":"{value}"' for name, value in row.items()) + "}" for row in every
    ]
    inner = ",\n                  ".join(lines)
    indent = " " * 6
    return (
        f'  {{\n{indent}"report": [\n{indent}    {{\n{indent}        "lv": [\n'
        f"                  {inner}\n{indent}        ]\n{indent}    }}\n{indent}]\n  }}\n"
    )


@contextmanager
def _state(file: Path) -> Iterator[dict[str, Any]]:
    """What there is, for one program at a time, and kept whole if all goes well."""
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state: dict[str, Any] = json.loads(file.read_text())
        yield state
        new = file.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(file)


class _RefusedError(Exception):
    """With what LVM says."""


def _done(state: dict[str, Any], program: str, has: dict[str, str]) -> str:
    """Do what a program is asked for; what it prints."""
    rows = state["rows"]
    if program == "lvs":
        return report(rows)
    state["calls"].append(program)
    name = has.get("copy") or has["name"]
    if program == "lvcreate":
        if name in rows:
            raise _RefusedError(f'Logical Volume "{name}" already exists in volume group "{GROUP}"')
        if has.get("source", GROUP) not in (GROUP, *rows):
            raise _RefusedError(
                f"Snapshot origin LV {has['source']} not found in Volume group {GROUP}."
            )
        size = has.get("size") or rows[has["source"]]["lv_size"]
        tag = has.get("tag") or has["copytag"]
        made = {"lv_size": size, "segtype": "thin", "pool_lv": POOL, "lv_tags": tag}
        rows[name] = made | {"lv_active": "active", "data_percent": "0.00", "zero": "zero"}
        return ""
    if name not in rows:
        raise _RefusedError(f'Failed to find logical volume "{GROUP}/{name}"')
    if program == "lvextend":
        wanted, old = (int(size) // _EXTENT for size in (has["size"], rows[name]["lv_size"]))
        if wanted <= old:
            said = (
                f"New size given ({wanted} extents) not larger than existing size ({old} extents)"
            )
            raise _RefusedError(said)
        rows[name]["lv_size"] = has["size"]
    elif program == "lvrename":
        if has["new"] in rows:
            said = f'Logical Volume "{has["new"]}" already exists in volume group "{GROUP}"'
            raise _RefusedError(said)
        rows[has["new"]] = rows.pop(name)
    elif program == "lvremove":
        if rows[name].get("lv_device_open"):
            raise _RefusedError(f"Logical volume {GROUP}/{name} in use.")
        del rows[name]
    elif program == "lvchange":
        rows[name]["lv_active"] = "active"
    elif not rows[name]["lv_active"]:
        raise _RefusedError(f"cannot open /dev/{GROUP}/{name}: No such file or directory")
    return ""


def main(program: str, words: list[str]) -> int:
    """Run one of the programs; its exit status."""
    file = Path(os.environ[_STATE])
    found = re.fullmatch(_WORDS[program], " ".join(words))
    if found is None:
        print(f"  {program}: is not called so: {words}", file=sys.stderr)
        return 3
    has = {key: value for key, value in found.groupdict().items() if value}
    try:
        with _state(file) as state:
            said = _done(state, program, has)
    except _RefusedError as error:
        print(f"  {error}", file=sys.stderr)
        return 5
    sys.stdout.write(said)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
