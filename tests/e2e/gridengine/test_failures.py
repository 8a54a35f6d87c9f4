"""When no machine can be had: the user reads why, the job is tried again and then in error state,
and the queues stay as they are and take other jobs."""

import os
import signal

import pytest

from tests.e2e.conftest import CATALOGUE, GOOD, IMAGE, USER, Daemons, call, variant, wait_until
from tests.e2e.gridengine.conftest import Job, Submit, queues, refused
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image, Part


def the_queues_take_other_jobs(submit: Submit) -> None:
    assert not any(queues().values()), queues()
    for node in ("hv1", "hv2"):
        assert submit("true", "-q", f"main@{node}", image=None).wait().exit_code == 0


@pytest.mark.parametrize(
    ("env", "options", "words"),
    [
        ({"WNODES_IMAGE": "nosuch_linux_x86_64"}, (), "no image nosuch_linux_x86_64"),
        ({}, ("-l", "vm=nosuch_linux_x86_64"), "no image nosuch_linux_x86_64"),
        ({"WNODES_IMAGE": "Not-a-tag"}, (), "Not-a-tag is no image"),
        ({"WNODES_IMAGE": IMAGE}, ("-l", "vm=other_linux_x86_64"), "different images"),
        ({}, ("-soft", "-l", f"vm={IMAGE}", "-hard"), "-soft"),
        ({"WNODES_IMAGE": IMAGE}, ("-pe", "wide", "2"), "one node"),
        ({}, ("-N", "wnodes-lease-imitation"), "those of leases"),
    ],
)
def test_what_cannot_work_is_refused_at_submission(
    env: dict[str, str], options: tuple[str, ...], words: str
) -> None:
    said = refused(*options, env=env)
    assert "wnodes: " in said
    assert words in said


def test_an_interactive_job_with_a_wish_is_refused() -> None:
    assert "submit it with qsub" in refused("-l", f"vm={IMAGE}", client="qrsh")


def test_a_wrong_checksum_is_tried_again_and_then_in_error(submit: Submit) -> None:
    bad = Part(source=GOOD.disk.source, sha256="0" * 64)
    with variant("changed_debian_x86_64", disk=bad) as tag:
        job = submit("echo ran", image=tag).in_error(200)
        for words in ("checksum", "try 2 of 3", "try 3 of 3", "error state"):
            assert words in job.error
        assert "wnodes_tries=2" in call("qstat", "-j", job.number)
        the_queues_take_other_jobs(submit)
        catalogue.write(CATALOGUE, Image.model_validate(GOOD.model_dump() | {"tag": tag}))
        call("qmod", "-cj", job.number, user=USER, check=False)  # it says 1 of what it has done
        assert job.wait().output == "ran\n"  # its user can have it run once that is mended


def test_an_array_task_is_held_alone(submit: Submit) -> None:
    job = submit("echo ran", "-t", "1-2", "-l", "mem_free=150M")
    for task in ("1", "2"):
        assert "150 MiB" in Job(job.number, job.folder, task).in_error().error
    job.cancel()


def test_too_little_memory(submit: Submit) -> None:
    job = submit("true", "-l", "mem_free=150M").in_error()
    assert "150 MiB" in job.error
    the_queues_take_other_jobs(submit)
    job.cancel()


def test_an_image_that_left_the_catalogue_after_submission(submit: Submit) -> None:
    with variant("leaving_debian_x86_64") as tag:
        job = submit("true", "-h", image=tag)
    call("qrls", job.number)
    assert "leaving_debian_x86_64" in job.in_error().error
    job.cancel()


def test_no_image_can_be_named_after_submission(submit: Submit) -> None:
    """Grid Engine allows few changes where there is a verifier: jsv_allowed_mod."""
    job = submit("true", "-h", image=None)
    call("qalter", "-l", f"vm={IMAGE}", job.number, user=USER, check=False)
    assert IMAGE not in call("qstat", "-j", job.number)
    job.cancel()


def test_the_bait_down_and_back(submit: Submit, daemons: Daemons) -> None:
    with daemons.down("bait-hv1"):
        job = submit("echo ran", "-q", "main@hv1")
        wait_until(lambda: "bait" in job.error, 60, "the user reads of the bait")
        assert submit("true", "-q", "main@hv1", image=None).wait().exit_code == 0
    assert job.wait().output == "ran\n"


def test_a_running_job_does_not_notice_a_new_bait(submit: Submit, daemons: Daemons) -> None:
    job = submit("echo up; sleep 15; echo ran", "-q", "main@hv1").says("up")
    with daemons.down("bait-hv1"):
        pass
    assert job.wait().output == "up\nran\n"


def test_a_machine_that_dies_under_its_job(submit: Submit) -> None:
    job = submit("echo up; sleep 600").says("up")
    (machine,) = job.machines()
    call("virsh", "destroy", str(machine["id"]))
    wait_until(lambda: "R" in job.state, 60, f"rescheduled: {job.state} {job.error}")
    job.cancel()


def test_the_qmaster_hangs_while_a_job_runs(submit: Submit, daemons: Daemons) -> None:
    job = submit("echo up; sleep 15; echo ran").says("up")
    pid = daemons.pid("qmaster")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "ran" in job.output, 60, "it runs to its end")
        assert call("wnodes", "vm", "list")  # nothing is concluded from silence
    finally:
        os.kill(pid, signal.SIGCONT)
    assert job.wait().exit_code == 0
