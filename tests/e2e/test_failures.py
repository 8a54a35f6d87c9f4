"""More ways in which no machine can be had, or one is lost, in any batch system: see batch/."""

from tests.chaos.site import Box
from tests.e2e.batch.test_failures import held, the_nodes_take_other_jobs
from tests.e2e.box import call, variant, wait_until
from tests.e2e.lrms.slurm import Submit
from wnodes_lrms.images import source
from wnodes_lrms.images.catalogue import Part


def test_a_source_that_cannot_be_reached(submit: Submit) -> None:
    gone = Part(source="http://127.0.0.1:9/gone.qcow2", sha256="1" * 64)
    with variant("gone_debian_x86_64", disk=gone) as tag:
        job = submit("true", image=tag)
        held(job, "http://127.0.0.1:9/gone.qcow2", tries=3)
        job.cancel()


def test_a_guest_that_stops_while_booting(submit: Submit, daemons: Box) -> None:
    empty = daemons.site.root / "images" / "empty.raw"
    empty.write_bytes(bytes(1 << 20))
    disk = Part(source=str(empty), sha256=source.sha256(str(empty)))
    with variant("broken_debian_x86_64", disk=disk, format="raw") as tag:
        job = submit("true", image=tag)
        held(job, "stopped while booting", "root disk", tries=3)
        job.cancel()


def test_a_guest_that_never_answers(submit: Submit) -> None:
    silent = "console=ttyS0 rdinit=/bin/sh"  # a shell that waits for its console, and no more
    with variant("mute_debian_x86_64", cmdline=silent) as tag:
        job = submit("true", "--no-requeue", image=tag).wait()
    assert (job.state, job.exit_code) == ("FAILED", "1:0")
    assert "did not answer" in job.error


def test_a_full_disk(submit: Submit, daemons: Box) -> None:
    inside = ["nsenter", "--mount", "--target", str(daemons.pid("bait-hv1"))]  # its own mounts
    folder = daemons.site.root / "spool" / "hv1" / "machines"
    folder.mkdir(exist_ok=True)
    call(*inside, "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder))
    try:
        job = submit("true", "--nodelist=hv1")
        held(job, "space", tries=3)
        job.cancel()
        wait_until(lambda: not job.machines(), 30, "released")
    finally:
        call(*inside, "umount", str(folder))


def test_a_job_that_must_not_be_requeued_fails(submit: Submit) -> None:
    job = submit("true", "--mem=150", "--no-requeue").wait()
    assert (job.state, job.exit_code) == ("FAILED", "1:0")
    why, what, *_ = job.error.splitlines()
    assert "150 MiB" in why
    assert what.startswith(f"wnodes: job {job.number}: not tried again: it may not run again (--no")
    assert "requeued" not in job.error


def test_libvirt_down(submit: Submit, daemons: Box) -> None:
    with daemons.down("libvirtd"):
        job = submit("echo ran")
        wait_until(lambda: "libvirt" in job.error, 60, "the user reads of libvirt")
        the_nodes_take_other_jobs(submit)
    assert job.wait(seconds=180).output == "ran\n"


def test_a_machine_that_was_booting_when_the_bait_died_is_used(
    submit: Submit, daemons: Box
) -> None:
    job = submit("sleep 4; echo ran", "--nodelist=hv1")
    machine = job.in_state("booting")
    with daemons.down("bait-hv1"):
        pass
    assert job.machines()[0]["id"] == machine["id"]
    assert job.wait().output == "ran\n"


def test_a_job_that_ends_while_the_bait_is_down_leaves_nothing(
    submit: Submit, daemons: Box
) -> None:
    job = submit("sleep 600", "--nodelist=hv1")
    job.in_state("ready")
    with daemons.down("bait-hv1"):
        job.cancel()
        job.wait("CANCELLED")
        assert submit("true", "--nodelist=hv1", image=None).wait().state == "COMPLETED"
    wait_until(lambda: not job.machines(), 120, "the new bait ends it")


def test_the_bait_hangs(submit: Submit, daemons: Box) -> None:
    with daemons.frozen("bait-hv1"):
        job = submit("echo ran", "--nodelist=hv1")
        wait_until(lambda: "hangs" in job.error, 90, "the user reads that the bait hangs")
    assert job.wait(seconds=180).output == "ran\n"


def test_an_administrator_ends_a_machine(submit: Submit) -> None:
    job = submit("echo up; sleep 600").says("up")
    call("wnodes", "vm", "destroy", str(job.machines()[0]["id"]))
    held(job, "administrator")
    job.cancel()
