"""What doctor says of Torque's nodes and operators."""

from pathlib import Path

import pytest

from wnodes_lrms.doctor import Status
from wnodes_lrms.lrms.torque.allocation import parse_node
from wnodes_lrms.lrms.torque.checks import node, operator

DATA = Path(__file__).parents[3] / "data/torque-6.1.3"
SETTINGS = "create queue batch\nset server acl_hosts = tqhost\nset server {} = {}\n"


def found(name: str, was: str = "", becomes: str = "") -> list[tuple[str, Status, str]]:
    listing = (DATA / f"{name}.pbsnodes").read_text().replace(was, becomes)
    checks = node("tqhost", parse_node("tqhost", listing))
    return [(check.name, check.status, check.remedy) for check in checks]


def test_a_node_that_is_well() -> None:
    assert found("free") == [("torque property", Status.OK, ""), ("torque node", Status.OK, "")]


def test_a_node_without_the_property() -> None:
    (_, status, remedy), _ = found("free", "wnodes</properties>", "big</properties>")
    assert status is Status.WARNING
    assert remedy == "`qmgr -c 'set node tqhost properties += wnodes'`"


def test_a_node_that_gets_no_jobs() -> None:
    assert found("ours")[1] == ("torque node", Status.WARNING, "`wnodes host resume`")
    assert "pbsnodes -c tqhost" in found("theirs")[1][2]
    assert found("free", "<state>free", "<state>down,job-exclusive")[1][1] is Status.WARNING


@pytest.mark.parametrize(
    ("key", "who", "status"),
    [
        ("operators", "root@hv1.site.org", Status.OK),
        ("managers", "root@hv1", Status.OK),
        ("operators", "root@*.site.org", Status.OK),
        ("operators", "root@hv2.site.org", Status.WARNING),
        ("operators", "joe@hv1.site.org", Status.WARNING),
        ("acl_users", "root@hv1.site.org", Status.WARNING),
    ],
)
def test_whether_the_bait_is_an_operator(key: str, who: str, status: Status) -> None:
    check = operator("hv1", {"hv1", "hv1.site.org"}, SETTINGS.format(key, who))
    assert check.status is status
    assert ("operators += root@hv1" in check.remedy) == (status is Status.WARNING)
