"""What Torque says of allocations and nodes; recorded from 6.1.3, see data/torque-6.1.3/record."""

import os
import re
from pathlib import Path

import pytest

from wnodes_lrms.config.load import Default
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.lrms.torque.allocation import (
    parse_allocation,
    parse_hosts,
    parse_node,
    parse_place,
    records,
)
from wnodes_lrms.lrms.torque.node import Torque
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


def test_each_start_is_a_restart_of_its_own() -> None:
    assert [granted(name).restart for name in ("resource", "again")] == [0, 1]


def test_a_task_of_an_array() -> None:
    found = granted("array")
    assert found.job == "27[3].tqhost"
    assert (found.cores, found.memory) == (1, 1024)


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


@pytest.mark.parametrize("name", ["held", "waiting"])
def test_a_job_that_does_not_run_is_refused(name: str) -> None:
    with pytest.raises(RejectedError, match=r"does not run \(state H\)"):
        granted(name)


def test_an_ending_job_is_refused() -> None:
    listing = recorded("plain.qstat").replace("<job_state>R<", "<job_state>E<")
    with pytest.raises(RejectedError, match="is ending"):
        parse(job_of("plain"), listing)


def test_a_job_without_memory_is_told_what_to_do() -> None:
    with pytest.raises(RejectedError, match=r"-l mem=.*resources_default\.mem") as caught:
        granted("no-memory")
    assert not caught.value.retry


def test_memory_that_was_asked_for_by_dash_l_upper() -> None:
    asked = (
        "<req_information><task_count.0>1</task_count.0><total_memory.0>1048576kb</total_memory.0>"
        "<memory.0>1048576kb</memory.0><total_memory.1>2gb</total_memory.1></req_information>"
    )
    listing = recorded("no-memory.qstat").replace("<euser>", asked + "<euser>")
    assert parse(job_of("no-memory"), listing).memory == 3072


def test_a_job_elsewhere_or_on_two_nodes_is_refused() -> None:
    with pytest.raises(RejectedError, match="here hv9"):
        granted("plain", "hv9")
    two = recorded("plain.qstat").replace("tqhost/0-2<", "tqhost/0-1+hv2/0<")
    with pytest.raises(RejectedError, match=r"2 node\(s\) \(tqhost\+hv2\)"):
        parse(job_of("plain"), two)


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


def test_another_jobs_record_is_no_answer() -> None:
    for job in ("999.tqhost", "26", "2"):
        with pytest.raises(UnknownError, match="does not list"):
            parse(job, recorded("plain.qstat"))


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


def fake_command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s|" {name} "$@" >>{folder}/asked\n{script}\n')
    path.chmod(0o755)


@pytest.fixture
def recorded_torque(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that say what Torque said: it can't be installed here."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("qrerun", "qhold", "qalter"):
        fake_command(tmp_path, name, "")
    return tmp_path


def torque_of(home: Path) -> Torque:
    (home / "server_name").write_text("tqserver\n")
    return Torque("tqhost", [], home, home / "jobs")


def asked(folder: Path) -> str:
    path = folder / "asked"
    return path.read_text() if path.exists() else ""


def test_the_owner_is_who_torque_runs_the_job_as(recorded_torque: Path) -> None:
    text = recorded("plain.qstat").replace(">tqu<", ">nobody<", 1)
    text = text.replace("<euser>tqu", "<euser>nobody").replace("<egroup>tqu", "<egroup>nogroup")
    (recorded_torque / "said").write_text(text)
    fake_command(recorded_torque, "qstat", f"cat {recorded_torque}/said")
    found = torque_of(recorded_torque).allocation(JobId("26.tqhost"))
    assert (found.uid, found.gid, found.partition, found.cpus) == (65534, 65534, "batch", ())
    assert asked(recorded_torque) == "qstat|-f|-x|--|26.tqhost@tqserver|"


def test_an_owner_who_is_not_known_here_is_refused(recorded_torque: Path) -> None:
    text = recorded("plain.qstat").replace("<euser>tqu", "<euser>nobody-here")
    (recorded_torque / "said").write_text(text)
    fake_command(recorded_torque, "qstat", f"cat {recorded_torque}/said")
    with pytest.raises(RejectedError, match="not known on this node"):
        torque_of(recorded_torque).allocation(JobId("26.tqhost"))


def test_a_group_that_is_not_the_owners_is_refused(recorded_torque: Path) -> None:
    text = recorded("plain.qstat").replace("<euser>tqu", "<euser>nobody")
    (recorded_torque / "said").write_text(text.replace("<egroup>tqu", "<egroup>root"))
    fake_command(recorded_torque, "qstat", f"cat {recorded_torque}/said")
    with pytest.raises(RejectedError, match="nobody is not in the job's group 0"):
        torque_of(recorded_torque).allocation(Torque.job_id("26.tqhost"))


def test_the_server_is_the_nodes_own(
    recorded_torque: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torque = torque_of(recorded_torque)
    monkeypatch.setenv("PBS_SERVER", "three")
    monkeypatch.setenv("PBS_DEFAULT", "one:15001, two")
    torque.requeue(Torque.job_id("7[3].tqhost"))
    assert asked(recorded_torque) == "qrerun|--|7[3].tqhost@one:15001,two|"
    monkeypatch.setenv("PBS_DEFAULT", "-x")
    with pytest.raises(UnknownError, match="PBS_DEFAULT names no server"):
        torque.requeue(Torque.job_id("7"))
    monkeypatch.delenv("PBS_DEFAULT")
    monkeypatch.delenv("PBS_SERVER")
    (recorded_torque / "server_name").unlink()
    with pytest.raises(UnknownError, match="torque_home"):
        torque.requeue(Torque.job_id("7"))


def test_what_a_guest_says_is_only_a_comment(recorded_torque: Path) -> None:
    said = "its console said: x,stagein=/etc/shadow@evil:/x,depend=\"a'b\\=c"
    torque_of(recorded_torque).hold(Torque.job_id("7"), said)
    told = "wnodes: its console said: x stagein /etc/shadow evil:/x depend a b c"
    assert f"|qalter|-W|comment={told}|--|7@tqserver|" in f"|{asked(recorded_torque)}"


def test_an_attribute_that_is_told_twice_is_no_answer() -> None:
    text = recorded("plain.qstat").replace("<euser>", "<euser>root</euser><euser>")
    with pytest.raises(UnknownError, match="twice what euser is"):
        parse(job_of("plain"), text)


def test_a_torque_that_fails_is_unknown_never_empty(recorded_torque: Path) -> None:
    for name in ("qstat", "pbsnodes", "qrerun"):
        fake_command(recorded_torque, name, f"echo '{name}: cannot connect' >&2; exit 1")
    torque = torque_of(recorded_torque)
    for ask in (
        lambda: torque.allocation(JobId("7")),
        torque.live_jobs,
        lambda: torque.drain("x"),
        torque.resume,
        lambda: torque.requeue(JobId("7")),
    ):
        with pytest.raises(UnknownError, match="cannot connect"):
            ask()


def test_live_jobs(recorded_torque: Path) -> None:
    fake_command(recorded_torque, "pbsnodes", f"cat {DATA}/array.pbsnodes")
    on_node = {"27[3].tqhost": False, "27[7].tqhost": False}
    assert torque_of(recorded_torque).live_jobs() == on_node
    assert asked(recorded_torque) == LOOK
    fake_command(recorded_torque, "pbsnodes", "")
    with pytest.raises(UnknownError):
        torque_of(recorded_torque).live_jobs()


def test_a_suspended_job_is_off_its_nodes_list_and_still_there(recorded_torque: Path) -> None:
    """It is asked for because it has a VM here, by a mark, as no other is."""
    fake_command(recorded_torque, "pbsnodes", f"cat {DATA}/array.pbsnodes")
    suspended = recorded("plain.qstat").replace("<job_state>R<", "<job_state>S<")
    (recorded_torque / "said").write_text(suspended)
    fake_command(recorded_torque, "qstat", f"cat {recorded_torque}/said")
    (recorded_torque / "jobs").mkdir()
    for name in ("26.tqhost", "27[3].tqhost", "no job"):
        (recorded_torque / "jobs" / name).touch()
    on_node = {"27[3].tqhost": False, "27[7].tqhost": False}
    assert torque_of(recorded_torque).live_jobs() == on_node | {"26.tqhost": True}
    assert asked(recorded_torque) == LOOK + "qstat|-f|-x|--|26.tqhost@tqserver|"
    elsewhere = suspended.replace("tqhost/0-2<", "hv2/0-2<")
    for other in (elsewhere, suspended.replace("<job_state>S<", "<job_state>C<")):
        (recorded_torque / "said").write_text(other)
        assert torque_of(recorded_torque).live_jobs() == on_node
    fake_command(recorded_torque, "qstat", "echo 'qstat: Unknown Job Id Error' >&2; exit 1")
    assert torque_of(recorded_torque).live_jobs() == on_node
    fake_command(recorded_torque, "qstat", "echo 'qstat: cannot connect' >&2; exit 1")
    with pytest.raises(UnknownError, match="cannot connect"):
        torque_of(recorded_torque).live_jobs()


LOOK = "pbsnodes|-x|tqhost|"
ASKED = [
    ("drain", "free", "", "pbsnodes|-o|-N|wnodes: why|tqhost|"),
    ("drain", "ours", "", "pbsnodes|-o|-N|wnodes: why|tqhost|"),
    ("drain", "theirs", "bad disk", ""),
    ("resume", "free", "", ""),
    ("resume", "ours", "", "pbsnodes|-c|-N|n|tqhost|"),
    ("resume", "theirs", "bad disk", ""),
]


@pytest.mark.parametrize(("act", "state", "others", "done"), ASKED)
def test_only_our_own_drains_are_touched(
    recorded_torque: Path, act: str, state: str, others: str, done: str
) -> None:
    fake_command(recorded_torque, "pbsnodes", f"cat {DATA}/{state}.pbsnodes")
    torque = torque_of(recorded_torque)
    assert (torque.drain("why") if act == "drain" else torque.resume()) == others
    assert asked(recorded_torque) == LOOK + done


def test_a_drain_that_stands_is_not_asked_for_again(recorded_torque: Path) -> None:
    fake_command(recorded_torque, "pbsnodes", f"cat {DATA}/ours.pbsnodes")
    assert torque_of(recorded_torque).drain("new <kernel> & more") == ""
    assert asked(recorded_torque) == LOOK


def test_a_job_is_held_before_it_is_ended(recorded_torque: Path) -> None:
    torque_of(recorded_torque).hold(JobId("7.tqhost"), "no disk; really")
    assert asked(recorded_torque) == (
        "qhold|-h|o|--|7.tqhost@tqserver|"
        "qalter|-W|comment=wnodes: no disk; really|--|7.tqhost@tqserver|"
        "qrerun|--|7.tqhost@tqserver|"
    )


@pytest.mark.parametrize(("name", "node"), [("plain", "tqhost"), ("held", ""), ("waiting", "")])
def test_where_a_job_runs(name: str, node: str) -> None:
    assert parse_place(job_of(name), recorded(f"{name}.qstat")) == node
    with pytest.raises(UnknownError, match="does not list the job"):
        parse_place("424242.other", recorded(f"{name}.qstat"))


@pytest.mark.parametrize(
    ("says", "once"), [("True", ""), ("False", "it was submitted with `qsub -r n`")]
)
def test_a_job_may_be_submitted_to_run_but_once(
    recorded_torque: Path, says: str, once: str
) -> None:
    text = recorded("plain.qstat").replace("<Rerunable>True", f"<Rerunable>{says}")
    (recorded_torque / "said").write_text(text)
    fake_command(recorded_torque, "qstat", f"cat {recorded_torque}/said")
    assert torque_of(recorded_torque).runs_once(JobId("26.tqhost")) == once
