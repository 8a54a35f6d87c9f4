"""When no machine can be had: the user reads why, the job is tried again and then held, and the
nodes stay as they are and take other jobs."""

import pytest

from contrib.site.box.layout import IMAGE, NODES
from tests.chaos.site import Box
from tests.e2e.box import CATALOGUE, GOOD, USER, call, variant, wait_until
from tests.e2e.lrms.interface import Job, Submit, refused
from tests.e2e.lrms.systems import LRMS
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image, Part


def held(job: Job, *words: str, tries: int = 1) -> None:
    """The job was tried so often, then held; its user, and who looks at it, read these words."""
    wait_until(lambda: job.held, 200, f"held: {job.state} {job.error}")
    assert job.held
    tried, reason = job.held
    assert tried == tries
    assert all(word in reason for word in words), reason
    assert all(word in job.error for word in (LRMS.held, *words)), job.error


def the_nodes_take_other_jobs(submit: Submit) -> None:
    jobs = [submit("true", node=node, image=None) for node in NODES]
    assert [job.wait().end for job in jobs] == ["exit 0"] * len(NODES)


@pytest.mark.parametrize(
    ("tag", "asked", "words"),
    [
        ("nosuch_linux_x86_64", {}, ["no image nosuch_linux_x86_64"]),
        ("Not-a-tag", {}, ["no image", "Not-a-tag"]),
        (IMAGE, {"nodes": 2}, ["one node"]),
        (IMAGE, {"resource": "other_linux_x86_64"}, ["different images", "other_linux"]),
    ],
)
def test_what_cannot_work_is_refused_at_submission(
    tag: str, asked: dict[str, object], words: list[str]
) -> None:
    said = LRMS.refused(env={"WNODES_IMAGE": tag}, **asked)
    assert all(word in said for word in ("wnodes: ", *words)), said


def test_an_interactive_job_with_a_wish_is_refused() -> None:
    said = refused([LRMS.interactive, *LRMS.options(resource=IMAGE), "/bin/true"])
    assert f"submit it with {LRMS.batch}" in said


def test_a_wrong_checksum_is_tried_again_and_then_held(submit: Submit) -> None:
    bad = Part(source=GOOD.disk.source, sha256="0" * 64)
    with variant("changed_debian_x86_64", disk=bad) as tag:
        job = submit("echo ran", image=tag, appended="")
        held(job, "checksum", GOOD.disk.source, tries=3)
        assert all(word in job.error for word in ("try 2 of 3", "try 3 of 3")), job.error
        the_nodes_take_other_jobs(submit)
        catalogue.write(CATALOGUE, Image.model_validate(GOOD.model_dump() | {"tag": tag}))
        job.do("again", USER)
        assert job.wait().end == "exit 0"  # its user can have it run once that is mended
        assert job.output == "ran\n"


def test_an_image_that_left_the_catalogue_after_submission(submit: Submit) -> None:
    with variant("leaving_debian_x86_64") as tag:
        job = submit("true", image=tag, held="")
    job.do("release")
    held(job, "leaving_debian_x86_64", "catalogue")
    job.cancel()


def test_too_little_memory(submit: Submit) -> None:
    job = submit("true", memory=150)
    held(job, "150 MiB", "MiB or more")
    the_nodes_take_other_jobs(submit)
    job.cancel()


def test_the_bait_down_and_back(submit: Submit, daemons: Box) -> None:
    with daemons.down("bait-hv1"):
        job = submit("echo ran", node="hv1")
        wait_until(lambda: "bait" in job.error, 60, "the user reads of the bait")
        assert submit("true", node="hv1", image=None).wait().end == "exit 0"
    assert job.wait().end == "exit 0"
    assert job.output == "ran\n"
    assert not job.requeued


def test_a_running_job_does_not_notice_a_new_bait(submit: Submit, daemons: Box) -> None:
    job = submit("echo up; sleep 15; echo ran", node="hv1").says("up")
    with daemons.down("bait-hv1"):
        pass
    assert job.wait().output == "up\nran\n"


def test_a_machine_that_dies_under_its_job(submit: Submit) -> None:
    job = submit("echo up; sleep 600").says("up")
    (machine,) = job.machines()
    call("virsh", "destroy", str(machine["id"]))
    wait_until(lambda: job.requeued, 60, f"requeued: {job.state} {job.error}")

    def settled() -> bool:
        """Grid Engine takes a minute to end a job that is deleted while it starts."""
        there = [m["state"] for m in job.machines() if m["id"] != machine["id"]]
        return job.state == LRMS.waiting or there == ["ready"]

    wait_until(settled, 90, f"it waits or runs again: {job.state} {job.error}")
    job.cancel()
