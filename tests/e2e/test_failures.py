"""When no machine can be had: the user reads why, the job is requeued and then held, and the node
stays up and takes other jobs."""

import subprocess

import pytest

from tests.e2e.conftest import (
    CATALOGUE,
    GOOD,
    IMAGE,
    Daemons,
    Job,
    Submit,
    call,
    refused,
    variant,
    wait_until,
)
from wnodes_lrms.images import catalogue, source
from wnodes_lrms.images.catalogue import Image, Part


def held(job: Job, *words: str, restarts: int = 3) -> None:
    """The job was tried so often, then held; its user and its comment have the reason."""
    reason = "job_requeued_in_held_state"
    wait_until(lambda: job.field("Reason") == reason, 180, f"held: {job.show()}{job.error}")
    assert job.field("Restarts") == str(restarts)
    for word in words:
        assert word in job.error
        assert word in job.field("Comment")
    assert "held" in job.error


def the_node_takes_other_jobs(submit: Submit) -> None:
    for node in ("hv1", "hv2"):
        assert submit("true", f"--nodelist={node}", image=None).wait().state == "COMPLETED"


@pytest.mark.parametrize(
    ("tag", "options", "script", "words"),
    [
        ("nosuch_linux_x86_64", (), "#!/bin/bash\ntrue\n", "nosuch_linux_x86_64"),
        ("not-a-tag", (), "#!/bin/bash\ntrue\n", "not-a-tag"),
        (IMAGE, ("--nodes=2",), "#!/bin/bash\ntrue\n", "node"),
        (IMAGE, ("--constraint=vm_other_linux_x86_64",), "#!/bin/bash\ntrue\n", "other_linux"),
    ],
)
def test_what_cannot_work_is_refused_at_submission(
    tag: str, options: tuple[str, ...], script: str, words: str
) -> None:
    said = refused(*options, image=tag, script=script)
    assert "wnodes" in said
    assert words in said


def test_an_image_without_a_script_is_refused() -> None:
    done = subprocess.run(
        ["runuser", "-u", "griduser", "--", "srun", f"--constraint=vm_{IMAGE}", "true"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "script" in done.stderr


def test_a_wrong_checksum(submit: Submit) -> None:
    bad = Part(source=GOOD.disk.source, sha256="0" * 64)
    with variant("changed_debian_x86_64", disk=bad) as tag:
        job = submit("true", image=tag)
        held(job, "checksum", GOOD.disk.source)
        the_node_takes_other_jobs(submit)
        catalogue.write(CATALOGUE, Image.model_validate(GOOD.model_dump() | {"tag": tag}))
        call("scontrol", "release", job.number, user="griduser")
        assert job.wait().state == "COMPLETED"  # its user can have it run once that is mended


def test_a_source_that_cannot_be_reached(submit: Submit) -> None:
    gone = Part(source="http://127.0.0.1:9/gone.qcow2", sha256="1" * 64)
    with variant("gone_debian_x86_64", disk=gone) as tag:
        job = submit("true", image=tag)
        held(job, "http://127.0.0.1:9/gone.qcow2")
        job.cancel()


def test_an_image_that_left_the_catalogue_after_submission(submit: Submit) -> None:
    with variant("leaving_debian_x86_64") as tag:
        job = submit("true", "--begin=now+4", image=tag)
    held(job, "leaving_debian_x86_64", "catalogue", restarts=1)
    job.cancel()


def test_a_guest_that_stops_while_booting(submit: Submit, daemons: Daemons) -> None:
    empty = daemons.root / "images" / "empty.raw"
    empty.write_bytes(bytes(1 << 20))
    disk = Part(source=str(empty), sha256=source.sha256(str(empty)))
    with variant("broken_debian_x86_64", disk=disk, format="raw") as tag:
        job = submit("true", image=tag)
        held(job, "stopped while booting", "root disk")
        job.cancel()


def test_a_guest_that_never_answers(submit: Submit) -> None:
    silent = "console=ttyS0 rdinit=/bin/sh"  # a shell that waits for its console, and no more
    with variant("mute_debian_x86_64", cmdline=silent) as tag:
        job = submit("true", "--no-requeue", image=tag).wait()
    assert (job.state, job.exit_code) == ("FAILED", "1:0")
    assert "did not answer" in job.error


def test_too_little_memory(submit: Submit) -> None:
    job = submit("true", "--mem=150")
    held(job, "150 MiB", "MiB or more", restarts=1)
    job.cancel()


def test_a_full_disk(submit: Submit, daemons: Daemons) -> None:
    inside = ["nsenter", "--mount", "--target", str(daemons.pid("bait-hv1"))]  # its own mounts
    folder = daemons.root / "spool" / "hv1" / "machines"
    folder.mkdir(exist_ok=True)
    call(*inside, "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder))
    try:
        job = submit("true", "--nodelist=hv1")
        held(job, "space")
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


def test_libvirt_down(submit: Submit, daemons: Daemons) -> None:
    with daemons.down("libvirtd"):
        job = submit("echo ran")
        wait_until(lambda: "libvirt" in job.error, 60, "the user reads of libvirt")
        the_node_takes_other_jobs(submit)
    assert job.wait(seconds=180).output == "ran\n"


def test_the_bait_down_and_back(submit: Submit, daemons: Daemons) -> None:
    with daemons.down("bait-hv1"):
        job = submit("echo ran", "--nodelist=hv1")
        wait_until(lambda: "bait" in job.error, 60, "the user reads of the bait")
        assert submit("true", "--nodelist=hv1", image=None).wait().state == "COMPLETED"
    assert job.wait(seconds=120).output == "ran\n"
    assert job.field("Restarts") == "0"


def test_a_running_job_does_not_notice_a_new_bait(submit: Submit, daemons: Daemons) -> None:
    job = submit("echo up; sleep 15; echo ran", "--nodelist=hv1")
    wait_until(lambda: "up" in job.output, 90, "its script runs")
    with daemons.down("bait-hv1"):
        pass
    assert job.wait().output == "up\nran\n"


def test_a_machine_that_was_booting_when_the_bait_died_is_used(
    submit: Submit, daemons: Daemons
) -> None:
    job = submit("sleep 4; echo ran", "--nodelist=hv1")
    machine = job.in_state("booting")
    with daemons.down("bait-hv1"):
        pass
    assert job.machines()[0]["id"] == machine["id"]
    assert job.wait().output == "ran\n"


def test_a_job_that_ends_while_the_bait_is_down_leaves_nothing(
    submit: Submit, daemons: Daemons
) -> None:
    job = submit("sleep 600", "--nodelist=hv1")
    job.in_state("ready")
    with daemons.down("bait-hv1"):
        job.cancel()
        job.wait("CANCELLED")
        assert submit("true", "--nodelist=hv1", image=None).wait().state == "COMPLETED"
    wait_until(lambda: not job.machines(), 120, "the new bait ends it")


def test_the_bait_hangs(submit: Submit, daemons: Daemons) -> None:
    with daemons.frozen("bait-hv1"):
        job = submit("echo ran", "--nodelist=hv1")
        wait_until(lambda: "hangs" in job.error, 90, "the user reads that the bait hangs")
    assert job.wait(seconds=180).output == "ran\n"


def test_a_machine_that_dies_under_its_job(submit: Submit) -> None:
    job = submit("echo up; sleep 600")
    wait_until(lambda: "up" in job.output, 90, "its script runs")
    (machine,) = job.machines()
    call("virsh", "destroy", str(machine["id"]))
    wait_until(lambda: job.field("Restarts") == "1", 60, "requeued")
    job.cancel()


def test_an_administrator_ends_a_machine(submit: Submit) -> None:
    job = submit("echo up; sleep 600")
    wait_until(lambda: "up" in job.output, 90, "its script runs")
    call("wnodes", "vm", "destroy", str(job.machines()[0]["id"]))
    held(job, "administrator", restarts=1)
    job.cancel()
