"""Jobs and leases that the batch system suspends, when something else happens to them, too."""

import time

from tests.chaos.site import Box
from tests.e2e.batch.test_suspension import counting, ends, stands_still
from tests.e2e.box import call, machines
from tests.e2e.lrms.slurm import Submit, the_lease
from tests.e2e.occi import Cloud, Key


def test_a_bait_that_was_down_catches_up(submit: Submit, daemons: Box) -> None:
    job = counting(submit)
    with daemons.down("bait-hv1"):
        job.do("suspend")
    stands_still(job)
    with daemons.down("bait-hv1"):
        pass
    time.sleep(3)  # a round of the new bait
    stands_still(job)
    with daemons.down("bait-hv1"):
        job.do("resume")
    ends(job)


def test_a_job_that_is_cancelled_while_it_is_suspended(submit: Submit) -> None:
    job = counting(submit)
    job.do("suspend")
    stands_still(job)
    job.cancel()
    assert job.wait(seconds=60).state == "CANCELLED"


def test_a_suspended_leases_vm_stands_still(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    boot = machine.ssh("cat /proc/sys/kernel/random/boot_id")
    lease = the_lease()
    call("scontrol", "suspend", lease.number)
    machine.wait("suspended")
    assert call("virsh", "domstate", machine.id).strip() == "paused"
    assert [each["state"] for each in machines()] == ["paused"]
    call("scontrol", "resume", lease.number)
    machine.wait("active")
    assert machine.ssh("cat /proc/sys/kernel/random/boot_id") == boot
