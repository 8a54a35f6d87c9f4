"""What Slurm's record has of a job, beside what the kernel says that the job's QEMU used."""

from dataclasses import dataclass

SPINS = 30  # seconds, as the guest counts them
TOUCHES = 150  # MiB
LIMIT = 600  # MiB that the job asks for
JOB = (
    f"dd if=/dev/zero of=/dev/null bs={TOUCHES}M count=1 2>&1;"
    f" end=$(($(date +%s) + {SPINS})); while [ $(date +%s) -lt $end ]; do :; done"
)
# Until QEMU has ended: its control group, what that may use, and QEMU's CPU time in hundredths of a
# second when last seen.
WATCH = """file=/run/libvirt/qemu/wnodes-mysite-{job}-{restart}.pid
until [ -s $file ]; do sleep 1; done
pid=$(cat $file)
until grep job_{job} /proc/$pid/cgroup; do sleep 1; done
cat /sys/fs/cgroup/system.slice/*slurmstepd.scope/job_{job}/memory.max
while stat=($(cat "/proc/$pid/stat" 2>/dev/null)); do used=$((stat[13] + stat[14])); sleep 1; done
echo $used
"""
# The state of its VM, and the control group of that one's QEMU.
WHERE = """virsh domstate wnodes-mysite-{job}-0
cat /proc/$(cat /run/libvirt/qemu/wnodes-mysite-{job}-0.pid)/cgroup
"""
# Whether anything of the job is frozen, as a line.
FROZEN = (
    "cat /sys/fs/cgroup/system.slice/*slurmstepd.scope/job_{job}/step_*/user/cgroup.freeze"
    " | sort --unique | tail --lines=1"
)
# Half of what the job has in memory is all that it may have from now on.
SQUEEZE = """cd /sys/fs/cgroup/system.slice/*slurmstepd.scope/job_{job}
echo $(($(cat memory.current) / 2)) >memory.max
"""
# The kernel's word on whom it has ended for that, and in whose group: QEMU's own has no controller.
ENDED = (
    "dmesg | grep -E 'oom_memcg=[^,]*/job_{job},.*/step_extern/user/task_0,task=qemu-system'"
    " || true"
)
RECORD = "sacct --noheader --parsable2 --jobs={job} --format=JobID,End,TotalCPU,MaxRSS"
_UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0}


@dataclass(frozen=True)
class Use:
    """CPU time in seconds, memory at its most in MiB."""

    cpu: float
    memory: float


def record(said: str) -> dict[str, Use] | None:
    """What Slurm has of each step, by its name («extern»); None while one has not ended. Pure.

    `said`: what RECORD prints.
    """
    rows = [line.split("|") for line in said.splitlines()]
    if not rows or any(end in ("", "Unknown") for _job, end, _cpu, _memory in rows):
        return None
    return {
        name.partition(".")[2]: Use(_seconds(cpu), _mebibytes(memory))
        for name, _end, cpu, memory in rows
    }


def _seconds(clock: str) -> float:
    days, _, rest = clock.rpartition("-")
    parts = enumerate(reversed(rest.split(":")))
    return float(days or 0) * 86400 + sum(float(part) * 60.0**place for place, part in parts)


def _mebibytes(size: str) -> float:
    return float(size[:-1]) * _UNITS[size[-1]] if size.strip("0") else 0.0
