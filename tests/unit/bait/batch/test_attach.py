"""What a starter hears, and what it makes begin."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bait.batch.attach import attach
from bait.ledger.records import Row
from tests.unit.bait.batch.batchjobs import FIRST, last, reaches, ready, slow_to_answer
from tests.unit.conftest import NOBODY, Node, eventually, needs_root
from wnodes_lrms.errors import NotListedError, RejectedError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State, machine_id

pytestmark = needs_root  # files are given to the job's owner; port 22


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
        assert last(bait)["message"] == "the job asks for no VM, or has ended"
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


def test_a_job_that_has_ended_gets_no_other_vm_though_it_is_listed_for_a_while(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.batch.attach._NEWS", 0.0)
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    answers = attach(bait.batch, JobId("7"), NOBODY.pw_uid)
    assert next(answers)["state"] != "failed"
    bait.reconciler.release("7")
    (answer,) = answers
    assert (answer["state"], answer["retry"]) == ("failed", False)
    assert node.left() == []


def test_an_answer_that_was_asked_for_before_the_end_begins_no_vm(node: Node) -> None:
    """The batch system takes its time; its epilog is over before it answers."""
    node.batch.grant("7")
    bait, (asked, ended) = node.bait(), slow_to_answer(node)
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(last, bait)
        asked.wait()
        bait.reconciler.release("7")
        ended.set()
        assert heard.result(timeout=5)["message"] == "the job asks for no VM, or has ended"
    assert node.left() == []
