"""Half an hour of short jobs and cloud machines, as many as the machine bears: nothing grows.

python -m tests.chaos.soak, on a site in a box that is up; SOAK_MINUTES says how long. See
`make soak`, and docs/resilience.md for the limits.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from contrib.site.box.layout import IMAGE, NODES, REPOSITORY
from tests.chaos.jobs import Queue
from tests.chaos.site import Box, bait_of
from tests.e2e.box import USER, call, remains
from tests.e2e.lrms.slurm import FINAL
from tests.e2e.occi import USERS, Cloud, Key

FIGURES = REPOSITORY / "build" / "soak.json"
MIB = 1 << 20
_EVERY = 30.0  # seconds between two samples
_AT_ONCE = {"jobs": 3, "machines": 2}
_WARM = 0.25  # of the time, before growth counts: caches and pools fill
# What each figure may grow by from there to the end, both times when all is at rest: a fixed part,
# and a part for each machine that came and went, which is what the ledger keeps of it for 90 days.
LIMITS: dict[str, tuple[float, float]] = {
    "MiB": (16, 0),  # resident
    "fds": (6, 0),
    "threads": (6, 0),
    "ledger KiB": (4200, 6),  # the journal that SQLite writes ahead has up to 4 MiB
    "disk KiB": (256, 0),
}


@dataclass
class Soak:
    """What is measured, and what has been done."""

    box: Box
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    samples: list[dict[str, float]] = field(default_factory=list)

    def sample(self) -> dict[str, float]:
        """All figures, now."""
        found: dict[str, float] = {"time": time.monotonic(), "machines": self.done.total()}
        for name in (*map(bait_of, NODES), "bridge", "libvirtd"):
            tree = _tree(self.box.pid(name))
            found[f"{name} MiB"] = sum(_resident(pid) for pid in tree)
            found[f"{name} fds"] = sum(_count(pid, "fd") for pid in tree)
            found[f"{name} threads"] = sum(_count(pid, "task") for pid in tree)
        for node in NODES:
            state, run = self.box.site.spool / node, self.box.site.run / node
            ledger = list(state.glob("ledger.sqlite*"))
            found[f"{node} ledger KiB"] = sum(map(_size, ledger))
            files = [path for folder in (state, run) for path in folder.rglob("*")]
            found[f"{node} disk KiB"] = sum(_size(path) for path in files if path not in ledger)
        self.samples.append(found)
        values = (f"{name} {value:.0f}" for name, value in list(found.items())[2:])
        done = ", ".join(f"{count} {kind}" for kind, count in sorted(self.done.items()))
        past = found["time"] - self.samples[0]["time"]
        print(f"{past:6.0f} {done or 'begun'}; {', '.join(values)}", flush=True)
        return found

    def again_and_again(self, kind: str, act: Callable[[], None], until: float) -> None:
        """Do it until the time is over; a fault of one time is kept, and the next one comes."""
        while time.monotonic() < until:
            try:
                act()
                self.done[kind] += 1
            except (AssertionError, httpx.HTTPError, OSError) as error:
                self.wrong.append(f"{kind}: {error!r}"[:300])
                time.sleep(2)


def main() -> int:
    """The exit code: 0 if nothing grew beyond its limit and nothing went wrong."""
    seconds = 60 * float(os.environ.get("SOAK_MINUTES") or 30)
    soak = Soak(Box())
    with tempfile.TemporaryDirectory() as folder:
        key = Key.make(Path(folder))
        _load(soak, key, seconds * _WARM)
        warm = _rest(soak)
        _load(soak, key, seconds * (1 - _WARM))
        return _verdict(soak, warm, _rest(soak))


def _load(soak: Soak, key: Key, seconds: float) -> None:
    """Jobs and machines for this time, and samples meanwhile."""
    queue, until = Queue(soak.box.lrms), time.monotonic() + seconds
    acts = {"jobs": lambda: _job(queue), "machines": lambda: _machine(key)}
    threads = [
        threading.Thread(target=soak.again_and_again, args=(kind, act, until))
        for kind, act in acts.items()
        for _ in range(_AT_ONCE[kind])
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        soak.sample()
        for thread in threads:
            thread.join(_EVERY / len(threads))


def _rest(soak: Soak) -> dict[str, float]:
    """The figures when nothing is left and nothing goes on."""
    until = time.monotonic() + 120
    while (left := remains() + soak.box.lrms.unfinished()) and time.monotonic() < until:
        time.sleep(2)
    soak.wrong += [f"left: {line}" for line in left]
    time.sleep(20)  # what the baits and the bridge keep for a while
    return soak.sample()


def _verdict(soak: Soak, first: Mapping[str, float], last: Mapping[str, float]) -> int:
    machines = last["machines"] - first["machines"]
    hours = (last["time"] - first["time"]) / 3600 or 1
    print(f"\n{'':28} {'warm':>9} {'end':>9} {'peak':>9} {'an hour':>9} {'limit':>9}")
    grown = []
    for name in first:
        unit = next((unit for unit in LIMITS if name.endswith(unit)), None)
        if unit is None:
            continue
        fixed, each = LIMITS[unit]
        # libvirtd is not ours: it is shown, and only its descriptors are held to a limit.
        limit = fixed + each * machines
        growth, peak = last[name] - first[name], max(s[name] for s in soak.samples)
        bad = growth > limit and (not name.startswith("libvirtd") or unit == "fds")
        print(
            f"{name:28} {first[name]:9.1f} {last[name]:9.1f} {peak:9.1f} {growth / hours:9.1f}"
            f" {limit:9.1f}{'  TOO MUCH' if bad else ''}"
        )
        grown += [name] if bad else []
    for line in soak.wrong[:20]:
        print(f"wrong: {line}")
    figures = {
        **soak.done,
        "minutes": round((last["time"] - soak.samples[0]["time"]) / 60, 1),
        "wrong": len(soak.wrong),
        "grown": grown,
        "growth": {n: round(last[n] - first[n], 1) for n in first if n not in ("time", "machines")},
    }
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(figures) + "\n")
    return 1 if grown or soak.wrong else 0


def _job(queue: Queue) -> None:
    number = call(
        *("env", "--chdir=/", f"WNODES_IMAGE={IMAGE}", "sbatch", "--parsable", "--mem=384"),
        *("--output=/dev/null", "--error=/dev/null", "--time=10", "--wrap=true"),
        user=USER,
    ).strip()
    end = time.monotonic() + 240
    while (state := _state(queue, number)) not in FINAL:
        assert time.monotonic() < end, f"job {number} is {state} after 240 s"
        time.sleep(0.5)
    assert state == "COMPLETED", f"job {number} is {state}"


def _state(queue: Queue, number: str) -> str:
    listed = queue.jobs().get(number)
    return listed.state if listed else ""


def _machine(key: Key) -> None:
    user = Cloud(USERS / "alice" / "vomsproxy.pem")
    machine = user.machine(key=key)
    try:
        machine.wait("active", seconds=120)
        machine.act("stop", method="poweroff")
        machine.wait("inactive", seconds=60)
    finally:
        machine.delete()


def _tree(pid: int) -> list[int]:
    """A process and its children, theirs too."""
    found = [pid] if pid else []
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _count(pid: int, what: str) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/{what}").iterdir()))
    except OSError:
        return 0


def _size(path: Path) -> float:
    """KiB on the disk."""
    try:
        return path.lstat().st_blocks / 2
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
