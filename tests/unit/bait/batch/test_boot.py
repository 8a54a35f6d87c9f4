"""A guest is ready once its SSH server greets, and is not waited for once it has stopped."""

import libvirt

from bait import metrics
from bait.machine.files import paths
from tests.unit.bait.batch.batchjobs import FIRST, ID, last, reaches, ready
from tests.unit.conftest import Node, eventually, needs_root
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
