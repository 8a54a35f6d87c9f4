"""On what OpenPBS 23.06 really said: see data/openpbs-23.06/record."""

import grp
import os
import pwd
from pathlib import Path

import pytest

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.openpbs.allocation import (
    parse_allocation,
    parse_node,
)
from wnodes_lrms.model import Allocation

DATA = Path(__file__).parents[3] / "data" / "openpbs-23.06"
NODE = "pbsbox"
USER, UID, GID = "pbsu", 4001, 4001


def recorded(name: str) -> str:
    # As wnodes_lrms.run.run decodes a program's output.
    return (DATA / name).read_bytes().decode("utf-8", "surrogateescape")


@pytest.fixture(autouse=True)
def known_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded user, as the node's databases would give them."""

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


def test_without_the_hook_resource_and_environment_are_the_wish() -> None:
    listing = recorded("wished.qstat")
    lines = [line for line in listing.split("\n") if "Resource_List.wnodes_by" not in line]
    job = listing.split()[2]
    assert parse_allocation(job, "\n".join(lines), NODE).by == "resource"
    lines = [line for line in lines if "Resource_List.vm" not in line]
    found = parse_allocation(job, "\n".join(lines), NODE)
    assert (found.tag, found.by, found.scratch) == ("small", "environment", "")
    asking = "\n".join(lines).replace("WNODES_IMAGE=", "WNODES_SCRATCH=20,WNODES_IMAGE=")
    assert parse_allocation(job, asking, NODE).scratch == "20"


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


@pytest.mark.parametrize("text", ["", "pbsbox\n", "Node: pbsbox,  Error: Unknown node \n"])
def test_what_does_not_describe_a_node(text: str) -> None:
    with pytest.raises(UnknownError):
        parse_node(NODE, text)
