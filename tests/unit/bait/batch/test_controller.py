"""bait/batch on libvirt's test driver: a VM's whole life, and each way it ends.

Real here: libvirt, qemu-img, the seed, the ledger, the sockets. The guest's SSH server is a
greeting on port 22 of its address, the batch system a table.
"""

import os
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import libvirt
import pytest
from pytest_mock import MockerFixture

from bait.hypervisor.domain import Domain
from bait.ledger.records import Row
from bait.machine.files import paths
from bait.reconcile.plan import Act
from tests.unit.bait.batch.batchjobs import (
    FIRST,
    ID,
    STEPS,
    last,
    reaches,
    ready,
    slow_to_answer,
    state,
)
from tests.unit.conftest import (
    GUESTS,
    TAG,
    Bait,
    Node,
    answers_again,
    eventually,
    needs_root,
    put,
    ripen,
)
from wnodes_lrms.errors import RejectedError, UnknownError, WnodesError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State, machine_id

pytestmark = needs_root  # files are given to the job's owner; port 22


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
        "scratch": "",
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


def test_a_job_that_ends_while_that_is_asked_gets_no_vm(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.batch.grant("7")
    bait, (asked, ended) = node.bait(), slow_to_answer(node)
    bait.batch.announce(JobId("7"))
    asked.wait()
    bait.reconciler.release("7")
    ended.set()
    eventually(lambda: "the job has ended meanwhile" in caplog.text)
    assert node.ledger.events("7") == []


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
    node.batch.suspended = set()  # its next run is not
    node.batch.grant("7", restart=1)
    bait.batch.prepare(JobId("7"), 1)
    reaches(node, State.READY)
    node.batch.suspended = {"7"}
    assert acts(bait) == [(Act.PAUSE, "7")]
    libvirt_test.lookupByUUIDString(machine_id("box", "7", 1)).destroy()
    eventually(lambda: state(node) is State.FAILED)
    assert "ended by hand" in last(bait)["message"]


def test_a_job_that_is_suspended_while_its_guest_boots_only_takes_longer(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    short = node.config.machine.model_copy(update={"ready_timeout": 2})
    node.config = node.config.model_copy(update={"machine": short})
    node.batch.grant("7")
    node.batch.suspended = {"7"}
    bait = node.bait()
    assert acts(bait) == []
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)
    eventually(lambda: still(node, libvirt_test) == ("booting", True))
    time.sleep(4)  # longer than it may take to boot
    assert acts(bait) == []
    (row,) = node.ledger.rows("7")
    assert row.state is State.BOOTING
    assert row.reason.startswith("the batch system has suspended its job")
    node.guests.answer(FIRST)
    node.batch.suspended = set()
    assert acts(bait) == []
    assert reaches(node, State.READY).reason == ""
    assert still(node, libvirt_test) == ("ready", False)


def test_a_job_is_not_late_that_was_suspended_unseen(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    short = node.config.machine.model_copy(update={"ready_timeout": 2})
    node.config = node.config.model_copy(update={"machine": short})
    node.batch.grant("7")
    node.batch.suspended = {"7"}  # nobody looks
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)
    eventually(lambda: still(node, libvirt_test) == ("booting", True))
    bait.reconciler.release("7")
    assert node.left() == []


def test_a_machine_that_stops_is_told_to_its_job(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    bait = ready(node)
    libvirt_test.lookupByUUIDString(ID).destroy()
    eventually(lambda: state(node) is State.FAILED)
    assert "the VM was ended by hand on its node; its console said" in last(bait)["message"]
    eventually(lambda: node.left() == [f"row {ID}"])


@pytest.mark.parametrize("told", [True, False])
def test_a_guest_that_panics_is_told_to_its_job(
    node: Node, told: bool, mocker: MockerFixture
) -> None:
    """Told by libvirt at once, or found at the next look."""
    bait = ready(node)
    bait.reconciler.panicked(ID)
    assert state(node) is State.READY  # it has not, or not this one
    panicked = {ID: Domain(ID, "7", 0, panicked=True)}
    mocker.patch.object(node.hypervisor, "has_panicked", return_value=True)
    mocker.patch.object(bait.reconciler._domains, "look", return_value=panicked)
    if told:
        bait.reconciler.panicked(ID)
    else:
        assert acts(bait) == [(Act.PANIC, "7")]
    mocker.stopall()
    assert state(node) is State.FAILED
    assert "the guest's kernel has panicked; its console said" in last(bait)["message"]
    assert node.left() == [f"row {ID}"]


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


def test_an_administrator_ends_a_machine(node: Node) -> None:
    bait = ready(node)
    bait.reconciler.end(ID)
    assert node.left() == [f"row {ID}"]
    answer = last(bait)
    assert "administrator" in answer["message"]
    assert not answer["retry"]
    bait.reconciler.release("7")
    assert node.left() == []
    with pytest.raises(RejectedError, match="no VM"):
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


def test_the_end_of_an_endless_console_is_found_at_its_end(node: Node) -> None:
    console = paths(node.config, ID).console
    console.parent.mkdir(parents=True)
    with console.open("wb") as file:
        file.truncate(1 << 40)  # what a guest wrote without end
        file.seek(0, 2)
        file.write(b"\nfirst\nthe\x1b last\n")
    assert node.vms.last_words(ID).endswith("first | the last")
