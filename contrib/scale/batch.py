"""Batch jobs in VMs, and what the baits' ledgers have of all VMs."""

import collections
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrib.scale.plan import IMAGE, Size, user
from contrib.site.box.layout import Layout
from contrib.site.box.process import run


def submit(env: dict[str, str], owner: int, count: int, seconds: int) -> None:
    """An array of `count` jobs of a user's, counted from 0; each waits so long in its VM."""
    argv = ["setpriv", f"--reuid={user(owner)}", "--regid=scale", "--init-groups", "--"]
    argv += ["sbatch", "--parsable", f"--array=1-{count}", "--output=/dev/null", "--chdir=/tmp"]
    argv += ["--mem=192", "--time=1440", f"--wrap=\nsleep {seconds}"]
    run(argv, env | {"WNODES_IMAGE": IMAGE})


def cancel_all(env: dict[str, str]) -> None:
    """End all jobs."""
    run(["scancel", "--partition=main"], env)


@dataclass(frozen=True)
class Vm:
    """A VM in a bait's ledger."""

    id: str
    node: str
    kind: str
    state: str
    job: str


def vms(site: Layout, size: Size) -> list[Vm]:
    """All VMs of all nodes."""
    return [Vm(name, node, *rest) for node, (name, *rest) in _rows(site, size, _VMS)]


def build_times(site: Layout, size: Size, kind: str) -> list[float]:
    """Of each VM that was ready on any node: seconds from its promise, or its order, to that."""
    begun: dict[tuple[str, str], float] = {}
    found = []
    last = {"batch": "ready", "cloud": "running"}[kind]
    for node, (machine, at, what) in _rows(site, size, _EVENTS):
        if what.startswith("requested"):
            begun[node, machine] = at
        elif what == last and (node, machine) in begun:
            found.append(at - begun.pop((node, machine)))
    return found


def census(found: list[Vm]) -> collections.Counter[tuple[str, str]]:
    """How many VMs there are of each kind and state."""
    return collections.Counter((vm.kind, vm.state) for vm in found)


_VMS = "SELECT id, kind, state, job FROM machine"
_EVENTS = "SELECT machine, at, what FROM event ORDER BY at"


def _rows(site: Layout, size: Size, query: str) -> Iterator[tuple[str, list[Any]]]:
    for node in size.names:
        file = Path(site.spool, node, "ledger.sqlite")
        if file.exists():
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10) as db:
                yield from ((node, list(row)) for row in db.execute(query))
            db.close()
