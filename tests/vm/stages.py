"""What is looked at in the VM, where a site runs that was set up before its first boot."""

import json
import re
import statistics
from collections.abc import Callable
from datetime import datetime

from contrib.site.box.layout import Memory
from tests.install.inside import FailedError, Inside
from tests.install.stages import USER
from tests.vm import charging
from tests.vm.switches import SwitchStages

_ENFORCED = ("libvirtd", "virt-aa-helper")  # Debian's own profiles
_IN_VAIN = ('profile="virt-aa-helper"', '/queue/zoned"')  # of what is denied: what harms nobody
_TURNS = 3
_BY_HAND = "/usr/bin/python3 tests/vm/byhand.py"
_MAKES_LIKE_IT = f"{_BY_HAND} start wnodes-mysite-{{}}-0"
_OF_JOBS = "virsh list --name | grep -E --count '^wnodes-mysite-[0-9]+-[0-9]+$' || true"
_FOLDERS = ("/run/wnodes", "/var/lib/wnodes", "/var/cache/wnodes")
# The label of each VM's QEMU, after its name.
_LABELS = """for file in /run/libvirt/qemu/wnodes-*.pid; do
    echo "$(basename "$file" .pid) $(tr -d '\\0' <"/proc/$(cat "$file")/attr/current")"
done"""


class VmStages(SwitchStages):
    """Those of one Debian, in one VM. Which of them it has passed is remembered."""

    def __init__(self, inside: Inside, memory: Memory) -> None:
        super().__init__(inside)
        self._memory = memory
        self._vm = memory.get("cloud VM", "")
        self._job = memory.get("job", "")

    def passed(self) -> list[str]:
        """The names of those that this VM has passed."""
        names: list[str] = self._memory.get("passed") or []
        return names

    def passes(self, name: str) -> None:
        """It has passed one more."""
        self._memory.set("cloud VM", self._vm)
        self._memory.set("job", self._job)
        self._memory.set("passed", [*self.passed(), name])

    def all(self) -> list[tuple[str, Callable[[], None]]]:
        """In order, with their names."""
        return [
            ("package", self.package),
            ("thin pool", self.thin_pool),
            ("ends compared", self.ends),
            ("limit of memory", self.limit),
            ("job and cloud VM, confined", self.confined),
            ("reboot of the whole node", self.reboot),
            ("job, charged", self.charged),
            ("cloud VM, used", self.used),
            ("volumes in LVM", self.volumes),
            ("VLAN and Open vSwitch", self.switches),
            ("AppArmor, whole log", self.nothing_denied),
        ]

    def package(self) -> None:
        """What the package brings for systemd and libvirt is in force after a boot."""
        self._type(self._batch, "doctor")
        units = "wnodes-bait wnodes-bridge"
        self._expect(f"systemctl is-enabled {units}", r"enabled\nenabled\n")
        self._expect(f"systemctl is-active {units}", r"active\nactive\n")
        self._expect(f"stat --format='%U %F' {' '.join(_FOLDERS)}", r"(root directory\n){3}")
        self._expect("getent passwd wnodes wnodes-guestfs | wc --lines", r"2\n")
        profiles = self._told("cat /sys/kernel/security/apparmor/profiles")
        for name in _ENFORCED:
            if f"{name} (enforce)" not in profiles.splitlines():
                raise FailedError(f"AppArmor does not enforce {name}:\n{profiles}")
        # Until it is needed: there is little CPU, which is for what is looked at.
        self._told("systemctl stop wnodes-bridge")

    def confined(self) -> None:
        """The VMs of a job and of a cloud user run under profiles of their own. That takes no guest
        that has booted, which takes long here: they boot after the reboot, both at once, as there
        are two CPUs."""
        self._told("systemctl start wnodes-bridge")
        self.inside.until("the bridge answers", self._answers)
        self._begin()
        self._create()
        self.inside.until("two VMs run", lambda: self._vms() == 2)
        self._confined(2)
        self._stands_still(self._job)
        self.nothing_denied()

    def reboot(self) -> None:
        """The cloud VM keeps its disk, and nothing is left of the job's first VM. What becomes of
        the job is Slurm's affair: where systemd ends its script before slurmd, it has FAILED.
        """
        before = set(self._told("virsh list --uuid").split())
        self.inside.machine.reboot()
        self.inside.until("doctor finds no fault", lambda: self._succeeds("wnodes doctor"))
        self._until_down()
        self._type_occi("start")
        self._until_job(self._job, "RUNNING", "FAILED")
        if self._restarts() == 0:
            self._begin()
        self.inside.until("two VMs run", lambda: self._vms() == 2)
        self._confined(2)
        self.inside.until("one of two disks is left", lambda: len(self._left(before)) == 1)
        if self._vm.rpartition("/")[2] not in self._left(before):
            raise FailedError(f"of the VMs {before} the job's is left")

    def _begin(self) -> None:
        """The job that all stages look at that need one."""
        script = f"echo shared >from-the-vm; {charging.JOB}"
        self._job = self._submit(script, f"--mem={charging.LIMIT}")
        self._until_job(self._job, "RUNNING")

    def _left(self, vms: set[str]) -> set[str]:
        """Those of these VMs that have a folder."""
        folders = self._told("find /run/wnodes /var/lib/wnodes -type d")
        return {vm for vm in vms if vm in folders}

    def _restarts(self) -> int:
        """How often the job was requeued."""
        found = re.search(r"Restarts=(\d+)", self._told(f"scontrol show job {self._job}"))
        return int(found[1]) if found else 0

    def charged(self) -> None:
        """The job writes into a folder that it shares, and is metered and limited by Slurm as a job
        is, until its VM has ended."""
        job, restart = self._job, self._restarts()
        watch = charging.WATCH.format(job=job, restart=restart)
        group, limit, used = self._told(watch).split("\n")[:3]
        if not re.search(rf"/job_{job}/step_extern/user/task_0/wnodes$", group):
            raise FailedError(f"QEMU is in {group}")
        if int(limit) != charging.LIMIT << 20:
            raise FailedError(f"the job may use {limit} bytes")
        self._until_job(job, "COMPLETED")
        self._expect(f"cat /home/{USER}/from-the-vm", r"shared\n")
        self._gone()
        self._charged(job, int(used) / 100)
        groups = f"find /sys/fs/cgroup/system.slice -name job_{job}"
        self.inside.until("the job's groups are gone", lambda: not self._told(groups))

    def used(self) -> None:
        """The user logs in to the cloud VM, which stays for the next stages."""
        self._used()
        self.nothing_denied()

    def _stands_still(self, job: str) -> None:
        """A VM that boots stands still while its job is suspended, beside what Slurm has frozen, so
        that libvirt can pause it; then it boots on, charged to the job as before."""
        self._told(f"scontrol suspend {job}")
        self._until_it_is(job, "paused", "/step_extern/wnodes")
        self._expect(charging.FROZEN.format(job=job), "1\n")
        self._told(f"scontrol resume {job}")
        self._until_it_is(job, "running", "/step_extern/user/task_0/wnodes")

    def _until_it_is(self, job: str, state: str, group: str) -> None:
        """Until the job's VM is in a state, and its QEMU in a control group."""

        def so() -> bool:
            said = self._told(charging.WHERE.format(job=job)).split("\n")
            return said[0] == state and any(each.endswith(f"/job_{job}{group}") for each in said)

        self.inside.until(f"the VM of job {job} is {state}, in {group}", so)

    def _answers(self) -> bool:
        """Whether the bridge does."""
        try:
            return self._type_occi("look") != ""
        except FailedError:
            return False

    def limit(self) -> None:
        """A VM that its job's memory does not hold any more is ended by the kernel, as the job's,
        before it has booted, and this run of the job with it.

        How it ends varies: guest memory that a share's server still holds may make the kernel end
        the script as well, which is OUT_OF_MEMORY for Slurm; else the VM has failed.
        """
        job = self._submit("sleep 100000", f"--mem={charging.LIMIT}")
        self._until_event(job, "booting")
        self.inside.until("it is charged", lambda: "process" in self._charges(job))
        self._told(charging.SQUEEZE.format(job=job))
        ended = charging.ENDED.format(job=job)
        self.inside.until("the kernel has ended the VM", lambda: self._told(ended) != "")
        runs = f"squeue --noheader --states=RUNNING --jobs={job} || true"
        self.inside.until("its run is over", lambda: not self._told(runs).strip())
        self._told(f"scancel {job}")
        self._gone()

    def _charges(self, job: str) -> str:
        """What happened to a job that begins with how it is charged."""
        return " ".join(what for what in self._events(job) if "charged" in what)

    def _charged(self, job: str, used: float) -> None:
        """Slurm's record has the CPU time (seconds) of its QEMU, and its memory."""
        self.inside.until("the record is complete", lambda: self._record(job) is not None)
        found = (self._record(job) or {})["extern"]
        print(f"(QEMU {used:.0f} s; sacct {found.cpu:.0f} s, {found.memory:.0f} MiB)", end=" ")
        if not 0.7 * used < found.cpu < 1.1 * used or found.memory < charging.TOUCHES:
            raise FailedError(f"of QEMU's {used} s Slurm has {found}")

    def _record(self, job: str) -> dict[str, charging.Use] | None:
        return charging.record(self._told(charging.RECORD.format(job=job)))

    def nothing_denied(self) -> None:
        """AppArmor has kept nothing from what we start, but what docs/packages.md says."""
        said = self._told("dmesg | grep 'apparmor=\"DENIED\"' || true")
        denied = [line for line in said.splitlines() if not any(word in line for word in _IN_VAIN)]
        if denied:
            raise FailedError("AppArmor denied:\n" + "\n".join(denied))

    def ends(self) -> None:
        """A job's VM and the same domain made by hand, both just started, are ended in turns; the
        ratio of the medians is only said."""
        ours, theirs = [], []
        for turn in range(_TURNS):
            job = self._submit("sleep 100000")
            self._until_event(job, "booting")
            self._told(_MAKES_LIKE_IT.format(job))
            if turn % 2:
                theirs.append(float(self._told(f"{_BY_HAND} end")))
            self._told(f"scancel {job}")
            self._until_event(job, "gone")
            if not turn % 2:
                theirs.append(float(self._told(f"{_BY_HAND} end")))
            at = self._events(job)
            ours.append((at["gone"] - at["ending"]).total_seconds())
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"(ours {_words(ours)}, virsh destroy {_words(theirs)}, ratio {ratio:.2f})", end=" ")

    def _events(self, job: str) -> dict[str, datetime]:
        """When what happened to a job, the last of each."""
        return {
            event["what"].split(":")[0].split(" from ")[0]: datetime.fromisoformat(event["at"])
            for event in json.loads(self._told(f"wnodes job show {job} --json"))
        }

    def _until_event(self, job: str, what: str) -> None:
        def so() -> bool:
            try:
                return what in self._events(job)
            except FailedError:  # the bait has not heard of the job yet
                return False

        self.inside.until(f"job {job}: {what}", so)

    def _confined(self, vms: int) -> None:
        """Each VM's QEMU is under the profile that libvirt has made for it alone."""
        labels = self._told(_LABELS)
        if len(re.findall(r"^\S+ libvirt-[0-9a-f-]{36} \(enforce\)$", labels, re.M)) != vms:
            raise FailedError(f"the VMs' labels are:\n{labels}")

    def _gone(self) -> None:
        self.inside.until("no job's VM is left", lambda: int(self._told(_OF_JOBS)) == 0)

    def _expect(self, script: str, pattern: str) -> None:
        said = self._told(script)
        if not re.fullmatch(pattern, said):
            raise FailedError(f"«{script}» says:\n{said}")


def _words(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s of {len(seconds)}"
