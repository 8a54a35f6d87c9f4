"""A job that the batch system suspends: its VM stands still, and goes on when the job does."""

import time

from tests.e2e.box import call, wait_until
from tests.e2e.lrms.interface import Job, Submit
from tests.e2e.lrms.systems import LRMS

# Counts, and tells the time, for as long as the file is not there that ends it.
COUNTS = f"""
n=0
until [ -e end-${LRMS.variable} ]; do n=$((n+1)); echo $n $(date +%s); sleep 0.2; done
"""


def counting(submit: Submit) -> Job:
    job = submit(COUNTS, node="hv1")
    wait_until(lambda: job.output.count("\n") > 2, 90, "its script runs")
    return job


def domain_state(job: Job) -> str:
    """What libvirt says of its VM."""
    return call("virsh", "domstate", str(job.machines()[0]["id"])).strip()


def stands_still(job: Job) -> None:
    """Its VM does, and nothing that it had said before is still on its way."""
    wait_until(lambda: domain_state(job) == "paused", 30, f"paused: {job.machines()}")
    assert [machine["state"] for machine in job.machines()] == ["paused"]
    assert "suspended" in call("wnodes", "why", job.number)


def clock(job: Job) -> int:
    """The time that its script has told last, by the VM's clock."""
    return int(job.output.splitlines()[-2].split()[1])  # the last line may not be whole


def ends(job: Job) -> None:
    """Let its script end: it has counted on as if nothing had been."""
    (job.folder / f"end-{job.number}").touch()
    assert job.wait().end == "exit 0", job.error
    count = [int(line.split()[0]) for line in job.output.splitlines()]
    assert count == list(range(1, len(count) + 1))


def test_a_suspended_jobs_vm_stands_still_and_goes_on(submit: Submit) -> None:
    job = counting(submit)
    job.do("suspend")
    stands_still(job)
    boot, before = job.machines()[0]["id"], job.output
    time.sleep(12)  # enough to be seen in the VM's clock
    assert job.output == before
    job.do("resume")
    wait_until(lambda: job.output != before, 30, "it counts on")
    assert [machine["id"] for machine in job.machines()] == [boot]
    wait_until(lambda: abs(clock(job) - time.time()) < 6, 60, "the VM's clock is right")
    ends(job)


def test_a_job_that_is_suspended_before_its_vm_is_ready_runs_once_it_goes_on(
    submit: Submit,
) -> None:
    job = submit("echo done", node="hv1")
    wait_until(lambda: bool(job.machines()), 60, "its VM is begun")
    job.do("suspend")
    # Every domain is paused before its first step: that this one stays so, its bait says.
    wait_until(lambda: "suspended" in str(job.machines()[0]["reason"]), 90, "it stands still")
    assert domain_state(job) == "paused"
    assert job.machines()[0]["address"]
    assert job.machines()[0]["state"] in ("booting", "paused")  # it may have been ready before
    assert "suspended" in call("wnodes", "why", job.number)
    job.do("resume")
    assert job.wait().end == "exit 0", job.error
    assert "done" in job.output
