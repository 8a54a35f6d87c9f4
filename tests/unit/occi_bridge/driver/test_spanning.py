"""What each bait is to know of the cards of its private networks on other nodes."""

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from occi_bridge.driver.reports import Report
from occi_bridge.driver.snapshot import Snapshot
from occi_bridge.driver.spanning import Spanned, Spanning, disagreement, tunnels
from occi_bridge.store.rows import Compute, Interface, Network
from tests.unit.occi_bridge.snapshots import COMMON, HV1, HV2, LEASE, card, report, row, snapshot
from wnodes_lrms.tunnel import Tunnel, another

NET, NAME, VNI = "55555555-0000-4000-8000-000000000000", "u-5555555500", 1 << 23
ENDS = {"hv1": "10.1.0.1:4789", "hv2": "10.1.0.2:4789", "hv3": "10.1.0.3:4789"}
SITE = Spanned(IPv4Network("10.1.0.0/24"), {"shared": 7})
MACS = {uid: f"52:54:00:00:00:0{uid}" for uid in "123456"}


def on(uid: str, node: str, **changes: Any) -> tuple[Compute, Interface]:
    """A VM that runs on a node, with a card on the network."""
    lease = {"lease": LEASE, "node": node, "state": "running", "ran": True}
    cards = {"network": changes.pop("network", NAME), "id": changes.pop("card", "there")}
    vm = row(uid=uid, id=uid, **(lease | changes))
    return vm, card(uid=f"card-{uid}", compute=uid, mac=MACS[uid], owned=NET, **cards)


def seen(*vms: tuple[Compute, Interface], without: str = "", **tunnels: Any) -> Snapshot:
    """Reports of all nodes but one that is silent, and of which nothing was ever heard."""
    net = Network(**(COMMON | {"uid": NET, "id": NET, "name": NAME, "vni": VNI}))
    reports: list[Report] = [
        replace(report(node=node), end=end, tunnels=tunnels.get(node, {}))
        for node, end in ENDS.items()
        if node != without
    ]
    made = snapshot(
        *(vm for vm, _ in vms),
        seen=tuple(reports),
        interfaces=tuple(nic for _, nic in vms),
        networks=(net,),
    )
    ends = {each.node: each.end for each in reports}
    return replace(made, reports=replace(made.reports, ends=ends))


def told(made: Snapshot, site: Spanned = SITE) -> dict[str, dict[str, Any]]:
    """By the nodes' names, of those that are told anything: the cards behind each end."""
    found = tunnels(made, site)
    return {
        url.partition("//")[2].partition(":")[0]: {
            name: dict(each.ends) for name, each in networks.items()
        }
        for url, networks in found.items()
        if networks
    }


def test_each_node_is_told_of_the_cards_on_the_others() -> None:
    made = seen(on("1", "hv1"), on("2", "hv1"), on("3", "hv2"))
    assert told(made) == {
        "hv1": {NAME: {ENDS["hv2"]: (MACS["3"],)}},
        "hv2": {NAME: {ENDS["hv1"]: (MACS["1"], MACS["2"])}},
    }
    assert tunnels(made, SITE)[HV1][NAME].vni == VNI
    assert tunnels(made, SITE)["https://hv3:8445"] == {}  # it may have some that it has no more


def test_who_is_not_there_is_not_told_of() -> None:
    gone = on("1", "hv1", card=None)
    at_rest = on("2", "hv1", lease="", state="stopped")
    queued = on("3", "", state="", ran=False)
    assert told(seen(gone, at_rest, queued, on("4", "hv2"))) == {"hv2": {NAME: {}}}
    # Its bait makes it: the others know before it can speak.
    begun = on("5", "hv1", state="", ran=False)
    assert told(seen(begun, on("4", "hv2")))["hv2"] == {NAME: {ENDS["hv1"]: (MACS["5"],)}}


def test_networks_of_the_sites_span_nodes_under_their_own_numbers() -> None:
    shared = [on(uid, node, network="shared") for uid, node in (("1", "hv1"), ("2", "hv2"))]
    alone = [on(uid, node, network="alone") for uid, node in (("3", "hv1"), ("4", "hv2"))]
    made = seen(*shared, *alone)
    assert told(made)["hv1"] == {"shared": {ENDS["hv2"]: (MACS["2"],)}}
    assert tunnels(made, SITE)[HV2]["shared"].vni == 7


def test_what_others_have_of_a_node_stays_while_that_is_silent() -> None:
    vms = on("1", "hv1"), on("2", "hv2"), on("3", "hv2")
    before = {NAME: Tunnel(vni=VNI, ends={ENDS["hv2"]: (MACS["2"],)})}
    kept = seen(*vms, without="hv2", hv1=before)
    assert told(kept) == {"hv1": {NAME: {ENDS["hv2"]: (MACS["2"],)}}}  # of 3 nobody knows where
    # This driver has heard it before it fell silent.
    heard = replace(kept, reports=replace(kept.reports, ends=ENDS))
    assert told(heard) == {"hv1": {NAME: {ENDS["hv2"]: (MACS["2"], MACS["3"])}}}


def test_a_node_in_other_hands_sends_nobody_elsewhere() -> None:
    made = seen(on("1", "hv1"), on("2", "hv2"))
    edges = "10.1.0.0:4789", "10.1.0.255:4789"
    services = "10.1.0.1:514", "10.1.0.2:514"
    for lie in ("192.0.2.7:4789", ENDS["hv1"], *edges, *services, ""):
        reports = replace(made.reports, ends=ENDS | {"hv2": lie})
        assert told(replace(made, reports=reports))["hv1"] == {NAME: {}}


def test_two_nodes_that_say_they_are_at_the_same_end() -> None:
    made = seen(on("1", "hv1"), on("3", "hv2"), on("2", "hv3"))
    reports = replace(made.reports, ends=ENDS | {"hv3": ENDS["hv2"]})
    both = {ENDS["hv2"]: (MACS["2"], MACS["3"])}
    assert told(replace(made, reports=reports))["hv1"] == {NAME: both}


def test_ends_are_judged_as_often_however_many_cards_are_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged: list[str] = []

    def noting(end: str, *others: Any) -> bool:
        judged.append(end)
        return another(end, *others)

    monkeypatch.setattr("occi_bridge.driver.spanning.another", noting)
    found = []
    for uids in ("12", "123456"):
        judged.clear()
        tunnels(seen(*(on(uid, f"hv{1 + int(uid) % 2}") for uid in uids)), SITE)
        found.append(sorted(judged))
    assert found == [[ENDS["hv1"], ENDS["hv2"]]] * 2


def test_a_site_without_tunnels_and_a_node_without_one() -> None:
    made = seen(on("1", "hv1"), on("2", "hv2"))
    assert tunnels(made, Spanned()) == {}
    baits = made.reports.baits
    lacks = dict(baits) | {HV2: replace(baits[HV2], end="")}
    ends = ENDS | {"hv2": ""}
    other = replace(made, reports=replace(made.reports, baits=lacks, ends=ends))
    assert told(other) == {"hv1": {NAME: {}}}


def test_nodes_whose_ports_differ_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    apart = {"hv1": "10.1.0.1:4789", "hv2": "10.1.0.2:8472", "hv3": "10.1.0.3:4789"}
    said = "[network] tunnel_port is not the same everywhere: 4789 on hv1 hv3, 8472 on hv2"
    assert disagreement(apart) == said
    assert disagreement(ENDS) == ""
    assert disagreement({"hv1": "127.0.0.1:14789", "hv2": "127.0.0.1:14790"}) == ""
    made = seen()
    made = replace(made, reports=replace(made.reports, ends=apart | {"hv4": ""}))
    spanning = Spanning({}, SITE)
    for _ in range(2):
        spanning.due(made)
    [record] = caplog.records
    assert record.getMessage() == f"{said}: private networks do not connect these nodes"
