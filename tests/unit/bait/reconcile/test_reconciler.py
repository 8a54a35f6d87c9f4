"""What is in doubt waits, what hangs keeps nobody, and each thing is said once."""

import logging
import signal
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from bait.hypervisor.domain import MARK
from bait.ledger.records import Clock, Load, Row
from bait.machine.files import paths
from bait.machine.tasks import Task
from bait.reconcile import doubts
from bait.reconcile import reconciler as module
from bait.reconcile.doubts import Line
from bait.reconcile.drain import Draining
from bait.reconcile.plan import Act, Action
from tests.unit.bait.processes import QEMU, end, guest, lives, started
from tests.unit.bait.reconcile.clocks import Time
from tests.unit.conftest import Bait, Node, answers_again, eventually
from wnodes_lrms.errors import AbsentError, UnknownError, WnodesError
from wnodes_lrms.model import Kind, State, machine_id

CLUSTER = uuid.uuid4().hex
ID = machine_id(CLUSTER, "7", 0)
OTHER = machine_id(CLUSTER, "8", 0)


@dataclass
class Recorder:
    """In the place of a controller: writes down what it is told to do."""

    done: list[tuple[Act, str]] = field(default_factory=list)
    hangs: dict[str, threading.Event] = field(default_factory=dict)
    faults: dict[str, WnodesError] = field(default_factory=dict)

    def carry_out(self, action: Action, row: Row) -> None:
        assert action.machine == row.id
        self.done.append((action.act, row.id))
        if row.id in self.hangs:
            self.hangs[row.id].wait(10)
        if row.id in self.faults:
            raise self.faults[row.id]

    def release(self, row: Row) -> None:
        self.done.append((Act.END, row.id))

    def end(self, row: Row) -> None:
        self.done.append((Act.END, row.id))

    def stopped(self, row: Row, how: str) -> None:
        raise WnodesError(f"{row.id} can't be seen to: {how}")

    def slept(self, row: Row) -> None:
        self.stopped(row, "it sleeps")

    def panicked(self, row: Row) -> None:
        self.stopped(row, "it has panicked")

    def stuck(self, row: Row) -> None:
        self.stopped(row, "it is stuck")

    def let_go(self, row: Row) -> None:
        self.stopped(row, "it has let go")


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(doubts, "time", made)
    return made


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    monkeypatch.setattr(module, "_AT_ONCE", 10.0)
    made = Recorder()
    yield made
    for event in made.hangs.values():
        event.set()


@pytest.fixture
def bait(node: Node, controller: Recorder, time: Time) -> Bait:  # noqa: ARG001
    made = node.bait()
    made.reconciler.controllers = {Kind.BATCH: controller, Kind.CLOUD: controller}
    return made


def domain(node: Node, machine: str = ID, job: str = "7") -> None:
    mark = f"<m:machine xmlns:m='{MARK}' cluster='box' node='hv1' job='{job}' restart='0'/>"
    node.hypervisor.create(
        f"<domain type='test'><name>{machine}</name><uuid>{machine}</uuid>"
        f"<metadata>{mark}</metadata><memory>1024</memory><os><type>hvm</type></os></domain>"
    )


def machine(node: Node, job: str = "7", runs: bool = True, state: State = State.READY) -> str:
    """A batch VM, and its domain."""
    id_ = machine_id(CLUSTER, job, 0)
    assert node.ledger.promise(Row(id_, job, 0, state, 0.0))
    if runs:
        domain(node, id_, job)
    return id_


def plans(lines: list[Line]) -> list[tuple[Act, float]]:
    return [(line.action.act, line.wait) for line in lines]


def words(caplog: pytest.LogCaptureFixture) -> list[str]:
    names = (module.__name__, doubts.__name__)
    return [record.getMessage() for record in caplog.records if record.name in names]


# -- doubts ----------------------------------------------------------------------------------------


def test_what_is_in_doubt_is_done_when_it_has_stood_for_the_time_of_grace(
    node: Node, bait: Bait, controller: Recorder, time: Time
) -> None:
    machine(node)
    assert plans(bait.reconciler.reconcile()) == [(Act.END, 60.0)]
    time.at += 30
    assert plans(bait.reconciler.reconcile()) == [(Act.END, 30.0)]
    time.at += 29
    assert plans(bait.reconciler.reconcile()) == [(Act.END, 1.0)]
    assert controller.done == []
    time.at += 1
    assert plans(bait.reconciler.reconcile()) == [(Act.END, 0.0)]
    assert controller.done == [(Act.END, ID)]


def test_what_is_not_in_doubt_is_done_at_once(node: Node, bait: Bait, controller: Recorder) -> None:
    node.batch.grant("7")
    machine(node, runs=False)
    assert plans(bait.reconciler.reconcile()) == [(Act.LOST, 0.0)]
    assert controller.done == [(Act.LOST, ID)]


def test_the_time_of_grace_is_the_sites(
    node: Node, bait: Bait, controller: Recorder, time: Time
) -> None:
    settings = bait.reconciler.config.bait.model_copy(update={"grace": 5})
    bait.reconciler.config = bait.reconciler.config.model_copy(update={"bait": settings})
    machine(node)
    bait.reconciler.reconcile()
    time.at += 5
    bait.reconciler.reconcile()
    assert controller.done == [(Act.END, ID)]


@pytest.mark.parametrize(
    "meanwhile", ["the batch system is away", "the job is listed", "the job is heard", "in hand"]
)
def test_a_doubt_that_did_not_stand_begins_anew(
    node: Node, bait: Bait, controller: Recorder, time: Time, meanwhile: str
) -> None:
    machine(node)
    bait.reconciler.reconcile()
    time.at += 59
    let_go = threading.Event()
    if meanwhile == "the batch system is away":
        node.batch.jobs = None
    elif meanwhile == "the job is listed":
        node.batch.grant("7")
    elif meanwhile == "the job is heard":
        bait.tasks.heard.note("7", 0)
    else:

        def work(_task: Task) -> None:
            let_go.wait(5)

        bait.tasks.start(ID, "7", work, lambda _error: None)
    assert (Act.END, 1.0) not in plans(bait.reconciler.reconcile())
    node.batch.jobs = {}
    answers_again(bait)
    bait.tasks.heard._last.clear()
    let_go.set()
    eventually(lambda: not bait.tasks.machines())
    time.at += 59
    assert plans(bait.reconciler.reconcile()) == [(Act.END, 60.0)]
    time.at += 59
    assert plans(bait.reconciler.reconcile()) == [(Act.END, 1.0)]
    assert controller.done == []


def test_each_machine_has_a_doubt_of_its_own(
    node: Node, bait: Bait, controller: Recorder, time: Time
) -> None:
    machine(node)
    bait.reconciler.reconcile()
    time.at += 40
    machine(node, "8")
    assert plans(bait.reconciler.reconcile()) == [(Act.END, 20.0), (Act.END, 60.0)]
    time.at += 20
    bait.reconciler.reconcile()
    assert controller.done == [(Act.END, ID)]


def test_a_look_does_nothing_and_begins_no_doubt(
    node: Node, bait: Bait, controller: Recorder, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine(node)
    machine(node, "8", runs=False)
    node.batch.grant("8")
    for _ in range(3):
        assert plans(bait.reconciler.look()) == [(Act.END, 60.0), (Act.LOST, 0.0)]
        time.at += 100
    assert controller.done == []
    # libvirt may still tell of the end of a domain that a test before has had.
    assert [word for word in words(caplog) if "can't be seen to" not in word] == []
    assert plans(bait.reconciler.reconcile())[0] == (Act.END, 60.0)
    time.at += 10
    assert plans(bait.reconciler.look())[0] == (Act.END, 50.0)


def test_a_new_bait_has_its_own_doubts(
    node: Node, bait: Bait, controller: Recorder, time: Time
) -> None:
    machine(node)
    bait.reconciler.reconcile()
    time.at += 60
    again = node.bait()
    again.reconciler.controllers = {Kind.BATCH: controller, Kind.CLOUD: controller}
    assert plans(again.reconciler.reconcile()) == [(Act.END, 60.0)]


def test_what_is_due_and_could_not_be_done_is_done_at_the_next_look(
    node: Node, bait: Bait, controller: Recorder, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    machine(node)
    controller.faults[ID] = WnodesError("libvirt says no")
    bait.reconciler.reconcile()
    time.at += 60
    bait.reconciler.reconcile()
    assert "end: libvirt says no" in words(caplog)
    controller.faults.clear()
    time.at += 15
    bait.reconciler.reconcile()
    assert controller.done == [(Act.END, ID)] * 2


def test_each_line_says_what_it_rests_on(node: Node, bait: Bait) -> None:
    machine(node)
    (line,) = bait.reconciler.look()
    assert (line.action.machine, line.action.job) == (ID, "7")
    assert line.grounds["LRMS"] == "lists no such job here"
    assert line.grounds["libvirt"] == "lists its domain"
    assert line.grounds["files"] == "none"


# -- actions that hang -----------------------------------------------------------------------------


def test_an_action_that_hangs_keeps_no_other_waiting_and_is_not_begun_again(
    node: Node, bait: Bait, controller: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in ("7", "8"):
        node.batch.grant(job)
        machine(node, job, runs=False)
    controller.hangs[ID] = threading.Event()
    monkeypatch.setattr(module, "_AT_ONCE", 0.05)
    assert plans(bait.reconciler.reconcile()) == [(Act.LOST, 0.0), (Act.LOST, 0.0)]
    eventually(lambda: len(controller.done) == 2)
    eventually(lambda: not bait.reconciler._acting[OTHER].is_alive())
    for _ in range(3):
        (line,) = bait.reconciler.reconcile()  # the first is in hand
        assert line.action.machine == OTHER
        eventually(lambda: not bait.reconciler._acting[OTHER].is_alive())
    eventually(lambda: controller.done.count((Act.LOST, OTHER)) == 4)
    assert controller.done.count((Act.LOST, ID)) == 1
    controller.hangs.pop(ID).set()
    eventually(lambda: not bait.reconciler._acting[ID].is_alive())
    bait.reconciler.reconcile()
    eventually(lambda: controller.done.count((Act.LOST, ID)) == 2)


def test_many_who_reconcile_at_once_do_it_once(
    node: Node, bait: Bait, controller: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.batch.grant("7")
    machine(node, runs=False)
    controller.hangs[ID] = threading.Event()
    monkeypatch.setattr(module, "_AT_ONCE", 0.05)
    threads = [threading.Thread(target=bait.reconciler.reconcile) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    eventually(lambda: controller.done)
    assert controller.done == [(Act.LOST, ID)]


# -- what is said ----------------------------------------------------------------------------------


def test_a_line_for_each_change_and_none_for_what_stays(
    node: Node, bait: Bait, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine(node)
    for _ in range(4):
        bait.reconciler.reconcile()
        time.at += 15
    doubt = "end in 60 s, unless it changes: the LRMS lists no such job here"
    assert words(caplog) == [doubt]
    for _ in range(3):
        bait.reconciler.reconcile()
    due = "end: the LRMS lists no such job here"
    assert words(caplog) == [doubt, due]
    node.batch.grant("7")
    bait.reconciler.reconcile()
    node.batch.jobs = {}
    bait.reconciler.reconcile()
    assert words(caplog) == [doubt, due, doubt]
    record = caplog.records[-1]
    assert (record.__dict__["job"], record.__dict__["machine"]) == ("7", ID)


def test_a_report_is_said_once_and_nothing_is_done(
    node: Node, bait: Bait, controller: Recorder, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine(node)
    for _ in range(5):
        bait.tasks.heard.note("7", 0)
        assert plans(bait.reconciler.reconcile()) == [(Act.REPORT, 0.0)]
        time.at += 1000
    assert len(words(caplog)) == 1
    assert controller.done == []
    assert bait.reconciler._acting == {}


# -- strangers -------------------------------------------------------------------------------------


def folder(node: Node, id_: str, precious: bool = False, runtime: bool = False) -> Path:
    where = paths(node.config, id_)
    made = where.runtime if runtime else where.disks
    made.mkdir(parents=True)
    (made / "file").touch()
    if precious:
        where.ran.touch()
    return made


@pytest.mark.parametrize("runtime", [True, False])
def test_files_that_nobody_knows_go_in_time(
    node: Node, bait: Bait, time: Time, runtime: bool
) -> None:
    stranger = folder(node, ID, runtime=runtime)
    assert plans(bait.reconciler.reconcile()) == [(Act.DESTROY, 60.0)]
    time.at += 60
    bait.reconciler.reconcile()
    assert not stranger.exists()
    assert bait.reconciler.reconcile() == []
    assert [event.what for event in node.ledger.events(ID)] == [
        "destroyed: files that no ledger row knows"
    ]


def test_a_users_disk_is_never_removed(node: Node, bait: Bait, time: Time) -> None:
    stranger = folder(node, ID, precious=True)
    folder(node, ID, runtime=True)
    for _ in range(3):
        assert plans(bait.reconciler.reconcile()) == [(Act.REPORT, 0.0)]
        time.at += 1000
    assert (stranger / "file").exists()


def test_files_in_use_by_a_process_that_libvirt_does_not_know_stay(
    node: Node, bait: Bait, time: Time
) -> None:
    id_ = str(uuid.uuid4())
    stranger = folder(node, id_)
    qemu = started(QEMU, *guest(id_, stranger.parent))
    try:
        for _ in range(2):
            assert plans(bait.reconciler.reconcile()) == [(Act.REPORT, 0.0)]
            time.at += 1000
        assert stranger.exists()
        assert lives(qemu)
    finally:
        end(qemu)


def test_what_is_no_machines_folder_is_nobodys_business(node: Node, bait: Bait, time: Time) -> None:
    parent = folder(node, "lost+found").parent
    folder(node, ID.upper())
    (parent / "README").touch()
    for _ in range(2):
        assert bait.reconciler.reconcile() == []
        time.at += 1000
    assert len(list(parent.iterdir())) == 3


def test_a_domain_that_nobody_knows_goes_in_time_with_its_files(
    node: Node, bait: Bait, time: Time
) -> None:
    domain(node)
    stranger = folder(node, ID, precious=True)
    assert plans(bait.reconciler.reconcile()) == [(Act.DESTROY, 60.0)]
    assert list(node.hypervisor.domains()) == [ID]
    time.at += 60
    bait.reconciler.reconcile()
    assert node.hypervisor.domains() == {}
    assert not stranger.exists()


def test_one_that_is_promised_while_the_stranger_is_looked_at_stays(
    node: Node, bait: Bait, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = folder(node, ID)
    bait.reconciler.reconcile()
    time.at += 60
    # It comes when the rows have been read, and before anything is done.
    monkeypatch.setattr(bait.drain, "by", lambda: [machine(node, runs=False)].clear())
    assert plans(bait.reconciler.reconcile()) == [(Act.DESTROY, 0.0)]
    assert stranger.exists()


# -- usage -----------------------------------------------------------------------------------------


def begin(node: Node, *jobs: str) -> None:
    """VMs that have been started, each with a usage."""
    for job in jobs:
        node.batch.grant(job)
        machine(node, job, state=State.BUILDING)
        for state in (State.STARTING, State.BOOTING, State.READY):
            node.ledger.change(machine_id(CLUSTER, job, 0), "on", state=state)


def test_what_libvirt_lists_is_brought_up_to_date(node: Node, bait: Bait, disk: Path) -> None:
    begin(node, "7", "8")
    where = paths(node.config, ID)
    where.disks.mkdir(parents=True)
    where.disk.write_bytes(disk.read_bytes())
    before = {usage.machine: usage for usage in node.ledger.usages()}
    bait.reconciler.reconcile()
    after = {usage.machine: usage for usage in node.ledger.usages()}
    assert all(after[id_].at > before[id_].at for id_ in (ID, OTHER))
    assert (after[ID].disk, after[OTHER].disk) == (1, 0)  # a GiB that is begun is one
    where.disk.unlink()  # its size is known by now
    bait.reconciler.reconcile()
    assert {usage.machine: usage.disk for usage in node.ledger.usages()} == {ID: 1, OTHER: 0}


def test_a_disk_that_tells_no_size(node: Node, bait: Bait) -> None:
    begin(node, "7")
    where = paths(node.config, ID)
    where.disks.mkdir(parents=True)
    where.disk.symlink_to(where.disk)
    bait.reconciler.reconcile()
    assert [usage.disk for usage in node.ledger.usages()] == [0]


def test_nothing_is_counted_of_what_nobody_sees(
    node: Node, bait: Bait, mocker: MockerFixture
) -> None:
    begin(node, "7")
    node.hypervisor.on_stop(lambda _machine, _how: None)
    before = node.ledger.usages()
    traffic = mocker.patch.object(node.hypervisor, "traffic", side_effect=UnknownError("away"))
    bait.reconciler.reconcile()
    assert traffic.call_count == 1
    assert node.ledger.usages() == before


def test_what_died_unseen_is_counted_to_its_last_sign_of_life(node: Node, bait: Bait) -> None:
    begin(node, "7")
    node.hypervisor.on_stop(lambda _machine, _how: None)
    node.hypervisor.destroy(ID)
    bait.reconciler.reconcile()
    (usage,) = node.ledger.usages()
    assert (usage.clock, usage.ended) == (Clock.CLOSED, None)
    node.ledger.tick({ID: Load(0, {})})
    (later,) = node.ledger.usages()
    assert later.wall == usage.wall


# -- what is asked of it ---------------------------------------------------------------------------


def test_a_jobs_machines_are_released_by_who_has_them_in_hand(
    node: Node, bait: Bait, controller: Recorder
) -> None:
    machine(node)
    machine(node, "8")
    bait.reconciler.release("7")
    bait.reconciler.release("nobody's")
    assert controller.done == [(Act.END, ID)]
    bait.reconciler.end(OTHER)
    assert controller.done == [(Act.END, ID), (Act.END, OTHER)]
    with pytest.raises(AbsentError, match="no VM"):
        bait.reconciler.end("nobody's")


def test_a_stop_that_nobody_can_see_to_is_said(
    node: Node, bait: Bait, caplog: pytest.LogCaptureFixture
) -> None:
    machine(node, runs=False)
    bait.reconciler.stopped("nobody's", "killed")
    assert words(caplog) == []
    bait.reconciler.stopped(ID, "killed")
    assert words(caplog) == [f"{ID} can't be seen to: killed"]


def test_a_drain_reaches_the_plan(node: Node, bait: Bait, controller: Recorder, time: Time) -> None:
    node.batch.grant("7")
    machine(node)
    assert bait.reconciler.look() == []
    bait.drain._now = Draining(time.time(), time.time() + 100, "cooling")
    assert bait.reconciler.look() == []
    time.at += 100
    bait.reconciler.reconcile()
    assert controller.done == [(Act.EVICT, ID)]


def test_a_vm_that_floods_libvirt_is_ended_without_it(
    node: Node, bait: Bait, caplog: pytest.LogCaptureFixture
) -> None:
    folder = node.hypervisor.processes.folder
    id_, other = machine(node, runs=False), machine(node, "8", runs=False)
    floods, stays = (started(QEMU, *guest(each, folder)) for each in (id_, other))
    reaper = threading.Thread(target=floods.wait)  # as libvirt reaps its own
    reaper.start()
    for _ in range(3):  # what libvirt had told meanwhile is still on its way
        bait.reconciler.flooded(id_)
    reaper.join()
    said = [each for each in caplog.records if "floods" in each.getMessage()]
    assert [(each.job, each.machine, each.getMessage()) for each in said] == [  # type: ignore[attr-defined]
        ("7", id_, "its guest floods the node with crash events: ended")
    ]
    assert floods.returncode == -signal.SIGKILL
    assert lives(stays)


def test_a_flood_of_another_sites_vm_ends_nothing(
    bait: Bait, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = started(QEMU, *guest(ID, tmp_path / "another" / "machines"))
    bait.reconciler.flooded(ID)
    assert lives(theirs)
    assert not caplog.records
