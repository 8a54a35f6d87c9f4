"""On what OpenPBS 23.06 really said: see data/openpbs-23.06/record."""

import grp
import os
import pwd
from pathlib import Path

import pytest

from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.lrms.openpbs import allocation as openpbs
from wnodes_lrms.lrms.openpbs.allocation import (
    attributes,
    parse_allocation,
    parse_drain,
    parse_node,
    parse_place,
)
from wnodes_lrms.lrms.openpbs.node import OpenPBS
from wnodes_lrms.model import Allocation

DATA = Path(__file__).parents[3] / "data" / "openpbs-23.06"
NODE = "pbsbox"
USER, UID, GID = "pbsu", 4001, 4001


def recorded(name: str) -> str:
    # As wnodes_lrms.run.run decodes a program's output.
    return (DATA / name).read_bytes().decode("utf-8", "surrogateescape")


@pytest.fixture(autouse=True)
def known_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded user, as the node's databases would give him."""

    def user(name: str) -> pwd.struct_passwd:
        if name != USER:
            raise KeyError(name)
        return pwd.struct_passwd((USER, "x", UID, GID, "", "/tmp/pbsu", "/bin/bash"))

    class Group:
        gr_gid = GID

    monkeypatch.setattr(pwd, "getpwnam", user)
    monkeypatch.setattr(grp, "getgrnam", lambda _name: Group)
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid])


def allocation(name: str, node: str = NODE) -> Allocation:
    listing = recorded(f"{name}.qstat")
    return parse_allocation(listing.split()[2], listing, node)


def test_a_plain_job() -> None:
    listing = recorded("plain.qstat")
    assert allocation("plain") == Allocation(
        job=listing.split()[2],
        restart=0,
        uid=UID,
        gid=GID,
        account="",
        partition="workq",
        cores=2,
        memory=1500,
        cpus=(),
        workdir="/tmp",
        tag="",
    )


def test_the_account_is_the_users_word_but_for_a_lease() -> None:
    listing = recorded("plain.qstat")
    assert "Account_Name = physics" in listing
    lease = listing.replace("    queue = ", "    Resource_List.wnodes_by = lease\n    queue = ", 1)
    assert parse_allocation(lease.split()[2], lease, NODE).account == "physics"


def test_a_wish_that_the_hook_has_marked() -> None:
    found = allocation("wished")
    assert (found.tag, found.by, found.cores, found.memory) == ("small", "environment", 3, 1024)


def test_without_the_hook_resource_and_environment_are_the_wish() -> None:
    listing = recorded("wished.qstat")
    lines = [line for line in listing.split("\n") if "Resource_List.wnodes_by" not in line]
    job = listing.split()[2]
    assert parse_allocation(job, "\n".join(lines), NODE).by == "resource"
    lines = [line for line in lines if "Resource_List.vm" not in line]
    found = parse_allocation(job, "\n".join(lines), NODE)
    assert (found.tag, found.by) == ("small", "environment")


@pytest.mark.parametrize("name", ["rerun", "suspended"])
def test_restart_grows_with_each_run(name: str) -> None:
    assert allocation(name).restart == 1


def test_the_task_of_an_array_has_its_brackets() -> None:
    found = allocation("array")
    assert found.job.endswith(f"[3].{NODE}")
    assert (found.cores, found.memory) == (1, 200)


def test_chunks_on_one_node_are_one_allocation() -> None:
    found = allocation("chunks")
    assert (found.cores, found.memory) == (5, 700)


@pytest.mark.parametrize(
    ("exec_vnode", "granted"),
    [
        ("(hv1:ncpus=2:mem=512000kb)", (2, 500)),
        ("(hv1[0]:ncpus=1:mem=1048576kb+hv1[1]:ncpus=3)", (4, 1024)),
        ("(hv1:mem=2gb:ngpus=1)", (1, 2048)),
    ],
)
def test_forms_of_exec_vnode(exec_vnode: str, granted: tuple[int, int]) -> None:
    listing = recorded("plain.qstat").replace(f"({NODE}:ncpus=2:mem=1536000kb)", exec_vnode)
    found = parse_allocation(listing.split()[2], listing, "hv1")
    assert (found.cores, found.memory) == granted


def test_several_nodes_are_refused() -> None:
    listing = recorded("chunks.qstat").replace(f"+({NODE}:", "+(hv2:", 1)
    with pytest.raises(RejectedError, match="hv2, pbsbox"):
        parse_allocation(listing.split()[2], listing, NODE)
    with pytest.raises(RejectedError, match="exactly one node, here hv9"):
        allocation("plain", "hv9")


def test_a_job_without_memory_is_refused() -> None:
    with pytest.raises(RejectedError, match="has no memory of its own"):
        allocation("no-memory")


def test_no_allocation_is_not_an_answer() -> None:
    with pytest.raises(UnknownError, match="state is H"):
        allocation("held")
    ending = recorded("plain.qstat").replace("job_state = R", "job_state = E")
    with pytest.raises(RejectedError, match="is ending"):
        parse_allocation(ending.split()[2], ending, NODE)


def test_only_a_manager_is_told_whose_a_job_is() -> None:
    with pytest.raises(UnknownError, match="managers"):
        allocation("not-a-manager")


def test_nothing_that_a_user_writes_counts() -> None:
    found = allocation("forged")
    assert (found.uid, found.cores, found.memory) == (UID, 1, 200)
    listing = recorded("forged.qstat")
    assert "Job Id: 1.pbsbox" in listing  # the account's text, which tries to be a job
    with pytest.raises(UnknownError, match="does not list"):
        parse_allocation("1.pbsbox", listing, NODE)


def test_a_variable_that_ends_in_a_backslash_hides_no_other() -> None:
    listing = recorded("forged.qstat")
    for value, tag in ((r"ends in \\", "small"), ("goes on\\, and on\\", "")):
        wished = listing.replace("NUMBER=nan,", f"BACK={value},WNODES_IMAGE=small,")
        assert wished != listing
        assert parse_allocation(wished.split()[2], wished, NODE).tag == tag


@pytest.mark.parametrize(
    "listing", ["", "qstat: no server", "    job_state = R\n", "Job Id: 1\n    a = 1\n    a = 2\n"]
)
def test_an_odd_listing_is_no_answer(listing: str) -> None:
    with pytest.raises(UnknownError):
        parse_allocation("1", listing, NODE)


def test_jobs_of_a_node() -> None:
    jobs = openpbs.parse_jobs(parse_node(NODE, recorded("jobs.node")))
    assert len(jobs) == 2
    assert {job.partition("[")[2] for job in jobs} == {f"3].{NODE}", f"4].{NODE}"}
    assert openpbs.parse_jobs(parse_node(NODE, recorded("free.node"))) == set()


def test_a_suspended_job_is_off_its_nodes_list_and_still_there() -> None:
    listing = recorded("suspended.qstat")
    job = listing.split()[2]
    assert job not in openpbs.parse_jobs(parse_node(NODE, recorded("suspended.node")))
    assert openpbs.parse_suspended(listing, NODE) == {job}
    assert openpbs.parse_suspended(listing, "hv2") == set()
    assert openpbs.parse_suspended(recorded("plain.qstat"), NODE) == set()


def test_why_a_node_is_offline() -> None:
    assert parse_drain(parse_node(NODE, recorded("free.node"))) is None
    assert parse_drain(parse_node(NODE, recorded("ours-offline.node"))) == "wnodes: mend the disk"
    assert parse_drain(parse_node(NODE, recorded("offline.node"))) == "the fan is loud"


@pytest.mark.parametrize("text", ["", "pbsbox\n", "Node: pbsbox,  Error: Unknown node \n"])
def test_what_does_not_describe_a_node(text: str) -> None:
    with pytest.raises(UnknownError):
        parse_node(NODE, text)


class Commands:
    """PBS's commands: each prints what was recorded, and is written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("qstat", "qselect", "pbsnodes"):
            script = (
                f'#!/bin/sh\necho "{name} $*" >>{folder}/asked\n'
                f"[ ! -e {folder}/{name}.out ] || cat {folder}/{name}.out\n"
            )
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)

    def say(self, name: str, file: str) -> None:
        (self.folder / f"{name}.out").write_text(recorded(file))

    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "pbs.conf").write_text("PBS_EXEC=/opt/pbs\nPBS_SERVER=pbsserver\n")
    monkeypatch.setenv("PBS_CONF_FILE", str(tmp_path / "pbs.conf"))
    return Commands(tmp_path)


def test_live_jobs_are_those_on_the_node_and_the_suspended(commands: Commands) -> None:
    commands.say("pbsnodes", "jobs.node")
    on_node = OpenPBS(NODE).live_jobs()
    assert list(on_node.values()) == [False, False]
    listing = recorded("suspended.qstat")
    (commands.folder / "qselect.out").write_text(listing.split()[2] + "\n")
    commands.say("qstat", "suspended.qstat")
    assert OpenPBS(NODE).live_jobs() == on_node | {listing.split()[2]: True}
    assert commands.asked()[-1] == f"qstat -f -w -- {listing.split()[2]}@pbsserver"
    (commands.folder / "qselect.out").write_text("-Q\n")
    with pytest.raises(RejectedError, match="no job id"):
        OpenPBS(NODE).live_jobs()


def test_a_job_is_asked_for_at_the_configured_server(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.say("qstat", "wished.qstat")
    job = OpenPBS.job_id(recorded("wished.qstat").split()[2])
    assert OpenPBS(NODE).allocation(job).uid == UID
    monkeypatch.setenv("PBS_SERVER", "other:15001")
    OpenPBS(NODE).allocation(job)
    monkeypatch.setenv("PBS_SERVER", "-Q")
    with pytest.raises(UnknownError, match="names no server"):
        OpenPBS(NODE).allocation(job)
    assert commands.asked() == [
        f"qstat -f -w -- {job}@pbsserver",
        f"qstat -f -w -- {job}@other:15001",
    ]


def test_an_answer_without_the_node_is_no_answer(commands: Commands) -> None:
    assert commands.folder.is_dir()
    with pytest.raises(UnknownError):
        OpenPBS(NODE).live_jobs()


@pytest.mark.parametrize(
    ("now", "drained", "resumed", "changes"),
    [
        ("free", "", "", [f"pbsnodes -o -C wnodes: mend {NODE}"]),
        (
            "ours-offline",
            "",
            "",
            [f"pbsnodes -o -C wnodes: mend {NODE}", f"pbsnodes -r -C  {NODE}"],
        ),
        ("offline", "the fan is loud", "the fan is loud", []),
    ],
)
def test_only_our_drain_is_lifted(
    commands: Commands, now: str, drained: str, resumed: str, changes: list[str]
) -> None:
    commands.say("pbsnodes", f"{now}.node")
    pbs = OpenPBS(NODE)
    assert pbs.drain("mend") == drained
    assert pbs.resume() == resumed
    assert [line for line in commands.asked() if " -H " not in line] == changes


@pytest.mark.parametrize(("name", "node"), [("plain", NODE), ("suspended", NODE), ("held", "")])
def test_where_a_job_runs(name: str, node: str) -> None:
    listing = recorded(f"{name}.qstat")
    (job,) = attributes(listing)
    assert parse_place(job, listing) == node
    with pytest.raises(UnknownError, match="does not list job"):
        parse_place("424242.other", listing)
