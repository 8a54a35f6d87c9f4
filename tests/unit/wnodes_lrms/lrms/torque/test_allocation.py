"""What Torque says of allocations and nodes; recorded from 6.1.3, see data/torque-6.1.3/record."""

import re
from pathlib import Path

import pytest

from wnodes_lrms.config.load import Default
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.torque.allocation import (
    parse_allocation,
    parse_hosts,
    parse_node,
    records,
)
from wnodes_lrms.model import Allocation

DATA = Path(__file__).parents[3] / "data/torque-6.1.3"


def recorded(name: str) -> str:
    return (DATA / name).read_bytes().decode("utf-8", "surrogateescape")


def job_of(name: str) -> str:
    return recorded(f"{name}.qstat").partition("<Job_Id>")[2].partition("<")[0]


RULE = Default(image="site_linux_x86_64", partition="grid")


def whois(user: str, group: str) -> tuple[int, int]:
    return {("tqu", "tqu"): (1004, 1005)}[user, group]


def parse(job: str, listing: str, node: str = "tqhost") -> Allocation:
    return parse_allocation(job, listing, [RULE], node, whois)


def granted(name: str, node: str = "tqhost") -> Allocation:
    return parse(job_of(name), recorded(f"{name}.qstat"), node)


def test_a_job_that_wishes_in_its_environment() -> None:
    assert granted("environment") == Allocation(
        job="24.tqhost",
        restart=0,
        uid=1004,
        gid=1005,
        account="",
        partition="batch",
        cores=2,
        memory=1500,
        cpus=(),
        workdir="/home/tqu",
        tag="small_linux_x86_64",
        by="environment",
    )


def test_a_job_that_asks_for_a_scratch_disk() -> None:
    listing = recorded("environment.qstat").replace(
        "WNODES_IMAGE=", "WNODES_SCRATCH=20,WNODES_IMAGE="
    )
    assert parse(job_of("environment"), listing).scratch == "20"


def test_a_job_that_wishes_by_a_resource() -> None:
    found = granted("resource")
    assert (found.tag, found.by) == ("small_linux_x86_64", "resource")
    assert (found.cores, found.memory, found.account) == (1, 1024, "")


def test_the_resource_comes_before_the_environment() -> None:
    listing = recorded("resource.qstat").replace(
        "PBS_O_HOST", "WNODES_IMAGE=other_linux_x,PBS_O_HOST"
    )
    assert parse(job_of("resource"), listing).by == "resource"


def test_a_job_without_a_wish_and_memory_by_process() -> None:
    found = granted("plain")
    assert (found.cores, found.memory, found.tag, found.by) == (3, 2100, "", "")


def test_the_sites_own_wish_goes_by_the_queue_and_never_by_the_users_word() -> None:
    listing = recorded("plain.qstat").replace("<queue>batch<", "<queue>grid<")
    found = parse(job_of("plain"), listing)
    assert (found.tag, found.by) == ("site_linux_x86_64", "default")
    rule = Default(image="site_linux_x86_64", account="physics")
    listing = recorded("environment.qstat").replace("WNODES_IMAGE", "NONE")
    assert "<Account_Name>physics<" in listing
    job = job_of("environment")
    assert parse_allocation(job, listing, [rule], "tqhost", whois).tag == ""


def test_a_lease_asks_for_no_machine_and_bears_its_account() -> None:
    listing = recorded("environment.qstat").replace(">plain.sh<", ">wnodes-lease-1234<")
    found = parse(job_of("environment"), listing.replace("<queue>batch<", "<queue>grid<"))
    assert (found.account, found.tag, found.by) == ("physics", "", "")


def test_slots_that_were_named_one_by_one() -> None:
    assert re.search(r"<exec_host>tqhost/\d\+tqhost/\d<", recorded("procs.qstat"))
    assert granted("procs").cores == 2


@pytest.mark.parametrize("name", ["hostile", "bytes"])
def test_what_the_user_writes_changes_nothing(name: str) -> None:
    found = granted(name)
    assert (found.uid, found.gid, found.cores, found.memory) == (1004, 1005, 1, 10)


def test_the_form_with_lines_could_be_forged_and_is_not_read() -> None:
    assert recorded("hostile.lines").count("\n    euser = root\n") >= 1
    (record,) = records(recorded("hostile.qstat"), "Job")
    assert record["Account_Name"].startswith("</Account_Name><euser>root</euser>")
    assert "\n    euser = root" in record["Account_Name"]


def test_memory_that_was_asked_for_by_dash_l_upper() -> None:
    asked = (
        "<req_information><task_count.0>1</task_count.0><total_memory.0>1048576kb</total_memory.0>"
        "<memory.0>1048576kb</memory.0><total_memory.1>2gb</total_memory.1></req_information>"
    )
    listing = recorded("no-memory.qstat").replace("<euser>", asked + "<euser>")
    assert parse(job_of("no-memory"), listing).memory == 3072


@pytest.mark.parametrize(
    "listing",
    [
        "",
        "\n",
        "qstat: Unknown Job Id Error 999.tqhost\n",
        '<?xml version="1.0"?>\n<Data></Data>',
        recorded("plain.qstat")[:-20],
        recorded("plain.qstat")[:300] + "</Data>",
        recorded("plain.qstat").replace("<euser>tqu</euser>", ""),
        recorded("plain.qstat").replace("<start_count>1", "<start_count>"),
        recorded("plain.qstat").replace("tqhost/0-2<", "tqhost/a<"),
    ],
    ids=[
        "nothing",
        "line",
        "message",
        "no job",
        "broken off",
        "not formed",
        "user",
        "count",
        "host",
    ],
)
def test_what_is_no_answer_is_unknown(listing: str) -> None:
    with pytest.raises(UnknownError):
        parse(job_of("plain"), listing)


@pytest.mark.parametrize(
    ("exec_host", "slots"),
    [
        ("", {}),
        ("a/0", {"a": 1}),
        ("a/0-1", {"a": 2}),
        ("a/0+a/1", {"a": 2}),
        ("a.site.org/0-1,3,5-7+b/0", {"a.site.org": 6, "b": 1}),
    ],
)
def test_slots_in_all_their_forms(exec_host: str, slots: dict[str, int]) -> None:
    assert parse_hosts(exec_host) == slots


@pytest.mark.parametrize("exec_host", ["a", "a/", "/0", "a/0-", "a/-1", "a/x", "a/0+", "+a/0"])
def test_slots_that_are_not_understood_are_unknown(exec_host: str) -> None:
    with pytest.raises(UnknownError):
        parse_hosts(exec_host)


def test_records_of_several_jobs_keep_apart() -> None:
    both = (
        recorded("plain.qstat").strip().removesuffix("</Data>")
        + recorded("array.qstat").strip().partition("<Data>")[2]
    )
    found = list(records(both, "Job"))
    assert [each["Job_Id"] for each in found] == ["26.tqhost", "27[3].tqhost"]
    assert "Resource_List.pmem" in found[0]
    assert "Resource_List.pmem" not in found[1]


def test_a_node_and_its_jobs() -> None:
    assert parse_node("tqhost", recorded("busy.pbsnodes")).jobs == {"26.tqhost"}
    assert parse_node("tqhost", recorded("array.pbsnodes")).jobs == {"27[3].tqhost", "27[7].tqhost"}
    found = parse_node("tqhost", recorded("free.pbsnodes"))
    assert (set(found.state), found.note, set(found.jobs)) == ({"free"}, "", set())
    assert found.properties == {"wnodes"}
    assert parse_node("tqhost", recorded("ours.pbsnodes")).note == "wnodes: new <kernel> & more"


@pytest.mark.parametrize("listing", ["", "pbsnodes: Unknown node", "<Data></Data>"])
def test_a_node_that_is_not_described_is_unknown(listing: str) -> None:
    with pytest.raises(UnknownError):
        parse_node("tqhost", listing)
    with pytest.raises(UnknownError):
        parse_node("hv9", recorded("free.pbsnodes"))


def test_an_attribute_that_is_told_twice_is_no_answer() -> None:
    text = recorded("plain.qstat").replace("<euser>", "<euser>root</euser><euser>")
    with pytest.raises(UnknownError, match="twice what euser is"):
        parse(job_of("plain"), text)
