"""A site for the VM: set up in the container by the documentation's commands, then made a disk."""

from pathlib import Path

from contrib.site.booted.machine import Machine
from contrib.site.vm import disk
from tests.install.__main__ import start
from tests.install.inside import Inside
from tests.install.stages import Stages
from tests.vm import switches, volumes

SHARED = "/home"
# Slurm as a site has it whose kernel has control groups of version 2, as the container's has not.
_GROUPS = r"""
sed -i -e '/^ProctrackType=/d' -e '/^TaskPlugin=/d' -e '/^JobAcctGatherType=/d' \
    -e 's/^NodeName=hv1 CPUs=4 RealMemory=4096/NodeName=hv1 CPUs=2 RealMemory=3072/' \
    /etc/slurm/slurm.conf
cat >>/etc/slurm/slurm.conf <<'END'
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
JobAcctGatherFrequency=10
PrologFlags=Contain
MessageTimeout=100
MinJobAge=86400
END
cat >/etc/slurm/cgroup.conf <<'END'
CgroupPlugin=cgroup/v2
ConstrainCores=yes
ConstrainRAMSpace=yes
END
"""
# For VMs that are emulated twice; why, see contrib/site/vm/guest.py. Besides, the CPU that QEMU
# emulates for them clears and copies pages byte by byte, if the kernel believes that it is good at
# that, and pays for each change of who may touch users' pages.
_INNER = "mitigations=off tsc=reliable clearcpuid=erms,fsrm,smap"
_OURS = f"""
cat >>/etc/wnodes/wnodes.toml <<'END'

[machine]
charge = "cgroup"
ready_timeout = 5400

[share]
directories = ["{SHARED}"]
END
wnodes config check
sed -i '/^cmdline = /s/"$/ {_INNER}"/' /etc/wnodes/images/small_debian_x86_64.toml
grep -- '{_INNER}' /etc/wnodes/images/small_debian_x86_64.toml
"""


def make(machine: Machine, suite: str, folder: Path) -> None:
    """The disk, with kernel and key, in the folder. Raises FailedError, SiteError."""
    inside = Inside(machine)
    start(machine, suite)
    stages = Stages(inside)
    stages.site()
    stages.install()
    stages.cloud()
    volumes.needs(inside)
    switches.needs(inside)
    inside.put(disk.files(folder))
    for script in (disk.PREPARE, _GROUPS, _OURS):
        inside.shell(script)
    machine.off()
    disk.pack(machine, folder)
    machine.clear()
