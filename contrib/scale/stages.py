"""What is measured at one size: VMs of each kind made, at rest, and coming and going."""

import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contrib.scale import batch as ledgers
from contrib.scale import gauges
from contrib.scale.crowd import Crowd
from contrib.scale.gauges import percentile
from contrib.scale.plan import BRIDGES, user
from contrib.scale.site import Site, until
from contrib.site.box.process import run

Figures = dict[str, float]
MANY, TWENTY = user(0), user(1)  # who has all VMs but twenty, and who has those
_SEEN = (
    "SELECT uid FROM compute WHERE state = 'running' AND"
    " uid IN (SELECT compute FROM interface WHERE attached)"
)
_LISTINGS = 5  # that are measured
_PATIENCE = 900.0  # seconds for all VMs of a stage
_QUEUED = re.compile(r"^\[(\S+?)\] _slurm_rpc_submit_batch_job: JobId=(\d+) ", re.MULTILINE)
_STARTED = re.compile(
    r"^\[(\S+?)\] (?:sched: Allocate|sched/backfill: _start_job: Started) JobId=(\d+)\S* ",
    re.MULTILINE,
)


@dataclass
class Stages:
    """The stages on a site that is up; each adds its figures, under a name."""

    site: Site
    seconds: float  # for which what is at rest, or comes and goes, is looked at
    say: Callable[[str], None]
    found: dict[str, Figures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.crowd = Crowd(self.site.layout.root)

    def batch(self, count: int) -> None:
        """So many jobs' VMs: made, at rest, ended."""
        before, begun = self._cpu(), time.monotonic()
        for owner in range(min(count, 500)):
            share = len(range(owner, count, 500))
            ledgers.submit(self.site.env, owner, share, 36000)
        self._wait("batch", count)
        filled = time.monotonic() - begun
        built = ledgers.build_times(self.site.layout, self.site.size, "batch")[-count:]
        made = {
            "fill_s": filled,
            "bait_cpu_s_per_vm": self._spent(before) / count,
            "ready_p50_s": percentile(built, 0.5),
            "ready_p99_s": percentile(built, 0.99),
        }
        self._note(f"batch {count}", made | self.rest())
        begun = time.monotonic()
        ledgers.cancel_all(self.site.env)
        until(lambda: not self._vms(), _PATIENCE, "the end of all jobs' VMs")
        self._note(f"batch {count}", {"empty_s": time.monotonic() - begun})

    def cloud(self, count: int) -> None:
        """So many cloud VMs: made, and at rest. They stay."""
        more = made_now = count - len(self.crowd.kept)
        before, begun = self._cpu(), time.monotonic()
        if TWENTY not in self.crowd.kept.values():
            self.crowd.fill(TWENTY, 20)
            more -= 20
        self.crowd.fill(MANY, more)
        answered = time.monotonic() - begun
        self._wait("cloud", count)
        until(lambda: len(self.site.ask(_SEEN)) >= count, _PATIENCE, "the driver sees all of them")
        made = {
            "answered_s": answered,
            "fill_s": time.monotonic() - begun,
            "bait_cpu_s_per_vm": self._spent(before) / made_now,
        }
        self._note(f"cloud {count}", made | self.rest())

    def mixed(self, name: str, hands: int, jobs: int = 2) -> None:
        """Cloud VMs and jobs' VMs come and go beside those that are there, and users list theirs.

        So many users make VMs at a time, and so many jobs run at a time."""
        self.crowd.times.taken.clear()
        log = self._log_size()
        stop = threading.Event()
        beside = [
            threading.Thread(target=self.crowd.read, args=(owner, what, self.seconds))
            for owner, what in ((TWENTY, "get 20"), (MANY, "get all"))
        ]
        beside += [threading.Thread(target=self._jobs, args=(stop,)) for _ in range(jobs)]
        counts, before, begun = self.counts(), self._rpcs(), time.monotonic()
        for thread in beside:
            thread.start()
        made = self.crowd.churn(self.seconds, hands)
        took = time.monotonic() - begun
        stop.set()
        for thread in beside:
            thread.join()
        after, listed = self.counts(), self._rpcs()
        times = self.crowd.times.taken
        waits = self._queued(log)
        figures: Figures = {
            "vms_per_s": made / took,
            "queue_p50_s": percentile(waits, 0.5),
            "driver_requests_per_s": _rate(after, counts, "requests", took),
            "slurm_requests_per_s": (sum(listed.values()) - sum(before.values())) / took,
        }
        for what, label in (
            ("post", "post"),
            ("active", "active"),
            ("get 20", "get_20"),
            ("get all", "get_all"),
        ):
            unit = 1.0 if what == "active" else 1000.0
            name_of = f"{label}_{{}}_{'s' if what == 'active' else 'ms'}"
            for part, word in ((0.5, "p50"), (0.99, "p99")):
                figures[name_of.format(word)] = unit * percentile(times.get(what, []), part)
        active, wait = figures["active_p50_s"], figures["queue_p50_s"]
        figures["active_p50_without_queue_s"] = active - wait
        self._note(name, figures)

    def rest(self) -> Figures:
        """What all of it uses while nothing happens."""
        time.sleep(min(12.0, self.seconds))  # what has just been made is seen to a last time
        bridges = {name: gauges.tree(self.site.pid(name)) for name in BRIDGES}
        baits = [self.site.pid(f"bait-{name}") for name in self.site.size.names]
        pids = [*baits, *(pid for tree in bridges.values() for pid in tree)]
        before = {pid: gauges.use(pid) for pid in pids}
        counts, rpcs, begun = self.counts(), self._rpcs(), time.monotonic()
        time.sleep(self.seconds)
        took, now = time.monotonic() - begun, {pid: gauges.use(pid) for pid in pids}
        after, listed = self.counts(), self._rpcs()
        cpu = {pid: 100 * (now[pid].cpu - before[pid].cpu) / took for pid in pids}
        rounds = max(1.0, after["rounds"] - counts["rounds"])
        nodes = self.site.size.nodes
        # By default the submitting bait is the first; what the others have is what a node has.
        return {
            "bait_mib": percentile([now[pid].rss for pid in baits], 0.5),
            "bait_own_mib": percentile([gauges.own(pid) for pid in baits], 0.5),
            "bait_cpu_percent": percentile([cpu[pid] for pid in baits], 0.5),
            "bridge_mib": sum(now[pid].rss for pid in bridges[BRIDGES[0]]),
            "bridge_cpu_percent": sum(cpu[pid] for pid in bridges[BRIDGES[0]]),
            "driver_round_ms": 1000 * (after["seconds"] - counts["seconds"]) / rounds,
            "driver_round_cpu_ms": 1000 * (after["cpu"] - counts["cpu"]) / rounds,
            "driver_requests_per_s": _rate(after, counts, "requests", took),
            "lrms_queries_per_node_s": (gauges.listings(listed) - gauges.listings(rpcs))
            / (took * nodes),
            "slurm_requests_per_s": (sum(listed.values()) - sum(rpcs.values()) - 1) / took,
            "listing_cpu_ms": 1000 * self._listing(),
        }

    def _listing(self) -> float:
        """CPU seconds of one listing of a node's jobs on the node's side, as baits ask for it."""
        before = os.times()
        argv = ["squeue", "-h", "-a", "-w", self.site.size.names[0], "-o", "%A %t"]
        for _ in range(_LISTINGS):
            run(argv, self.site.env)
        after = os.times()
        used = after.children_user + after.children_system
        return (used - before.children_user - before.children_system) / _LISTINGS

    def end(self) -> None:
        """Have users delete all VMs that they have, and wait until nothing is left of any.

        They have more than they know of, where a bridge died before it answered. Raises SiteError.
        """
        self.crowd.delete(had(self.site))
        until(lambda: not self._vms(), _PATIENCE, "the end of all VMs")

    def counts(self) -> Figures:
        """What the driver that leads has done so far."""
        found: list[Figures] = []
        for bridge in BRIDGES:
            file = Path(self.site.counts(bridge))
            if file.exists():
                found.append(json.loads(file.read_text()))
        none = {"rounds": 0.0, "seconds": 0.0, "cpu": 0.0, "requests": 0.0, "at": 0.0, "pid": 0.0}
        return max(found, key=lambda each: each["at"], default=none)

    def running(self) -> int:
        """How many cloud VMs run, by the ledgers."""
        return ledgers.census(self._vms())["cloud", "ready"]

    def _vms(self) -> list[ledgers.Vm]:
        return ledgers.vms(self.site.layout, self.site.size)

    def _wait(self, kind: str, count: int) -> None:
        what = f"{count} {kind} VMs"
        until(lambda: ledgers.census(self._vms())[kind, "ready"] >= count, _PATIENCE, what)

    def _cpu(self) -> float:
        names = self.site.size.names
        return sum(gauges.use(self.site.pid(f"bait-{name}")).cpu for name in names)

    def _spent(self, before: float) -> float:
        return self._cpu() - before

    def _rpcs(self) -> dict[str, int]:
        return gauges.rpcs(run(["sdiag"], self.site.env))

    def _jobs(self, stop: threading.Event) -> None:
        """One job after the other, each in a VM for a second, until told to stop."""
        while not stop.is_set():
            ledgers.submit(self.site.env, int(time.monotonic()), 1, 1)
            stop.wait(2.0)

    @property
    def _log(self) -> Path:
        """slurmctld's, with times."""
        return self.site.processes.log("slurmctld-times")

    def _log_size(self) -> int:
        return self._log.stat().st_size

    def _queued(self, since: int) -> list[float]:
        """Seconds that each lease that began since then has waited in Slurm's queue."""
        with self._log.open() as log:
            log.seek(since)
            return queue_times(log.read())

    def _note(self, name: str, figures: Figures) -> None:
        self.found.setdefault(name, {}).update(figures)
        words = ", ".join(f"{key} {value:.3g}" for key, value in figures.items())
        self.say(f"{name}: {words}")


def had(site: Site) -> dict[str, str]:
    """The path of each cloud VM, and whose it is, by the bridges' database."""
    rows = site.ask("SELECT id, owner FROM entity WHERE kind = 'compute' AND id IS NOT NULL")
    pairs = (row.split("|") for row in rows)
    return {f"/compute/{name}": owner.rpartition("=")[2] for name, owner in pairs}


def queue_times(log: str) -> list[float]:
    """Seconds from each job's submission to its start, as slurmctld's log has them."""
    submitted = {job: _seconds(at) for at, job in _QUEUED.findall(log)}
    return [_seconds(at) - submitted[job] for at, job in _STARTED.findall(log) if job in submitted]


def _seconds(text: str) -> float:
    hours, minutes, rest = text.partition("T")[2].split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def _rate(after: Figures, before: Figures, key: str, seconds: float) -> float:
    return (after[key] - before[key]) / seconds
