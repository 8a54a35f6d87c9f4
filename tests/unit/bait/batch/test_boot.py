"""A guest is ready once its SSH server greets, and is not waited for once it has stopped."""

import logging
from dataclasses import dataclass, field, replace

import libvirt
import pytest

from bait import metrics
from bait.batch import boot
from bait.batch.controller import BatchController
from bait.machine.files import paths
from bait.reconcile.plan import Act, Action
from tests.unit.bait.batch.batchjobs import FIRST, ID, last, reaches, ready
from tests.unit.conftest import Node, eventually, needs_root
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.lrms.interface import Charging
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State

pytestmark = needs_root  # files are given to the job's owner; port 22


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


def test_how_long_a_machine_took_is_measured(node: Node) -> None:
    def count() -> float | None:
        return metrics.REGISTRY.get_sample_value("wnodes_build_seconds_count", {"kind": "batch"})

    before = count() or 0
    ready(node)
    eventually(lambda: count() == before + 1)


@dataclass
class Charged(Charging):
    """In the place of the batch system's groups: what was done, and how libvirt had the VM then."""

    link: libvirt.virConnect
    refuses: str = ""
    done: list[tuple[str, bool]] = field(default_factory=list)

    def trouble(self) -> None:
        return None

    def adopt(self, pid: int, node: str, uid: int, job: str, patience: float) -> str:
        assert (pid, node, uid, job) == (4242, "hv1", 65534, "7")
        self._note("charged" if patience else "charged again")
        if self.refuses:
            raise WnodesError(self.refuses)
        return "it is charged"

    def set_aside(self, pid: int, node: str, job: str) -> None:
        assert (pid, node, job) == (4242, "hv1", "7")
        self._note("set aside")

    def clear(self, node: str, uid: int, job: str) -> None:
        assert (node, uid, job) == ("hv1", 65534, "7")

    def _note(self, what: str) -> None:
        state, _reason = self.link.lookupByUUIDString(ID).state()
        self.done.append((what, state == libvirt.VIR_DOMAIN_PAUSED))


@pytest.fixture
def charging(
    node: Node, libvirt_test: libvirt.virConnect, monkeypatch: pytest.MonkeyPatch
) -> Charged:
    """A node whose VMs are charged to their jobs. The test driver has no processes, and can't hold
    a domain from its start on."""
    machine = node.config.machine.model_copy(update={"charge": "cgroup"})
    node.config = node.config.model_copy(update={"machine": machine})
    node.vms = replace(node.vms, config=node.config)
    monkeypatch.setattr(node.hypervisor, "pid", lambda _machine: 4242)
    create = type(node.hypervisor).create

    def created(xml: str, *, held: bool) -> None:
        create(node.hypervisor, xml)
        if held:
            libvirt_test.lookupByUUIDString(ID).suspend()

    monkeypatch.setattr(node.hypervisor, "create", created)
    return Charged(libvirt_test)


def booted(node: Node, charging: Charged) -> BatchController:
    node.guests.answer(FIRST)
    node.batch.grant("7")
    batch = node.bait().batch
    batch.charging = batch.boot.charging = charging
    batch.prepare(JobId("7"), 0)
    reaches(node, State.READY)
    return batch


def runs(link: libvirt.virConnect) -> bool:
    return bool(link.lookupByUUIDString(ID).state()[0] == libvirt.VIR_DOMAIN_RUNNING)


def test_a_guest_takes_no_step_before_it_is_charged_to_its_job(
    node: Node, charging: Charged
) -> None:
    booted(node, charging)
    assert charging.done == [("charged", True)]
    assert runs(charging.link)
    assert "it is charged" in [event.what for event in node.ledger.events("7")]


def test_a_guest_that_can_not_be_charged_runs_all_the_same(
    node: Node, charging: Charged, caplog: pytest.LogCaptureFixture
) -> None:
    charging.refuses = "Slurm meters no jobs"
    with caplog.at_level(logging.WARNING):
        booted(node, charging)
    assert runs(charging.link)
    assert "not charged to its job: Slurm meters no jobs" in caplog.text


@pytest.mark.parametrize("refuses", ["", "Slurm meters no jobs"])
def test_that_a_guest_is_charged_is_written_down_once(
    node: Node,
    charging: Charged,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refuses: str,
) -> None:
    """However often it has to be done until libvirt lets the guest run."""
    resume = node.hypervisor.resume

    def resumed(machine: str) -> None:
        if len(charging.done) < 3:
            raise UnknownError("libvirt still does something else with it")
        resume(machine)

    monkeypatch.setattr(node.hypervisor, "resume", resumed)
    monkeypatch.setattr(boot, "_LOOK", 0.01)
    charging.refuses = refuses
    with caplog.at_level(logging.WARNING):
        node.batch.grant("7")
        batch = node.bait().batch
        batch.charging = batch.boot.charging = charging
        batch.prepare(JobId("7"), 0)
        eventually(lambda: len(charging.done) == 3)
        node.guests.answer(FIRST)
        reaches(node, State.READY)
    what = f"not charged to its job: {refuses}" if refuses else "it is charged"
    assert [event.what for event in node.ledger.events("7")].count(what) == 1
    assert caplog.text.count("not charged") == bool(refuses)


def test_what_is_charged_is_set_aside_before_it_is_paused_and_put_back_afterwards(
    node: Node, charging: Charged
) -> None:
    batch = booted(node, charging)
    for act in (Act.PAUSE, Act.CONTINUE, Act.WAKE):
        batch.carry_out(Action(act, ID, "7", ""), node.ledger.rows("7")[0])
    assert charging.done[1:] == [
        ("set aside", False),
        ("charged again", False),
        ("charged again", False),
    ]


def test_a_booting_guest_is_set_aside_and_put_back_with_its_job(
    node: Node, charging: Charged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With control groups v2 it would be frozen with its job, and libvirt could not pause it."""
    monkeypatch.setattr(boot, "_LOOK", 0.01)
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.charging = bait.batch.boot.charging = charging
    bait.batch.prepare(JobId("7"), 0)
    eventually(lambda: charging.done == [("charged", True)])
    node.batch.suspended = {"7"}
    bait.reconciler.reconcile()
    eventually(lambda: charging.done[1:] == [("set aside", False)])
    eventually(lambda: not runs(charging.link))
    node.batch.suspended = set()
    bait.reconciler.reconcile()
    eventually(lambda: charging.done[2:] == [("charged", True)])
    node.guests.answer(FIRST)
    reaches(node, State.READY)
    assert runs(charging.link)


def test_a_booting_guest_is_not_lost_to_a_libvirt_that_does_not_answer(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a new bait finds booting, while libvirt still does something else with it."""
    node.batch.grant("7")
    node.bait().batch.prepare(JobId("7"), 0)
    reaches(node, State.BOOTING)
    node.drop_tasks()
    resume, silent = node.hypervisor.resume, [True]

    def resumed(machine: str) -> None:
        if silent:
            raise UnknownError("libvirt still does something else with it")
        resume(machine)

    monkeypatch.setattr(node.hypervisor, "resume", resumed)
    node.bait().reconciler.reconcile()
    eventually(lambda: node.ledger.rows("7")[0].reason.startswith("libvirt still does"))
    silent.clear()
    eventually(lambda: node.ledger.rows("7")[0].reason == "")
    node.guests.answer(FIRST)
    reaches(node, State.READY)
