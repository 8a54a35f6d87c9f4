"""bait/batch on libvirt's test driver: a VM's whole life, and each way it ends.

Real here: libvirt, qemu-img, the seed, the ledger, the sockets. The guest's SSH server is a
greeting on port 22 of its address, the batch system a table.
"""

import dataclasses
import os
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libvirt
import pytest

from bait import metrics
from bait.batch.attach import attach
from bait.batch.build import BatchBuilder
from bait.ledger.records import Row
from bait.machine.files import paths
from bait.machine.hardware import Blueprint, guest_memory
from bait.machine.owner import owner_of
from bait.network.addresses import free_address
from bait.reconcile.plan import Act
from tests.unit.bait.conftest import Step, interrupted
from tests.unit.conftest import (
    GUESTS,
    NOBODY,
    TAG,
    Bait,
    Node,
    Web,
    answers_again,
    eventually,
    needs_root,
    put,
    ripen,
    settings,
)
from wnodes_lrms.config import load as config
from wnodes_lrms.config.load import Allow
from wnodes_lrms.errors import (
    CancelledError,
    NotListedError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Part
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State, machine_id

pytestmark = needs_root  # files are given to the job's owner; port 22
ID = machine_id("box", "7", 0)
FIRST = f"{GUESTS}.2"
STEPS = [
    f"fetching image {TAG}",
    "making the disk",
    "making the seed",
    "starting the domain",
    "waiting for the guest's SSH server",
]


def state(node: Node, job: str = "7") -> State | None:
    rows = node.ledger.rows(job)
    return rows[-1].state if rows else None


def reaches(node: Node, wanted: State, job: str = "7") -> Row:
    eventually(lambda: state(node, job) in (wanted, State.FAILED))
    (row,) = node.ledger.rows(job)
    assert row.state is wanted, row.reason
    return row


def last(bait: Bait, job: str = "7", uid: int = NOBODY.pw_uid) -> dict[str, Any]:
    return list(attach(bait.batch, JobId(job), uid))[-1]


def ready(node: Node, job: str = "7", address: str = FIRST) -> Bait:
    node.guests.answer(address)
    node.batch.grant(job)
    bait = node.bait()
    bait.batch.prepare(JobId(job), 0)
    reaches(node, State.READY, job)
    return bait


def test_a_machine_from_prepare_to_release(node: Node, libvirt_test: libvirt.virConnect) -> None:
    node.guests.answer(FIRST)
    node.batch.grant("7", cores=2, memory=700)
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    answer = last(bait)
    where = paths(node.config, ID)
    assert answer == {
        "state": "ready",
        "machine": ID,
        "image": TAG,
        "address": FIRST,
        "key": where.key.read_text(),
        "known_hosts": where.known_hosts.read_text(),
        "shares": [],
        "shutdown": None,
        "cores": 2,
        "memory": 700 - 128,
    }
    assert answer["key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert answer["known_hosts"].startswith(f"{FIRST} ssh-ed25519 ")
    # What root keeps is nobody's to write: not even the owner's.
    for path in (where.runtime, *where.runtime.iterdir()):
        assert (path.stat().st_uid, path.stat().st_mode & 0o066) == (0, 0), path
    domain = libvirt_test.lookupByUUIDString(ID)
    assert domain.name() == "wnodes-box-7-0"
    assert domain.info()[1] == (700 - 128) * 1024
    assert domain.info()[3] == 2
    assert node.hypervisor.domains()[ID].job == "7"
    bait.reconciler.release("7")
    assert node.left() == []
    assert all(node.cache.path(part).exists() for part in node.image.parts)
    told = [event.what for event in node.ledger.events("7")]
    assert told[0] == "requested"
    assert [what for what in told if what in STEPS] == STEPS
    assert told[-3:] == ["ready", "ending", "gone"]


@pytest.mark.parametrize("left", [State.FAILED, State.ENDING])
def test_what_is_left_of_an_earlier_run_is_not_this_ones(node: Node, left: State) -> None:
    bait = ready(node)
    put(node.ledger, ID, state=left)
    node.guests.answer(f"{GUESTS}.3")
    node.batch.grant("7", restart=1)
    assert last(bait)["machine"] == machine_id("box", "7", 1)
    bait.reconciler.release("7")
    assert node.left() == []


def test_release_again_and_of_nothing_is_success(node: Node) -> None:
    bait = ready(node)
    bait.reconciler.release("7")
    bait.reconciler.release("7")
    bait.reconciler.release("12345")
    assert node.left() == []


def test_which_run_it_is_is_asked_where_the_hook_does_not_tell(node: Node) -> None:
    node.guests.answer(FIRST)
    node.batch.grant("7", restart=3)
    node.bait().batch.announce(JobId("7"))
    assert reaches(node, State.READY).id == machine_id("box", "7", 3)


def test_however_often_prepared_it_is_one_machine(node: Node) -> None:
    node.guests.answer(FIRST)
    node.batch.grant("7")
    bait = node.bait()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _n: bait.batch.prepare(JobId("7"), 0), range(50)))
    reaches(node, State.READY)
    assert len(node.hypervisor.domains()) == 1
    assert sum(event.what == "requested" for event in node.ledger.events("7")) == 1
    bait.reconciler.release("7")
    assert node.left() == []


def test_machines_at_once_have_their_own_address_files_and_domain(node: Node) -> None:
    jobs = [str(number) for number in range(100, 112)]
    bait = node.bait()
    for job in jobs:
        node.batch.grant(job)
    for number in range(2, 2 + len(jobs)):
        node.guests.answer(f"{GUESTS}.{number}")
    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(lambda job: bait.batch.prepare(job, 0), jobs))
        answers = list(pool.map(lambda job: last(bait, job), jobs))
    assert [answer["state"] for answer in answers] == ["ready"] * len(jobs)
    assert len({answer["address"] for answer in answers}) == len(jobs)
    assert len(node.hypervisor.domains()) == len(jobs)
    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(bait.reconciler.release, jobs))
    assert node.left() == []


def test_a_job_that_no_prolog_announced_gets_its_machine_at_attach(node: Node) -> None:
    node.guests.answer(FIRST)
    node.batch.grant("7", restart=2)
    bait = node.bait()
    assert last(bait)["machine"] == machine_id("box", "7", 2)


def test_an_lrms_that_is_away_is_waited_for_at_attach(node: Node) -> None:
    node.guests.answer(FIRST)
    bait = node.bait()
    answers = attach(bait.batch, JobId("7"), NOBODY.pw_uid)
    assert next(answers)["waits"] == "the batch system lists no job 7 on this node"
    node.batch.jobs = None
    assert next(answers)["waits"] == "the batch system does not answer"
    node.batch.jobs = {}
    node.batch.grant("7")
    assert [answer["state"] for answer in answers][-1] == "ready"


def test_a_job_that_the_lrms_goes_on_not_listing_is_no_job(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.batch.attach._SURE", 0.0)
    answers = attach(node.bait().batch, JobId("7"), NOBODY.pw_uid)
    assert next(answers)["state"] == "requested"
    with pytest.raises(NotListedError, match="lists no job 7") as caught:
        list(answers)
    assert caught.value.retry


def test_asking_for_a_plain_job_writes_nothing_down(node: Node) -> None:
    node.batch.grant("7", tag="")
    bait = node.bait()
    for _ in range(5):
        assert last(bait)["message"] == "the job asks for no machine, or has ended"
    bait.batch.announce(JobId("7"))
    node.batch.grant("8", tag="")
    bait.batch.prepare(JobId("8"), 0)  # as Slurm's prolog does for a job that may bear a lease
    eventually(lambda: not node.ledger.rows())
    assert node.ledger.events("7") == node.ledger.events("8") == []


def test_a_stranger_is_not_taken_for_a_process_of_the_job(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.batch.attach._NEWS", 0.0)
    node.batch.jobs = None
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)  # whose it is nobody has told yet
    assert next(attach(bait.batch, JobId("7"), 4242))["state"] == "requested"
    assert not bait.tasks.heard.within(60)


def test_a_row_of_an_earlier_release_does_not_name_a_job_to_the_lrms(node: Node) -> None:
    odd = "12@attacker:15001"
    node.batch.jobs = {odd: node.batch.grant("7")}
    node.ledger.promise(Row(machine_id("box", odd, 0), odd, 0, State.REQUESTED, time.time()))
    node.bait().reconciler.reconcile()
    eventually(lambda: node.ledger.rows(odd)[0].state is State.FAILED)
    assert "is no job id" in node.ledger.rows(odd)[0].reason


def test_only_the_owner_may_attach(node: Node) -> None:
    bait = ready(node)
    for stranger in (0, 1000, 4242):
        with pytest.raises(RejectedError, match="not yours"):
            last(bait, uid=stranger)
    assert last(bait)["state"] == "ready"


def test_a_stranger_can_not_have_a_machine_made_either(node: Node) -> None:
    node.batch.grant("7")
    with pytest.raises(RejectedError, match="not yours"):
        last(node.bait(), uid=4242)
    assert node.left() == []


def test_whoever_waits_hears_of_the_release(node: Node) -> None:
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)  # and nobody answers there
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(last, bait)
        bait.reconciler.release("7")
        answer = heard.result(timeout=5)
    assert (answer["state"], answer["retry"]) == ("failed", False)
    assert node.left() == []


def test_the_greeting_must_be_ssh(node: Node) -> None:
    node.guests.answer(FIRST, b"220 mail.example.org ESMTP\r\n")
    node.batch.grant("7")
    short = node.config.machine.model_copy(update={"ready_timeout": 1})
    node.config = node.config.model_copy(update={"machine": short})
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    answer = last(bait)
    assert "did not answer on SSH within 1 s; its console said" in answer["message"]
    assert answer["retry"]


# -- what is refused, and what fails --------------------------------------------------------------


def failed(node: Node, bait: Bait, job: str = "7") -> dict[str, Any]:
    """The answer that the starter gets; of the VM nothing may be left but its row."""
    bait.batch.prepare(JobId(job), 0)
    answer = last(bait, job)
    assert answer["state"] == "failed"
    node.drop_tasks()
    assert node.left() == [f"row {machine_id('box', job, 0)}"]
    assert node.ledger.rows(job)[0].reason == answer["message"]
    bait.reconciler.release(job)
    assert node.left() == []
    return answer


def test_a_job_that_asks_for_nothing_gets_no_machine(node: Node) -> None:
    node.batch.grant("7", tag="")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    eventually(lambda: not node.ledger.rows("7"))
    assert last(bait)["message"] == "the job asks for no machine, or has ended"
    assert node.left() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "other_linux_x86_64"}, "not in the catalogue.*small_linux_x86_64"),
        ({"tag": "../../etc/passwd"}, "a tag has the form"),
        ({"memory": 191}, "has 191 MiB.*ask for 192 MiB or more"),
        ({"uid": 0}, "submit it as a user"),
        ({"gid": 0}, "submit it as a user"),
        ({"uid": 4242424}, "knows no user with the number 4242424"),
        ({"restart": 1}, "now runs restart 1"),
    ],
)
def test_what_can_not_be_is_refused_for_good(
    node: Node, changes: dict[str, Any], message: str
) -> None:
    node.batch.grant("7", **changes)
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    eventually(lambda: state(node) is State.FAILED)
    (row,) = node.ledger.rows("7")
    assert row.retry is False
    assert re.search(message, row.reason)
    node.drop_tasks()
    assert node.left() == [f"row {ID}"]


def test_a_machine_as_large_as_its_allocation_allows(node: Node) -> None:
    node.batch.grant("7", memory=192)
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    assert reaches(node, State.BOOTING).memory == 64


@pytest.mark.parametrize(
    ("rule", "may"),
    [
        ({"users": ("nobody",)}, True),
        ({"users": ("alice",)}, False),
        ({"groups": ("nogroup",)}, True),
        ({"accounts": ("grid",)}, True),
        ({"accounts": ("other",)}, False),
    ],
)
def test_the_sites_rules_hold_here_too(node: Node, rule: dict[str, Any], may: bool) -> None:
    node.config = node.config.model_copy(update={"allow": (Allow(image=TAG, **rule),)})
    node.batch.grant("7")
    bait = node.bait()
    if may:
        bait.batch.prepare(JobId("7"), 0)
        reaches(node, State.BOOTING)
        return
    answer = failed(node, bait)
    assert "user nobody may not use image" in answer["message"]
    assert not answer["retry"]


def other_image(node: Node, **changes: object) -> None:
    node.image = node.image.model_copy(update=changes)
    catalogue.write(node.folder / "images", node.image)


def unreachable(node: Node) -> None:
    other_image(node, disk=Part(source=f"{node.folder}/none", sha256="0" * 64))


def wrong_checksum(node: Node) -> None:
    other_image(node, disk=Part(source=node.image.disk.source, sha256="0" * 64))


def full(node: Node) -> None:
    huge = node.config.machine.model_copy(update={"min_free_disk": 1 << 40})
    node.config = node.config.model_copy(update={"machine": huge})
    node.builder = dataclasses.replace(node.builder, config=node.config)


def overlay_can_not_be_made(node: Node) -> None:
    other_image(node, format="raw")
    node.cache.fetch(node.image, lambda: None)
    broken = node.cache.path(node.image.disk)
    broken.unlink()
    broken.mkdir()


def name_is_taken(_node: Node) -> None:
    link = libvirt.open("test:///default")
    link.createXML(
        "<domain type='test'><name>wnodes-box-7-0</name><memory>1024</memory>"
        "<os><type>hvm</type></os></domain>"
    )


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (unreachable, "none: No such file or directory"),
        (wrong_checksum, "checksum"),
        (full, "disk full on node hv1"),
        (overlay_can_not_be_made, "can.t be copied"),
        (name_is_taken, r"the node's libvirt can't start the machine \(.* bait's log, under 7\)$"),
    ],
)
def test_each_failure_is_said_and_leaves_nothing(
    node: Node, break_it: Callable[[Node], None], message: str
) -> None:
    break_it(node)
    node.batch.grant("7")
    answer = failed(node, node.bait())
    assert answer["retry"]
    assert re.search(message, answer["message"])


def test_a_foreign_domain_of_the_same_name_is_left_alone(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    name_is_taken(node)
    node.batch.grant("7")
    failed(node, node.bait())
    assert libvirt_test.lookupByName("wnodes-box-7-0").isActive()


def test_the_batch_system_away_for_a_moment_costs_only_time(node: Node) -> None:
    node.guests.answer(FIRST)
    bait = node.bait()
    node.batch.jobs = None
    bait.batch.prepare(JobId("7"), 0)
    threading.Timer(0.4, lambda: setattr(node.batch, "jobs", {})).start()
    threading.Timer(0.5, lambda: node.batch.grant("7") and None).start()
    reaches(node, State.READY)


# -- cancelled, or broken, at each step -----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Stopping(BatchBuilder):
    """A builder that calls `at_step` when it comes to the step `where`."""

    where: str = ""
    at_step: Callable[[Step], None] = lambda step: step()

    def build(self, machine: Blueprint, step: Callable[[str], None], starting: Step) -> None:
        super().build(machine, *interrupted(self.where, self.at_step, step, starting))


def stopping(node: Node, where: str, at_step: Callable[[Step], None]) -> Bait:
    bait = node.bait()
    bait.batch.maker.builder = Stopping(node.builder, where, at_step)
    return bait


@pytest.mark.parametrize("where", STEPS)
def test_released_at_any_step_nothing_is_left(node: Node, where: str) -> None:
    reached = threading.Event()

    def wait_for_cancel(step: Callable[[], None]) -> None:
        reached.set()
        for _ in range(500):
            step()  # raises once the controller has cancelled
            threading.Event().wait(0.01)

    node.guests.answer(FIRST)
    node.batch.grant("7")
    bait = stopping(node, where, wait_for_cancel)
    bait.batch.prepare(JobId("7"), 0)
    assert reached.wait(5)
    bait.reconciler.release("7")
    assert node.left() == []
    assert [event.what for event in node.ledger.events("7")][-2:] == ["ending", "gone"]
    # and the node takes the next job, at the same address
    node.batch.grant("8")
    plain = node.bait()
    plain.batch.prepare(JobId("8"), 0)
    assert reaches(node, State.READY, "8").address == FIRST


def test_released_before_anything_was_begun(node: Node) -> None:
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)  # the batch system does not know it yet
    bait.reconciler.release("7")
    assert node.left() == []


def test_released_while_booting(node: Node) -> None:
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)
    bait.reconciler.release("7")
    assert node.left() == []


def test_released_during_a_slow_download(node: Node, web: Web) -> None:
    data = Path(node.image.disk.source).read_bytes()
    other_image(node, disk=web.add("/slow", data))
    web.pause = 1.5
    node.batch.grant("7")
    node.batch.grant("8")
    bait = node.bait()
    for job in ("7", "8"):
        bait.batch.prepare(JobId(job), 0)
    eventually(lambda: web.requests["/slow"])
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(bait.reconciler.release, job) for job in ("7", "8")]
        for end in ends:
            end.result(timeout=1)
    assert node.left() == []


@pytest.mark.parametrize(
    "error", [WnodesError("it broke"), RejectedError("it may not be"), OSError(28, "No space")]
)
@pytest.mark.parametrize("where", STEPS)
def test_broken_at_any_step_nothing_is_left(node: Node, where: str, error: Exception) -> None:
    def break_it(_step: Callable[[], None]) -> None:
        raise error

    node.batch.grant("7")
    answer = failed(node, stopping(node, where, break_it))
    assert answer["retry"] == getattr(error, "retry", True)
    if isinstance(error, WnodesError):
        assert answer["message"] == str(error)


@pytest.mark.parametrize("where", STEPS)
def test_a_builder_alone_leaves_nothing_when_it_is_stopped(node: Node, where: str) -> None:
    allocation = node.batch.grant("7")
    owner = owner_of(NOBODY.pw_uid, NOBODY.pw_gid)
    address = free_address(node.config.network.subnet, set())
    blueprint = Blueprint(ID, allocation, owner, node.image, 256, address)
    builder = BatchBuilder(node.builder)

    def step(what: str) -> None:
        if what == where:
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        builder.build(blueprint, step, lambda: step("starting the domain"))
    assert node.left() == []
    builder.build(blueprint, lambda _what: None, lambda: None)
    assert list(node.hypervisor.domains()) == [ID]
    node.builder.destroy(ID)
    node.builder.destroy(ID)
    assert node.left() == []


# -- after a start, and when things vanish --------------------------------------------------------


def acts(bait: Bait) -> list[tuple[Act, str]]:
    lines = bait.reconciler.reconcile()
    return [(line.action.act, line.action.job) for line in lines if not line.wait]


def test_a_quiet_node_has_nothing_to_do(node: Node) -> None:
    bait = ready(node)
    assert acts(bait) == []
    assert state(node) is State.READY


def test_a_new_bait_goes_on_with_what_was_promised(node: Node) -> None:
    node.guests.answer(FIRST)
    node.batch.grant("7")
    node.ledger.promise(Row(ID, "7", 0, State.REQUESTED, 0.0))
    bait = node.bait()
    assert acts(bait) == [(Act.RESUME, "7")]
    reaches(node, State.READY)


def test_a_new_bait_begins_anew_what_was_half_built(node: Node) -> None:
    """Killed in the middle of building: files and a domain, and a row that says so."""
    ready(node)
    (row,) = node.ledger.rows("7")
    half = paths(node.config, ID).disk
    half.write_text("half a disk")
    with sqlite3.connect(node.folder / "state" / "ledger.sqlite") as db:
        db.execute("UPDATE machine SET state = 'building'")
    node.hypervisor.destroy(row.id)
    eventually(lambda: not node.hypervisor.domains())
    bait = node.bait()
    assert acts(bait) == [(Act.RESUME, "7")]
    again = reaches(node, State.READY)
    assert again.address == row.address
    assert half.read_bytes()[:4] == b"QFI\xfb"
    bait.reconciler.release("7")
    assert node.left() == []


def test_a_new_bait_adopts_what_boots(node: Node) -> None:
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)
    node.drop_tasks()  # the old bait is no more
    node.guests.answer(FIRST)
    later = node.bait()
    assert acts(later) == [(Act.ADOPT, "7")]
    reaches(node, State.READY)


def test_a_new_bait_finishes_what_was_ending(node: Node) -> None:
    ready(node)
    node.ledger.change(ID, "ending", state=State.ENDING)
    assert acts(node.bait()) == [(Act.END, "7")]
    assert node.left() == []


def test_a_domain_of_ours_without_a_row_goes_once_its_job_is_over(node: Node) -> None:
    ready(node)
    with node.ledger.store.change() as db:
        db.execute("DELETE FROM machine")
    bait = node.bait()
    assert acts(bait) == [(Act.REPORT, "7")]  # the job lives
    node.batch.jobs = None
    assert acts(bait) == []  # nobody knows
    node.batch.jobs = {}
    answers_again(bait)
    assert acts(bait) == []  # not at once
    ripen(bait)
    assert acts(bait) == [(Act.DESTROY, "7")]
    assert node.left() == []


def test_nothing_is_ended_while_the_batch_system_is_away(node: Node) -> None:
    bait = ready(node)
    node.batch.jobs = {}
    assert acts(bait) == []  # not at once
    node.batch.jobs = None
    assert acts(bait) == []
    ripen(bait)
    node.batch.jobs = {}
    answers_again(bait)
    assert acts(bait) == []  # the doubt has begun anew
    assert list(node.hypervisor.domains()) == [ID]
    ripen(bait)
    bait.tasks.heard.note("7", 0)
    assert acts(bait) == [(Act.REPORT, "7")]  # its own process says otherwise
    bait.tasks.heard._last.clear()
    assert acts(bait) == []
    ripen(bait)
    assert acts(bait) == [(Act.END, "7")]
    assert node.left() == []


def still(node: Node, libvirt_test: libvirt.virConnect, machine: str = ID) -> tuple[str, bool]:
    """The state of job 7's VM in the ledger, and whether libvirt has it paused."""
    paused = libvirt_test.lookupByUUIDString(machine).state()[0] == libvirt.VIR_DOMAIN_PAUSED
    return str(state(node)), paused


def test_a_machine_stands_still_with_its_job(node: Node, libvirt_test: libvirt.virConnect) -> None:
    bait = ready(node)
    node.batch.suspended = {"7"}
    for wanted in ([(Act.PAUSE, "7")], []):
        assert acts(bait) == wanted
        assert still(node, libvirt_test) == ("paused", True)
    (usage,) = node.ledger.usages()
    assert usage.clock == "held"
    bait = node.bait()  # a new one, that has seen nothing
    assert acts(bait) == []
    node.batch.jobs, jobs = None, node.batch.jobs
    assert acts(bait) == []
    assert still(node, libvirt_test) == ("paused", True)
    node.batch.jobs, node.batch.suspended = jobs, set()
    answers_again(bait)
    assert acts(bait) == [(Act.CONTINUE, "7")]
    assert still(node, libvirt_test) == ("ready", False)
    assert last(bait)["state"] == "ready"
    assert acts(bait) == []


def test_a_bait_that_dies_between_the_word_and_the_deed_goes_on_with_it(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    bait = ready(node)
    node.batch.suspended = {"7"}
    node.ledger.change(ID, "killed before it was paused", state=State.PAUSED)
    assert acts(bait) == [(Act.PAUSE, "7")]
    assert still(node, libvirt_test) == ("paused", True)
    node.batch.suspended = set()
    node.ledger.change(ID, "killed before it went on", state=State.READY)
    assert acts(bait) == [(Act.WAKE, "7")]
    assert still(node, libvirt_test) == ("ready", False)


def test_a_job_whose_process_goes_on_has_notice_of_its_suspension(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    bait = ready(node)
    bait.tasks.heard.note("7", os.getpid())
    node.batch.suspended = {"7"}
    assert acts(bait) == []
    assert still(node, libvirt_test) == ("ready", False)
    ripen(bait)
    assert acts(bait) == [(Act.PAUSE, "7")]
    assert still(node, libvirt_test) == ("paused", True)


def test_a_paused_machine_ends_with_its_job_or_is_lost_to_it(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    bait = ready(node)
    node.batch.suspended = {"7"}
    acts(bait)
    bait.reconciler.release("7")
    assert node.left() == []
    node.batch.grant("7", restart=1)
    bait.batch.prepare(JobId("7"), 1)
    reaches(node, State.READY)
    acts(bait)
    libvirt_test.lookupByUUIDString(machine_id("box", "7", 1)).destroy()
    eventually(lambda: state(node) is State.FAILED)
    assert "ended by hand" in last(bait)["message"]


def test_a_job_that_is_suspended_before_its_machine_is_ready(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    node.batch.grant("7")
    node.batch.suspended = {"7"}
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)
    assert acts(bait) == []
    node.guests.answer(FIRST)
    reaches(node, State.READY)
    eventually(lambda: acts(bait) == [(Act.PAUSE, "7")])
    assert still(node, libvirt_test) == ("paused", True)


def test_a_machine_that_stops_is_told_to_its_job(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    bait = ready(node)
    libvirt_test.lookupByUUIDString(ID).destroy()
    eventually(lambda: state(node) is State.FAILED)
    assert "the VM was ended by hand on its node; its console said" in last(bait)["message"]
    eventually(lambda: node.left() == [f"row {ID}"])


def test_a_stop_told_late_is_not_that_of_the_domain_that_runs_now(node: Node) -> None:
    bait = ready(node)
    bait.batch.stopped(node.ledger.rows("7")[0], "late")
    assert state(node) is State.READY


def test_a_new_bait_ends_the_domain_of_a_build_that_was_killed(node: Node) -> None:
    bait = ready(node)
    number = node.hypervisor._connect().lookupByUUIDString(ID).ID()
    put(node.ledger, ID, state=State.BUILDING)
    assert acts(node.bait()) == [(Act.RESUME, "7")]
    reaches(node, State.READY)
    assert node.hypervisor._connect().lookupByUUIDString(ID).ID() != number  # with the new keys
    bait.reconciler.release("7")
    assert node.left() == []


def test_a_new_bait_goes_on_with_the_domain_that_was_just_started(node: Node) -> None:
    bait = ready(node)
    number = node.hypervisor._connect().lookupByUUIDString(ID).ID()
    put(node.ledger, ID, state=State.STARTING)
    assert acts(node.bait()) == [(Act.ADOPT, "7")]
    reaches(node, State.READY)
    assert node.hypervisor._connect().lookupByUUIDString(ID).ID() == number
    bait.reconciler.release("7")
    assert node.left() == []


def test_a_new_bait_makes_the_machine_anew_whose_start_was_never_asked_for(node: Node) -> None:
    bait = ready(node)
    node.hypervisor.on_stop(lambda _machine, _how: None)
    node.hypervisor.destroy(ID)
    put(node.ledger, ID, state=State.STARTING)
    assert acts(node.bait()) == [(Act.RESUME, "7")]
    reaches(node, State.READY)
    bait.reconciler.release("7")
    assert node.left() == []


def test_a_guest_that_stops_while_booting_is_told_soon(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)
    paths(node.config, ID).console.write_text("one\ntwo\n\x1b[31mpanic: no root\x07\n")
    libvirt_test.lookupByUUIDString(ID).destroy()
    answer = last(bait)
    assert answer["message"].endswith("its console said: one | two | [31mpanic: no root")


def test_an_administrator_ends_a_machine(node: Node) -> None:
    bait = ready(node)
    bait.reconciler.end(ID)
    assert node.left() == [f"row {ID}"]
    answer = last(bait)
    assert "administrator" in answer["message"]
    assert not answer["retry"]
    bait.reconciler.release("7")
    assert node.left() == []
    with pytest.raises(RejectedError, match="no machine"):
        bait.reconciler.end(ID)


def test_a_machine_that_does_not_bear_our_mark_is_never_ended(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    bait = ready(node)
    before = libvirt_test.lookupByName("test").isActive()
    bait.reconciler.release("7")
    bait.reconciler.reconcile()
    assert before
    assert libvirt_test.lookupByName("test").isActive()


# -- the pure parts of build.py -------------------------------------------------------------------


def test_addresses_are_given_from_below_and_run_out(tmp_path: Path) -> None:
    file = tmp_path / "wnodes.toml"
    file.write_text(settings(tmp_path).replace(f"{GUESTS}.0/24", "10.0.0.0/29"))
    subnet = config.load(file).network.subnet
    used: set[str] = set()
    for last_byte in range(2, 7):
        address = str(free_address(subnet, used))
        assert address == f"10.0.0.{last_byte}"
        used.add(address)
    with pytest.raises(WnodesError, match="larger subnet"):
        free_address(subnet, used)
    assert str(free_address(subnet, used - {"10.0.0.4"})) == "10.0.0.4"


def test_the_guests_memory_is_the_allocation_less_the_overhead(node: Node) -> None:
    for memory, guest in ((512, 384), (192, 64)):
        assert guest_memory(node.batch.grant("7", memory=memory), node.image, 128) == guest


def test_the_owner_has_their_groups_but_never_roots() -> None:
    owner = owner_of(NOBODY.pw_uid, NOBODY.pw_gid)
    assert (owner.name, owner.home) == ("nobody", NOBODY.pw_dir)
    assert owner.groups[0] == ("nogroup", NOBODY.pw_gid)
    assert owner_of(NOBODY.pw_uid, 54321).groups[0] == ("group54321", 54321)
    assert all(number != 0 for _name, number in owner_of(NOBODY.pw_uid, 54321).groups)


def test_a_folder_that_can_not_be_removed_is_not_success(node: Node) -> None:
    bait = ready(node)
    held = paths(node.config, ID).disks / "held"
    held.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", held], check=True)
    try:
        with pytest.raises(WnodesError, match="can't be removed"):
            bait.reconciler.release("7")
        assert state(node) is State.ENDING
    finally:
        subprocess.run(["umount", held], check=True)
    assert acts(bait) == [(Act.END, "7")]
    assert node.left() == []


def test_libvirt_away_ends_nothing_and_says_so(node: Node) -> None:
    bait = ready(node)
    away = node.hypervisor
    link, uri = away._connections._shared, away.uri
    away._connections._shared, away._connections.uri = None, "qemu+unix:///system?socket=/nowhere"
    with pytest.raises(UnknownError, match="libvirt does not answer"):
        bait.reconciler.release("7")
    assert state(node) is State.ENDING
    away._connections._shared, away._connections.uri = link, uri
    assert acts(bait) == [(Act.END, "7")]
    assert node.left() == []


def test_how_long_a_machine_took_is_measured(node: Node) -> None:
    def count() -> float | None:
        return metrics.REGISTRY.get_sample_value("wnodes_build_seconds_count", {"kind": "batch"})

    before = count() or 0
    ready(node)
    eventually(lambda: count() == before + 1)


def test_the_end_of_an_endless_console_is_found_at_its_end(node: Node) -> None:
    console = paths(node.config, ID).console
    console.parent.mkdir(parents=True)
    with console.open("wb") as file:
        file.truncate(1 << 40)  # what a guest wrote without end
        file.seek(0, 2)
        file.write(b"\nfirst\nthe\x1b last\n")
    assert node.builder.last_words(ID).endswith("first | the last")
