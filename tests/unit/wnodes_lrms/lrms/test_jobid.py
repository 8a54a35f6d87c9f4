"""What is a job id, and what is none, in each batch system; and whom a job's owner may be."""

import os
import pwd

import pytest

from tests.unit.conftest import NOBODY
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.systems import SYSTEMS
from wnodes_lrms.users import check_owner

GOOD = {
    "slurm": ["1", "67043328", "4227858432"],
    "gridengine": ["1", "9999999", "12.3"],
    "torque": ["12", "12.server", "12[3].server.site.org", "12[].tq-host"],
    "openpbs": ["12.server", "1234567[10].pbs_1", "12"],
}
BAD = [
    *("", " ", "x", "0x1", "-1", "-Q", "--all", "*", "?", "1 2", "1,2", "1;2", "1|2", "$(id)"),
    *("12@attacker:15001", "12.server@attacker", "12.attacker:15001", "@attacker", "12."),
    *(
        "12.-f",
        "12.server.",
        "12/../13",
        "../12",
        ".",
        "..",
        "12\n",
        "12\n13",
        "\n12",
        "12\0",
        "١٢",
    ),
    *("12²", "12.sérver", "12]", "12[3", "12[a].server", "12[3][4]", "all", "12.1.2@x", "1" * 99),
    *("12 -u root", "12=13", "12:13", "12%3", "12#3", "12..3", "12.'x'", '12."x"', "12.a" * 99),
]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in GOOD for text in GOOD[name]])
def test_what_a_batch_system_calls_a_job(name: str, text: str) -> None:
    assert SYSTEMS[name].job_id(text) == text


@pytest.mark.parametrize("name", GOOD)
def test_nothing_else_is_a_job(name: str) -> None:
    for text in BAD:
        with pytest.raises(RejectedError, match=r"^[ -~]{,200}$"):  # one short line
            SYSTEMS[name].job_id(text)


@pytest.mark.parametrize(
    ("name", "other"),
    [("slurm", "12.3"), ("slurm", "12_3"), ("slurm", "0"), ("gridengine", "12.server")],
)
def test_another_systems_job_is_none(name: str, other: str) -> None:
    with pytest.raises(RejectedError, match="no job id"):
        SYSTEMS[name].job_id(other)


def test_every_system_has_its_grammar() -> None:
    assert set(GOOD) == set(SYSTEMS)


def test_an_owner_is_who_the_node_says() -> None:
    assert check_owner(NOBODY.pw_uid, NOBODY.pw_gid).pw_name == "nobody"
    assert check_owner(NOBODY.pw_uid, NOBODY.pw_gid, "nobody").pw_uid == NOBODY.pw_uid
    groups = os.getgrouplist("root", 0)
    assert check_owner(0, groups[-1], "root") == pwd.getpwnam("root")


@pytest.mark.parametrize(
    ("uid", "gid", "name", "why"),
    [
        (54321, NOBODY.pw_gid, "", "no user with the number 54321"),
        (NOBODY.pw_uid, NOBODY.pw_gid, "nobody-here", "no user 'nobody-here'"),
        (NOBODY.pw_uid, NOBODY.pw_gid, "-e", "no user '-e'"),
        (NOBODY.pw_uid, NOBODY.pw_gid, "*", r"no user '\*'"),
        (0, NOBODY.pw_gid, "nobody", "has the number 0, on this node it is 65534"),
        (NOBODY.pw_uid, 0, "nobody", "not in the job's group 0"),
        (NOBODY.pw_uid, 54321, "", "not in the job's group 54321"),
    ],
)
def test_anybody_else_is_refused(uid: int, gid: int, name: str, why: str) -> None:
    with pytest.raises(RejectedError, match=why):
        check_owner(uid, gid, name)
