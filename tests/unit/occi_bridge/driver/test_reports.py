"""What of a bait's reply makes it none, and what all that were heard say together."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.reports import Free, Machines
from occi_bridge.driver.watcher import Watcher, collected
from tests.unit.occi_bridge.snapshots import HV1, HV2

REPLY: dict[str, Any] = {"node": "hv1", "machines": []}
MACHINES = TypeAdapter(Machines)


@pytest.mark.parametrize(
    "shown",
    [
        {"room": {"cores": 9_999_999}},  # slots of a queue of Grid Engine's
        {"room": {"cores": -1, "memory": 1}},
        {"room": "none"},
        {"sources": {"LRMS": 1.0}},
        {"sources": {"lrms": -1.0}},
        {"sources": {chr(97 + number): 1.0 for number in range(9)}},
    ],
)
def test_of_what_is_only_shown_to_people_a_bait_is_not_silent(shown: dict[str, Any]) -> None:
    told = MACHINES.validate_python(REPLY | shown)
    assert (told.node, told.room, told.sources) == ("hv1", None, None)


def test_what_is_shown_to_people() -> None:
    more = {"room": {"cores": 3, "memory": None}, "sources": {"lrms": 1.0}, "later": 1}
    told = MACHINES.validate_python(REPLY | more)
    assert (told.room, told.sources) == (Free(3), {"lrms": 1.0})


@pytest.mark.parametrize("wrong", [{"machines": None}, {"local_volumes": "some"}, {"node": "a b"}])
def test_what_decides_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MACHINES.validate_python(REPLY | wrong)


@pytest.mark.parametrize(
    ("nodes", "lost"), [({"hv1": HV1, "hv2": HV2}, True), ({"hv1": HV1}, False), ({}, False)]
)
def test_a_node_is_lost_where_each_bait_has_said_that_it_is_on_another(
    nodes: dict[str, str], lost: bool
) -> None:
    """Though none answers now."""
    nothing: Any = None
    baits = [Bait(url, False) for url in (HV1, HV2)]
    watchers = [Watcher(bait, nothing, nothing, nothing, nothing) for bait in baits]
    reports = collected(watchers, 1.0, nodes, {})
    assert reports.has_lost("gone") is lost
    assert not any(map(reports.has_lost, nodes))
