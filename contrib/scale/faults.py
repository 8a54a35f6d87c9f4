"""What is done to a site, and what must come of it: nothing lost, nothing twice."""

import os
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from contrib.scale import batch, gauges
from contrib.scale.gauges import percentile
from contrib.scale.plan import BRIDGES
from contrib.scale.site import Site, until
from contrib.scale.stages import Figures, Stages
from contrib.site.box.process import run, wait_until

_RECOVERY = 900.0  # seconds
_LEASE = re.compile(r"^wnodes-lease-(\S+)$", re.MULTILINE)


@dataclass
class Faults:
    """On a site with VMs, which goes on working."""

    site: Site
    stages: Stages
    hands: int  # users who make VMs at a time
    away: float  # seconds that PostgreSQL is away
    hung_for: float  # seconds that baits have hung before VMs are made beside them
    found: Figures = field(default_factory=dict)
    excused: set[str] = field(default_factory=set)  # VMs whose node has died

    def all(self) -> None:
        """One after the other."""
        for fault in (self.bridge, self.database, self.controller, self.hung, self.node):
            begun = time.monotonic()
            fault()
            self._all_run()
            said = f"{fault.__name__}: over after {time.monotonic() - begun:.0f} s"
            self.stages.say(said)

    def bridge(self) -> None:
        """The bridge whose driver leads is killed, all of it at once."""
        until(lambda: self._leader() is not None, _RECOVERY, "a driver leads")
        leader = self._leader() or BRIDGES[0]
        other = next(name for name in BRIDGES if name != leader)
        before = time.time()
        for pid in gauges.tree(self.site.pid(leader)):
            os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        until(lambda: self._leads(other, before), _RECOVERY, f"{other} leads")
        self.found["failover_s"] = time.monotonic() - begun
        self._churns()
        self.site.start(self.site.bridge(leader))

    def database(self) -> None:
        """PostgreSQL is stopped, as for a restart of its host, and comes back."""
        self.site.processes.stop("postgres")
        time.sleep(self.away)
        self.site.start(self.site.postgres())
        begun = time.monotonic()
        self._churns()
        self.found["database_back_s"] = time.monotonic() - begun

    def controller(self) -> None:
        """slurmctld is restarted."""
        self.site.processes.stop("slurmctld")
        self.site.start(self.site.controller())
        self._churns()

    def hung(self) -> None:
        """A fifth of the baits hang; their nodes are drained, so that Slurm sends nothing there."""
        names = self.site.size.names[1::5][: max(1, self.site.size.nodes // 5)]
        calm = self._churns()
        change = f"NodeName={','.join(names)}"
        run(["scontrol", "update", change, "State=DRAIN", "Reason=hung"], self.site.env)
        for name in names:
            self.site.signal(f"bait-{name}", signal.SIGSTOP)
        time.sleep(self.hung_for)
        hurt = self._churns()
        for name in names:
            self.site.signal(f"bait-{name}", signal.SIGCONT)
        run(["scontrol", "update", change, "State=RESUME"], self.site.env)
        self.found["hung_ratio"] = percentile(hurt, 0.99) / percentile(calm, 0.99)

    def node(self) -> None:
        """A node dies with all that is on it, and comes back empty."""
        name = self.site.size.names[-1]
        self.excused |= {vm.id for vm in self._vms() if vm.node == name}
        for pid in list(self.site.node_pids(name)):
            os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        until(lambda: self._silent(name), _RECOVERY, "the bridge notices a dead node")
        self.found["dead_node_known_s"] = time.monotonic() - begun
        # Slurm would wait for SlurmdTimeout.
        change = [f"NodeName={name}", "State=DOWN", "Reason=dead"]
        run(["scontrol", "update", *change], self.site.env)
        self._churns()
        for part in (self.site.bait(name), self.site.slurmd(name)):
            self.site.start(part)

    def verdict(self) -> Figures:
        """How many VMs were lost, of those that users know they have and whose node lives; and how
        many there are twice, or that nobody has; and how many were asked for, and never ran.

        What is on its way is waited for: only what stays so counts."""

        def clean() -> bool:
            counted = self._count()
            return not (counted["lost"] or counted["doubled"])

        wait_until(clean, _RECOVERY, pause=2.0)
        return self._count()

    def _count(self) -> Figures:
        states = self.stages.crowd.states()
        stopped = [path for path, state in states.items() if state != "active"]
        lost = [path for path in stopped if path.rpartition("/")[2] not in self.excused]
        lives = Counter(vm.id for vm in self._vms() if (vm.kind, vm.state) == ("cloud", "ready"))
        names = run(["squeue", "--noheader", "--states=R", "--format=%j"], self.site.env)
        leases = Counter(_LEASE.findall(names))
        doubled = sum(count - 1 for counted in (lives, leases) for count in counted.values())
        nobodys = lives.keys() - set(self.site.ask("SELECT uid FROM compute"))
        stuck = len(self.stages.crowd.late)
        return {"lost": len(lost), "doubled": doubled + len(nobodys), "stuck": stuck}

    def _churns(self) -> list[float]:
        """VMs come and go as ever; the times until they ran."""
        crowd = self.stages.crowd
        crowd.times.taken.pop("active", None)
        crowd.churn(self.stages.seconds, self.hands)
        return crowd.times.taken.get("active", [])

    def _all_run(self) -> None:
        wanted = len(self.stages.crowd.kept) - len(self.excused)
        until(lambda: self.stages.running() >= wanted, _RECOVERY, f"{wanted} VMs run again")

    def _leader(self) -> str | None:
        return next((name for name in BRIDGES if self._leads(name, time.time() - 5)), None)

    def _leads(self, bridge: str, since: float) -> bool:
        counts = self.stages.counts()
        return counts["at"] > since and counts["pid"] in gauges.tree(self.site.pid(bridge))

    def _silent(self, name: str) -> bool:
        return bool(self.site.ask(f"SELECT 1 FROM bait WHERE silent AND node = '{name}'"))  # noqa: S608

    def _vms(self) -> list[batch.Vm]:
        return batch.vms(self.site.layout, self.site.size)
