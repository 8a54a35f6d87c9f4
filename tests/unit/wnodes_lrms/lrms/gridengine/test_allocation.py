"""On what Grid Engine 8.1.9 really said: see data/gridengine-8.1.9/record."""

from pathlib import Path

import pytest

from wnodes_lrms.config.load import Default
from wnodes_lrms.doctor import Status
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.gridengine import checks
from wnodes_lrms.lrms.gridengine.allocation import (
    Job,
    Memory,
    allocation_of,
    memory_of,
    parse_held,
    parse_job,
    parse_memory,
    parse_named,
    parse_queued,
    parse_queues,
    size_of,
)
from wnodes_lrms.model import Allocation

DATA = Path(__file__).parents[3] / "data" / "gridengine-8.1.9"
TAG = "small_debian_x86_64"
RULES = (Default(image="default_linux_x86_64", partition="main"),)


def recorded(name: str) -> str:
    # As wnodes_lrms.run.run decodes a program's output.
    return (DATA / name).read_bytes().decode("utf-8", "surrogateescape")


def number_in(name: str) -> str:
    return recorded(f"{name}.job").split("<JB_job_number>")[1].split("<")[0]


def job_of(name: str) -> Job:
    return parse_job(number_in(name), recorded(f"{name}.job"))


def allocation(name: str, task: str = "", node: str = "hv1") -> Allocation:
    number = number_in(name) + (f".{task}" if task else "")
    shares, whole = (parse_held(recorded(f"{name}.{form}")) for form in ("shares", "whole"))
    kinds = parse_memory(recorded("complexes"))
    return allocation_of(number, job_of(name), shares, whole, kinds, RULES, node)


def test_a_plain_job() -> None:
    found = allocation("plain")
    assert (found.tag, found.by) == (TAG, "environment")
    assert (found.job, found.cores, found.memory) == (number_in("plain"), 1, 1500)
    assert (found.partition, found.account, found.cpus) == ("main", "", ())
    assert found.uid >= 1000
    assert found.workdir.startswith("/tmp/")
    assert found.restart > 1_700_000_000  # when it started, in seconds since the epoch


def test_each_task_of_an_array_is_a_job() -> None:
    third, seventh = allocation("array", "3"), allocation("array", "7")
    assert third.job.endswith(".3")
    assert seventh.job.endswith(".7")
    with pytest.raises(UnknownError):
        allocation("array", "5")
    with pytest.raises(UnknownError):
        allocation("array")


def test_what_a_user_writes_is_only_that() -> None:
    job = job_of("hostile")
    plain = job_of("plain")
    assert (job.owner, job.uid, job.gid) == (plain.owner, plain.uid, plain.gid)
    assert "JB_uid" in job.environment["EVIL"]
    assert "folder <JB_uid>0<" in job.workdir
    found = allocation("hostile")
    assert (found.tag, found.by) == ("default_linux_x86_64", "default")


@pytest.mark.parametrize("said", ["", "error: commlib error", "<job_info", "<job_info/>", "<x/>"])
def test_an_odd_answer_is_no_answer(said: str) -> None:
    with pytest.raises(UnknownError):
        parse_held(said)
    with pytest.raises(UnknownError):
        parse_job("1", said)
    with pytest.raises(UnknownError):
        parse_queues(said)


def test_a_scratch_disk_that_was_asked_for() -> None:
    variable = "<VA_variable>WNODES_SCRATCH</VA_variable><VA_value>20</VA_value>"
    said = recorded("plain.job").replace(
        "<JB_env_list>", f"<JB_env_list><job_sublist>{variable}</job_sublist>"
    )
    shares, whole = (parse_held(recorded(f"plain.{form}")) for form in ("shares", "whole"))
    kinds, number = parse_memory(recorded("complexes")), number_in("plain")
    found = allocation_of(number, parse_job(number, said), shares, whole, kinds, RULES, "hv1")
    assert found.scratch == "20"


@pytest.mark.parametrize(
    ("variable", "tag", "by", "account"),
    [("OTHER", "", "", "sge"), ("WNODES_IMAGE", TAG, "environment", "")],
)
def test_a_lease_gets_no_default_and_a_wish_no_account_of_its_own_word(
    variable: str, tag: str, by: str, account: str
) -> None:
    said = recorded("plain.job").replace("WNODES_IMAGE", variable)
    said = said.replace("<JB_job_name>", "<JB_job_name>wnodes-lease-")
    number = number_in("plain")
    shares, whole = (parse_held(recorded(f"plain.{form}")) for form in ("shares", "whole"))
    kinds = parse_memory(recorded("complexes"))
    found = allocation_of(number, parse_job(number, said), shares, whole, kinds, RULES, "hv1")
    assert (found.tag, found.by, found.account) == (tag, by, account)


@pytest.mark.parametrize("state", ["s", "S", "T", "Rs", "dT", "r", "t", "Rr", "dr", "hr"])
def test_which_states_are_those_of_suspended_jobs(state: str) -> None:
    said = recorded("suspended.listing").replace(">Ss<", f">{state}<")
    assert parse_held(said)[0].suspended == bool({"s", "S", "T"} & set(state))


@pytest.mark.parametrize(
    ("text", "size"),
    [("1G", 1024**3), ("1.5M", 1572864), ("2k", 2000), ("77", 77), ("INFINITY", 0), ("", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


def test_the_smallest_memory_counts() -> None:
    job = job_of("plain")
    kinds = [Memory("h_vmem", 0, True), Memory("mem_free", 1, True), Memory("ram", 1024**3, False)]
    assert memory_of(job, 2, kinds) == 1024
    with pytest.raises(RejectedError, match="consumable"):
        memory_of(job, 1, [Memory("h_vmem", 0, True)])


def test_consumables_of_memory() -> None:
    assert parse_memory(recorded("complexes")) == [Memory("mem_free", 1024**3, True)]


def test_the_queues_of_a_host() -> None:
    assert parse_queues(recorded("queues.listing")) == {"grid@hv1": "d", "main@hv1": ""}


def test_the_doctor_sees() -> None:
    assert checks.memory(recorded("complexes")).status is Status.OK
    assert checks.memory("").status is Status.FAULT
    assert checks.offers("hv1", recorded("hosts")).status is Status.OK
    assert checks.offers("hv3", recorded("hosts")).status is Status.FAULT
    states = parse_queues(recorded("queues.listing"))
    check = checks.queues("hv1", states)
    assert check.status is Status.WARNING
    assert "grid@hv1 (d)" in check.seen


@pytest.mark.parametrize("name", ["JB_owner", "JB_uid", "JB_project", "JB_account", "JB_job_name"])
def test_what_is_told_twice_is_not_told(name: str) -> None:
    twice = f"<{name}>7</{name}>" * 2
    said = recorded("plain.job").replace("<JB_job_number>", f"{twice}<JB_job_number>")
    with pytest.raises(UnknownError, match=f"does not tell {name}"):
        parse_job(number_in("plain"), said)


def test_jobs_by_their_name() -> None:
    assert parse_named(recorded("live.listing"), "sleep.sh") == ["40"]
    assert parse_named(recorded("live.listing"), "sleep") == []
    assert parse_named(recorded("queued.listing"), "lease-waits") == ["1"]
    assert parse_queued(recorded("queued.listing")) == {"1"}
    assert parse_queued(recorded("live.listing")) == set()
