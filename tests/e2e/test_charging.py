"""A batch machine's CPU time and memory are its job's in Slurm's accounting; a lease's are not.

Where this machine has no cgroup v1, the site in a box runs without, and the same jobs have only
what the starter used.
"""

import re
import subprocess
from pathlib import Path

from tests.e2e.box import USER, call, machines, variant, wait_until
from tests.e2e.lrms.slurm import Submit, the_lease
from tests.e2e.occi import Cloud, Key

# As docs/accounting.md has it, but for the times.
WITHOUT_LEASES = """
sacct --allusers --parsable2 --noheader --format=AdminComment,JobID,TotalCPU |
  awk -F'|' '$1 ~ /wnodes_lease=/ {lease[$2]} {split($2, id, "."); if (!(id[1] in lease)) print}'
"""
METERED = "jobacct_gather/cgroup" in call("scontrol", "show", "config")
SPIN = "end=$((SECONDS + {0})); while [ $SECONDS -lt $end ]; do :; done"
_UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0}


def records(job: str, column: str) -> list[str]:
    """What sacct has in this column for the job, and then for each of its steps."""
    return call("sacct", "--noheader", "--parsable2", f"--jobs={job}", f"-o{column}").splitlines()


def cpu_seconds(job: str) -> float:
    """What Slurm says that a job and all its steps used."""
    days, _, clock = records(job, "TotalCPU")[0].rpartition("-")
    seconds = float(days or 0) * 86400
    for number, part in enumerate(reversed(clock.split(":"))):
        seconds += float(part) * 60**number
    return seconds


def most_memory(job: str) -> float:
    """MaxRSS of the largest of its steps, in MiB."""
    said = [text for text in records(job, "MaxRSS") if text.strip("0")]
    return max(float(text[:-1]) * _UNITS[text[-1]] for text in said)


def wait_for_record(job: str) -> None:
    """Until the database has the job and all its steps as ended."""

    def ended() -> bool:
        ends = records(job, "End")
        return bool(ends) and not {"", "Unknown"} & set(ends)

    wait_until(ended, 30, f"the record of job {job}")


def folders(job: str) -> list[Path]:
    """The control groups that there are of a job."""
    return list(Path("/sys/fs/cgroup").glob(f"*/slurm_hv*/uid_*/job_{job}"))


def cpu_of_machine(machine: str) -> float | None:
    """The seconds that libvirt says its QEMU used; None if it runs no more."""
    done = subprocess.run(
        ["virsh", "domstats", "--cpu-total", machine], capture_output=True, text=True, check=False
    )
    found = re.search(r"cpu\.time=(\d+)", done.stdout)
    return int(found[1]) / 1e9 if found else None


def test_what_the_guest_uses_is_charged_to_the_job(submit: Submit) -> None:
    # Without shared folders the guest's memory is QEMU's own, which is what MaxRSS counts.
    with variant("untrusted_debian_x86_64", trusted=False) as tag:
        job = submit(
            f"dd if=/dev/zero of=/dev/null bs=150M count=1 2>/dev/null; {SPIN.format(8)}",
            "--mem=512",
            image=tag,
        )
        machine = str(job.in_state("ready")["id"])
        used = 0.0
        while (now := cpu_of_machine(machine)) is not None:
            used = max(used, now)  # it falls when QEMU's threads are gone already
        assert job.wait().state == "COMPLETED", job.error
    wait_for_record(job.number)
    assert used > 5
    if METERED:
        assert 0.6 < cpu_seconds(job.number) / used < 1.5
        assert most_memory(job.number) > 150
        assert "is charged to the job" in call("wnodes", "job", "show", job.number)
    else:
        assert cpu_seconds(job.number) < 2
    assert not folders(job.number)


def test_a_charged_job_hears_of_its_end_first_and_leaves_no_folder(submit: Submit) -> None:
    job = submit(f"trap 'echo got TERM; exit 0' TERM; echo up; {SPIN.format(600)}")
    wait_until(lambda: "up" in job.output, 90, "its script runs")
    assert bool(folders(job.number)) == METERED
    job.cancel()
    assert job.wait(seconds=40).state == "CANCELLED"
    assert "got TERM" in job.output
    wait_until(lambda: not job.machines(), 30, "its VM is gone")
    assert not folders(job.number)


def test_a_lease_is_charged_wallclock_only_and_can_be_left_out(
    alice: Cloud, key: Key, submit: Submit
) -> None:
    machine = alice.machine(key=key).wait("active", seconds=90)
    lease = the_lease()
    (found,) = machines()

    def has_used_cpu() -> bool:
        machine.ssh("timeout 8 sh -c 'while :; do :; done'; test $? -ge 124")
        return (cpu_of_machine(str(found["id"])) or 0) > 5

    wait_until(has_used_cpu, 60, "the VM has used 5 s of CPU")
    machine.delete()
    lease.wait()
    job = submit("true", image=None).wait()
    for number in (lease.number, job.number):
        wait_for_record(number)
    assert cpu_seconds(lease.number) < 2
    mark = "wnodes_lease=" + lease.field("JobName").removeprefix("wnodes-lease-")
    assert records(lease.number, "AdminComment")[0] == mark
    assert records(job.number, "AdminComment")[0] == ""

    def kept() -> set[str]:  # the records of the last second come a second late
        return {line.split("|")[1] for line in call("sh", "-c", WITHOUT_LEASES).splitlines()}

    wait_until(lambda: {job.number, f"{job.number}.batch"} <= kept(), 10, "the job in the list")
    assert not {lease.number, f"{lease.number}.batch"} & kept()


def test_users_can_not_write_the_mark(submit: Submit) -> None:
    job = submit("sleep 600", image=None).wait("RUNNING")
    forged = ["scontrol", "update", f"JobId={job.number}", "AdminComment=wnodes_lease=1"]
    done = subprocess.run(
        ["runuser", "-u", USER, "--", *forged], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "AdminComment" not in job.show()
