"""A guest whose kernel has panicked: its job hears of it, and a cloud user sees it."""

from contextlib import nullcontext

from tests.chaos.site import Box
from tests.e2e.box import GOOD, call, variant, wait_until
from tests.e2e.lrms.slurm import Job, Submit
from tests.e2e.occi import Cloud, Key, Machine

PANICKED = "the guest's kernel has panicked"
# Its kernel has the driver by now: the small image loads it when all else is done.
CAN_TELL = "until [ -d /sys/module/pvpanic_mmio ]; do sleep 0.1; done"


def dies(job: Job, daemons: Box, *, alone: bool) -> None:
    """Its guest panics, and its job is requeued; `alone`: while the bait is away."""
    restarts = int(job.field("Restarts")) + 1
    up = f"up {restarts - 1}"
    wait_until(lambda: up in job.output, 90, f"its script runs: {job.error}")
    machine = str(job.machines()[0]["id"])
    with daemons.down("bait-hv1") if alone else nullcontext():
        call("virsh", "inject-nmi", machine)
        if alone:
            dead = "crashed"
            wait_until(lambda: dead in call("virsh", "domstate", machine), 20, dead)
    wait_until(lambda: job.field("Restarts") == str(restarts), 60, f"requeued: {job.show()}")
    assert call("wnodes", "job", "show", job.number, "--json").count(PANICKED) >= restarts


def test_a_job_whose_guest_has_panicked_is_requeued(submit: Submit, daemons: Box) -> None:
    with variant("frail_debian_x86_64", cmdline=f"{GOOD.cmdline} unknown_nmi_panic") as tag:
        job = submit(
            f"{CAN_TELL}; echo up ${{SLURM_RESTART_COUNT:-0}}; sleep 600",
            "--nodelist=hv1",
            image=tag,
        )
        dies(job, daemons, alone=False)
        dies(job, daemons, alone=True)
        job.cancel()


def panics(machine: Machine) -> None:
    """Have it, and see it shown."""
    machine.ssh(CAN_TELL)
    machine.ssh("(sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &")
    machine.wait("error", saying=PANICKED)


def test_a_cloud_vm_that_has_panicked_is_shown_so_and_can_be_restarted(
    alice: Cloud, key: Key
) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("touch /kept; sync")
    for method in ("warm", "graceful", "cold"):
        boot = machine.ssh("cat /proc/sys/kernel/random/boot_id")
        panics(machine)
        actions = alice.get(machine.path)["actions"]
        assert {action.rpartition("#")[2] for action in actions} == {"start", "stop", "restart"}
        machine.act("restart", method=method)
        machine.wait("active")
        assert machine.ssh("cat /proc/sys/kernel/random/boot_id; ls /kept") != f"{boot}/kept\n"
    panics(machine)
    machine.act("stop", method="graceful")
    machine.wait("inactive")
