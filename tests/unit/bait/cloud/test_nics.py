"""Which cards and addresses VMs have, while they come, go and start again."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from pytest_mock import MockerFixture

from bait.hypervisor.domains import Hypervisor
from bait.hypervisor.operations import IsIt
from bait.ledger.records import Row
from bait.network.shaper import Shaper
from tests.unit.bait.cloud.cloudsite import spec
from tests.unit.bait.conftest import CARD, MACHINE, Site, an_order
from tests.unit.conftest import GUESTS, eventually, needs_root
from wnodes_lrms.config.load import Host
from wnodes_lrms.errors import (
    ConflictError,
    RejectedError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.model import State
from wnodes_lrms.order import Nic, Order

pytestmark = needs_root
ID = str(MACHINE)
OTHER = str(uuid.uuid5(MACHINE, "other"))
LAN = Nic(
    id=uuid.uuid5(MACHINE, "lan"),
    kind="bridge",
    network="lan",
    mac="52:54:00:00:00:02",
    address="10.0.0.9/24",
)


def test_a_card_plugged_in_and_taken_out(site: Site) -> None:
    site.runs()
    own = {"id": str(LAN.id), "mac": LAN.mac, "address": "10.0.0.9"}
    shown: dict[str, object] = {**own, "inbound": None, "outbound": None}
    for _ in range(2):
        assert site.cloud.attach_nic(ID, LAN) == shown
    (text,) = site.libvirt.plugged
    assert "<source bridge='br0'/>" in text
    assert "<target dev='wlc863000002'/>" in text
    assert site.cloud.machine(ID)["nics"][1] == shown
    for _ in range(2):
        site.cloud.detach_nic(ID, str(LAN.id))
    assert site.libvirt.plugged == []
    assert [nic.id for nic in spec(site).nics] == [CARD]


def test_no_card_has_the_address_that_a_batch_vm_has(site: Site) -> None:
    """Though it is none of those that nodes have for such VMs, as when the site has given it to the
    bridge meanwhile."""
    site.runs()
    job = Row("batch", "70", 0, State.READY, 0.0, network="lan", site_address="10.0.0.9")
    site.node.ledger.promise(job)
    with pytest.raises(RejectedError, match="the node's own, or a batch VM's"):
        site.cloud.attach_nic(ID, LAN)
    assert site.libvirt.plugged == []
    site.cloud.attach_nic(ID, LAN.model_copy(update={"address": "10.0.0.8/24"}))


def test_a_card_that_was_written_down_and_not_plugged_in_is_when_asked_again(
    site: Site, mocker: MockerFixture
) -> None:
    """As after a bait that was killed in between, or a libvirt that was away."""
    site.runs()
    silent = mocker.patch.object(site.libvirt, "attach", side_effect=UnknownError("no answer"))
    with pytest.raises(UnknownError):
        site.cloud.attach_nic(ID, LAN)
    mocker.stop(silent)
    assert site.libvirt.plugged == []
    site.restarted()
    assert [nic["id"] for nic in site.cloud.machine(ID)["nics"]] == [str(CARD)]
    other = LAN.model_copy(update={"mac": "52:54:00:00:00:09"})  # what was written down counts
    for _ in range(2):
        site.cloud.attach_nic(ID, other)
    (text,) = site.libvirt.plugged
    assert f"<mac address='{LAN.mac}'/>" in text
    assert [nic.mac for nic in spec(site).nics[1:]] == [LAN.mac]
    assert [nic["mac"] for nic in site.cloud.machine(ID)["nics"][1:]] == [LAN.mac]
    assert site.node.ledger.note("cards being plugged in") is None


def test_a_card_that_fails_late_stays_with_a_vm_that_has_begun_anew_with_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a libvirt that hung until the VM's domain had gone."""
    asked, go_on = threading.Event(), threading.Event()

    def attach(_machine: str, _xml: str, _is_it: IsIt) -> None:
        asked.set()
        assert go_on.wait(60)
        raise ConflictError("the VM does not run")

    site.runs()
    monkeypatch.setattr(site.libvirt, "attach", attach)
    with ThreadPoolExecutor(1) as worker:
        first = worker.submit(site.cloud.attach_nic, ID, LAN)
        assert asked.wait(60)
        site.cloud.stop(ID, "poweroff")
        site.reaches(State.STOPPED)
        site.runs(an_order(nics=(LAN.model_dump(),)), "8")
        go_on.set()
        with pytest.raises(ConflictError):
            first.result()
    assert [nic.id for nic in spec(site).nics] == [LAN.id]


def test_a_card_on_a_bridge_that_the_node_has_lost_is_refused(site: Site) -> None:
    site.runs()
    vms = replace(site.cloud.nics.builder.vms, interfaces=set)
    site.cloud.nics.builder = replace(site.cloud.nics.builder, vms=vms)
    with pytest.raises(WnodesError, match="this node has no bridge br0") as no:
        site.cloud.attach_nic(ID, LAN)
    assert no.value.told == "node hv1 has lost the bridge of one of its networks"
    assert site.libvirt.plugged == []
    assert [nic.id for nic in spec(site).nics] == [CARD]


def test_a_card_that_is_in_carries_what_is_asked_for_last(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.runs()
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "")
    site.cloud.attach_nic(ID, LAN)
    for rates in ({"inbound": 5, "outbound": None}, {"inbound": None, "outbound": 7}):
        card = LAN.model_copy(update=rates)
        for _ in range(2):
            shown = site.cloud.attach_nic(ID, card)
            assert {way: shown[way] for way in rates} == rates
        [_, nic] = spec(site).nics
        assert (nic.inbound, nic.outbound) == tuple(rates.values())
    assert len(site.libvirt.plugged) == 1


def test_of_two_rates_at_once_one_holds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.runs()
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "")
    site.cloud.attach_nic(ID, LAN)
    both = [LAN.model_copy(update={"inbound": n, "outbound": n}) for n in (5, 7)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda nic: site.cloud.attach_nic(ID, nic), both))
    assert spec(site).nics[1] in both
    assert len(site.libvirt.plugged) == 1


def test_a_node_that_can_not_limit_takes_no_card_that_is_to_be(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.runs()
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "tc: no such qdisc")
    with pytest.raises(RejectedError, match=r"^this node can't limit the throughput of a VM$"):
        site.cloud.attach_nic(ID, LAN.model_copy(update={"inbound": 5}))
    assert site.libvirt.plugged == []
    assert [nic.id for nic in spec(site).nics] == [CARD]


def test_a_machine_has_one_card_on_the_nodes_own_network(site: Site) -> None:
    site.runs(an_order(nics=()))
    assert site.row().address is None
    nat = Nic(id=uuid.uuid4(), kind="nat", network="public", mac="52:54:00:00:00:03")
    assert site.cloud.attach_nic(ID, nat)["address"] == f"{GUESTS}.2"
    with pytest.raises(ConflictError, match="has a card"):
        site.cloud.attach_nic(ID, nat.model_copy(update={"id": uuid.uuid4()}))
    site.runs(an_order(machine=OTHER), "8")
    assert site.row(OTHER).address == f"{GUESTS}.3"
    site.cloud.suspend(ID, "suspend")
    with pytest.raises(ConflictError, match="not running"):
        site.cloud.attach_nic(ID, LAN)


def test_an_isolated_network_lives_as_long_as_who_is_on_it(site: Site) -> None:
    site.runs()
    name = "wnodes-mine@hv1"
    nic = LAN.model_copy(update={"kind": "isolated", "network": "mine"})
    site.cloud.attach_nic(ID, nic)
    assert name in site.libvirt.networks()
    site.libvirt.drop_isolated(lambda: {"mine"})
    assert name in site.libvirt.networks()
    site.cloud.restart(ID, "cold")
    site.reaches(State.READY)
    site.libvirt.drop_isolated(tuple)  # its domain is on it
    assert name in site.libvirt.networks()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    assert name not in site.libvirt.networks()


def test_an_isolated_network_goes_with_the_last_card_on_it(site: Site) -> None:
    site.runs()
    nic = LAN.model_copy(update={"kind": "isolated", "network": "mine"})
    site.cloud.attach_nic(ID, nic)
    site.cloud.detach_nic(ID, str(nic.id))

    def gone() -> bool:
        site.cloud.isolated.keep()
        return "wnodes-mine@hv1" not in site.libvirt.networks()

    eventually(gone)


def test_an_isolated_network_that_a_killed_bait_has_left_goes(
    site: Site, mocker: MockerFixture
) -> None:
    """And where libvirt is away then, as soon as it is back."""
    name = "wnodes-mine@hv1"
    site.libvirt.have_isolated("mine")
    silent = mocker.patch.object(site.libvirt, "drop_isolated", side_effect=UnknownError("away"))
    site.restarted()
    site.cloud.isolated.keep()
    eventually(lambda: silent.called)
    mocker.stop(silent)
    assert name in site.libvirt.networks()

    def gone() -> bool:
        site.cloud.isolated.keep()
        return name not in site.libvirt.networks()

    eventually(gone)


def test_devices_that_come_at_once_are_all_kept(site: Site) -> None:
    site.runs()
    cards = [
        LAN.model_copy(
            update={
                "id": uuid.uuid4(),
                "mac": f"52:54:00:00:01:{n:02x}",
                "address": f"10.0.0.{n + 20}/24",
            }
        )
        for n in range(8)
    ]
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda card: site.cloud.attach_nic(ID, card), cards))
    assert {nic.id for nic in spec(site).nics} == {CARD, *(card.id for card in cards)}


def test_a_real_libvirt_that_can_not_plug_says_so(site: Site, mocker: MockerFixture) -> None:
    site.runs()

    def real(machine: str, xml: str, is_it: IsIt) -> Any:
        xml = xml.replace("interface", "nothing")
        return Hypervisor.attach(site.libvirt, machine, xml, is_it)

    # Older test drivers plug nothing at all, newer ones no device of this kind.
    mocker.patch.object(site.libvirt, "attach", real)
    with pytest.raises(WnodesError, match=r"not supported|unknown device type"):
        site.cloud.attach_nic(ID, LAN)
    assert [nic.id for nic in spec(site).nics] == [CARD]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"network": "storage"}, "network storage is none that this node offers"),
        ({"address": "10.0.0.1/24"}, "the router's, the node's own, or"),
        ({"address": "10.0.0.10/24"}, "another VM's"),
        ({"mac": "52:54:00:00:00:10"}, "another's on this node"),
    ],
)
def test_a_taken_bridge_has_no_more_of_the_node_than_it_offers(
    site: Site, changes: dict[str, Any], why: str
) -> None:
    """Who has a bridge's key wants a card on the storage network, or another's address."""
    other = LAN.model_copy(
        update={"id": uuid.uuid4(), "mac": "52:54:00:00:00:10", "address": "10.0.0.10/24"}
    )
    site.runs(an_order(machine=OTHER, nics=(other,)), "8")
    wish = {**LAN.model_dump(), "bridge": "br-storage", **changes}
    (said,) = refusals(site, an_order(nics=(wish,)))
    assert why in said
    assert said.startswith("order refused: ")
    assert site.domains() == [OTHER]
    site.runs()
    with pytest.raises(RejectedError, match=why):
        site.cloud.attach_nic(ID, Nic.model_validate(wish))
    assert site.libvirt.plugged == []
    assert [nic.id for nic in spec(site).nics] == [CARD]


def test_no_cloud_vm_has_the_mac_of_a_batch_vm(site: Site) -> None:
    offers = site.cloud.nics.builder.vms.config.cloud.network
    host = Host(name="job1", mac=LAN.mac, address=IPv4Address("10.0.0.70"))
    held = tuple(each.model_copy(update={"host": (host,)}) for each in offers)
    config = site.cloud.nics.builder.vms.config
    cloud = config.cloud.model_copy(update={"network": held})
    vms = replace(site.cloud.nics.builder.vms, config=config.model_copy(update={"cloud": cloud}))
    site.cloud.nics.builder = replace(site.cloud.nics.builder, vms=vms)
    site.runs()
    with pytest.raises(RejectedError, match=f"{LAN.mac} is another's on this node"):
        site.cloud.attach_nic(ID, LAN)
    assert site.libvirt.plugged == []


def test_no_card_has_the_mac_that_a_batch_vm_has_since_it_was_registered_otherwise(
    site: Site,
) -> None:
    """As when the site has given it to the bridge meanwhile, with another address."""
    site.runs()
    job = Row("batch", "70", 0, State.READY, 0.0, network="lan", site_address="10.0.0.70")
    site.node.ledger.promise(replace(job, site_mac=LAN.mac))
    with pytest.raises(RejectedError, match=f"{LAN.mac} is another's on this node"):
        site.cloud.attach_nic(ID, LAN)
    assert site.libvirt.plugged == []


def refusals(site: Site, order: Order) -> list[str]:
    with pytest.raises(RejectedError) as told:
        next(site.lease(order))
    return str(told.value).splitlines()


def test_the_bridge_is_the_one_that_the_node_names(site: Site) -> None:
    site.runs(an_order(nics=({**LAN.model_dump(), "bridge": "br-storage"},)))
    text = site.libvirt._connect().lookupByUUIDString(ID).XMLDesc()
    assert "bridge='br0'" in text
    assert "br-storage" not in text
