"""What is refused, and what fails: each is said, and leaves nothing."""

import dataclasses
import re
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any
from xml.etree import ElementTree

import libvirt
import pytest

from bait.batch import preparation
from bait.batch.build import BatchBuilder
from bait.ledger.records import Row
from bait.machine import room
from bait.machine.files import paths
from bait.machine.hardware import Blueprint
from bait.machine.seed import SCRATCH
from bait.network.cards import Taps, guests
from bait.network.ruleset import elements
from bait.network.shaper import Shaper
from tests.unit.bait.batch.batchjobs import FIRST, ID, failed, last, other_image, reaches, state
from tests.unit.conftest import TAG, Node, eventually, needs_root
from wnodes_lrms.addresses import address6_of
from wnodes_lrms.config.load import Allow, Batch, Host, Offer
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.images.catalogue import Part
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State, machine_id
from wnodes_lrms.rates import Rates

pytestmark = needs_root  # files are given to the job's owner; port 22


def test_a_job_that_asks_for_nothing_gets_no_machine(node: Node) -> None:
    node.batch.grant("7", tag="")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    eventually(lambda: not node.ledger.rows("7"))
    assert last(bait)["message"] == "the job asks for no VM, or has ended"
    assert node.left() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "other_linux_x86_64"}, "not in the catalogue.*small_linux_x86_64"),
        ({"tag": "../../etc/passwd"}, "a tag has the form"),
        ({"memory": 191}, "has 191 MiB.*ask for 192 MiB or more"),
        ({"uid": 0}, "submit it as a user"),
        ({"gid": 0}, "submit it as a user"),
        ({"uid": 4242424}, "knows no user with the number 4242424"),
        ({"restart": 1}, "now runs restart 1"),
    ],
)
def test_what_can_not_be_is_refused_for_good(
    node: Node, changes: dict[str, Any], message: str
) -> None:
    node.batch.grant("7", **changes)
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    eventually(lambda: state(node) is State.FAILED)
    (row,) = node.ledger.rows("7")
    assert row.retry is False
    assert re.search(message, row.reason)
    node.drop_tasks()
    assert node.left() == [f"row {ID}"]


def test_a_machine_as_large_as_its_allocation_allows(node: Node) -> None:
    node.batch.grant("7", memory=192)
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    assert reaches(node, State.BOOTING).memory == 64


@pytest.mark.parametrize("able", [True, False])
def test_a_rule_of_the_site_limits_what_its_card_carries(
    node: Node, able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "" if able else "tc: no such qdisc")
    node.config = node.config.model_copy(update={"batch": (Batch(account="grid", outbound=5),)})
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    if able:
        row = reaches(node, State.BOOTING)
        [card] = guests([row], node.vms.taps)
        assert (row.rates, card.rates) == (Rates(None, 5), Rates(None, 5))
        return
    eventually(lambda: state(node) is State.FAILED)
    (row,) = node.ledger.rows("7")
    assert (row.reason.partition(" (")[0], row.retry) == (
        "this node can't limit the throughput of a VM",
        True,  # elsewhere
    )
    assert node.hypervisor.domains() == {}


def on_network(node: Node, *offers: Offer) -> None:
    """Have the site put the VMs of all jobs on the network «lan», and this node offer these."""
    cloud = node.config.cloud.model_copy(update={"network": offers})
    changes = {"batch": (Batch(network="lan", inbound=7),), "cloud": cloud}
    node.config = node.config.model_copy(update=changes)
    node.vms = dataclasses.replace(node.vms, config=node.config)


def test_a_rule_of_the_site_gives_a_second_card(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "")
    on_network(node, Offer(name="lan", bridge="br0"))
    node.guests.answer(FIRST)
    node.batch.grant("7")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    row = reaches(node, State.READY)
    own, other = sorted(guests([row], node.vms.taps), key=lambda card: not card.own)
    assert (own.address, own.rates.inbound) == (FIRST, 7)
    assert (other.offer, other.address, other.rates.inbound) == ("lan", None, 7)
    tree = ElementTree.fromstring(  # noqa: S314 (our own)
        libvirt.open("test:///default").lookupByUUIDString(ID).XMLDesc()
    )
    taps = [card.get("dev") for card in tree.iterfind("devices/interface/target")]
    macs = [card.get("address") for card in tree.iterfind("devices/interface/mac")]
    assert (taps, macs) == ([own.tap, other.tap], [own.mac, other.mac])
    [bridge] = tree.findall("devices/interface[@type='bridge']/source")
    assert bridge.get("bridge") == "br0"
    # What the firewall lets the card be: any address that is not the node's or a router's.
    held = elements([own, other], node.config.cloud.network, None)
    assert held["bridge", "roaming"] == {f"{other.tap} . {other.mac}"}


LAN = Offer(
    name="lan",
    bridge="br0",
    subnet=IPv4Network("10.2.0.0/24"),
    gateway=IPv4Address("10.2.0.64"),
    subnet6=IPv6Network("2001:db8:1::/64"),
    batch={"hv1": IPv4Network("10.2.0.64/31"), "hv2": IPv4Network("10.2.0.66/31")},
)


def test_a_node_gives_an_address_of_its_own_and_takes_it_back_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its two addresses one is the router's: the next job waits for the other."""
    long = 1e6  # seconds
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "")
    monkeypatch.setattr(preparation, "_PAUSES", (0.1,))
    monkeypatch.setattr(preparation, "QUARANTINE", long)
    on_network(node, LAN)
    patient = node.config.machine.model_copy(update={"ready_timeout": 600})
    node.config = node.config.model_copy(update={"machine": patient})
    node.guests.answer(FIRST)
    for job in ("7", "8"):
        node.batch.grant(job)
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    row = reaches(node, State.READY)
    assert (row.network, row.site_address) == ("lan", "10.2.0.65")
    assert any("network lan as 10.2.0.65" in event.what for event in node.ledger.events("7"))
    cards = guests([row], node.vms.taps)
    held = elements(cards, node.config.cloud.network, None)
    [other] = [card for card in cards if not card.own]
    assert f"{other.tap} . {other.mac} . 10.2.0.65" in held["bridge", "addresses"]
    assert held["bridge", "roaming"] == frozenset()
    six = address6_of(other.mac, "2001:db8:1::/64")
    assert f"{other.tap} . {other.mac} . {six}" in held["bridge", "addresses6"]
    bait.batch.prepare(JobId("8"), 0)
    waits = "all addresses of node hv1 on network lan are taken"
    eventually(lambda: node.ledger.rows("8")[0].reason.startswith(waits))
    bait.reconciler.release("7")
    assert node.ledger.returned("lan", 0.0) == {"10.2.0.65"}
    assert state(node, "8") is State.REQUESTED  # it is still nobody's
    with node.ledger.store.change() as db:
        db.execute("UPDATE returned SET at = at - ?", (long,))
    assert reaches(node, State.READY, "8").site_address == "10.2.0.65"


def test_a_batch_vm_is_what_the_site_has_registered_for_its_address(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "")
    build, plans = BatchBuilder.build, list[Blueprint]()

    def noted(self: BatchBuilder, machine: Blueprint, *steps: Callable[..., None]) -> None:
        plans.append(machine)
        build(self, machine, *steps)

    monkeypatch.setattr(BatchBuilder, "build", noted)
    mac = "52:54:00:0a:00:01"
    host = Host(name="job1.example.org", mac=mac, address=IPv4Address("10.2.0.65"))
    on_network(node, LAN.model_copy(update={"host": (host,)}))
    node.guests.answer(FIRST)
    node.batch.grant("7")
    node.bait().batch.prepare(JobId("7"), 0)
    row = reaches(node, State.READY)
    assert (row.site_address, row.site_mac) == ("10.2.0.65", mac)
    cards = guests([row], node.vms.taps)
    held = elements(cards, node.config.cloud.network, None)
    [other] = [card for card in cards if not card.own]
    assert f"{other.tap} . {mac} . 10.2.0.65" in held["bridge", "addresses"]
    six = address6_of(mac, "2001:db8:1::/64")
    assert f"{other.tap} . {mac} . {six}" in held["bridge", "addresses6"]
    xml = libvirt.open("test:///default").lookupByUUIDString(ID).XMLDesc()
    assert f"<mac address='{mac}'/>" in xml
    [plan] = plans
    assert (plan.hostname, plan.site_mac) == ("job1", mac)
    assert dataclasses.replace(plan, host=None).hostname == "vm-7"


def test_a_mac_that_a_vm_has_goes_to_no_other_though_it_is_registered_for_another_address(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "")
    mac, free = "52:54:00:0a:00:01", "52:54:00:0a:00:02"
    hosts = (
        Host(name="job1.example.org", mac=mac, address=IPv4Address("10.2.0.66")),
        Host(name="job2.example.org", mac=free, address=IPv4Address("10.2.0.67")),
    )
    part = {"hv1": IPv4Network("10.2.0.64/30")}
    on_network(node, LAN.model_copy(update={"host": hosts, "batch": part}))
    before = Row("id", "6", 0, State.READY, 0.0, network="lan", site_address="10.2.0.65")
    assert node.ledger.promise(dataclasses.replace(before, site_mac=mac))
    node.guests.answer(FIRST)
    node.batch.grant("7")
    node.bait().batch.prepare(JobId("7"), 0)
    row = reaches(node, State.READY)
    assert (row.site_address, row.site_mac) == ("10.2.0.67", free)


def test_a_vm_that_is_tried_once_more_keeps_its_address(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a lower one is free by then: what it has, goes back with its row and no sooner."""
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "")
    monkeypatch.setattr(preparation, "_PAUSES", (0.1,))
    build, tried = BatchBuilder.build, list[str | None]()

    def away_at_first(self: BatchBuilder, machine: Blueprint, *steps: Callable[..., None]) -> None:
        tried.append(machine.site_address)
        if len(tried) == 1:
            node.ledger.forget(neighbour, "gone")
            with node.ledger.store.change() as db:
                db.execute("DELETE FROM returned")
            raise UnknownError("libvirt is away")
        build(self, machine, *steps)

    monkeypatch.setattr(BatchBuilder, "build", away_at_first)
    on_network(node, LAN.model_copy(update={"batch": {"hv1": IPv4Network("10.2.0.64/30")}}))
    neighbour = Row("id", "6", 0, State.ENDING, 0.0, network="lan", site_address="10.2.0.65")
    assert node.ledger.promise(neighbour)
    node.guests.answer(FIRST)
    node.batch.grant("7")
    node.bait().batch.prepare(JobId("7"), 0)
    assert reaches(node, State.READY).site_address == "10.2.0.66"
    assert tried == ["10.2.0.66"] * 2


def test_the_mac_of_a_second_card_is_local_and_another_for_each_vm() -> None:
    taps = Taps.of("box", "hv1")
    cards = {taps.site_card(machine_id("box", str(job), 0), "lan").mac for job in range(1000)}
    assert len(cards) == 1000
    assert all(int(mac[:2], 16) & 3 == 2 for mac in cards)


@pytest.mark.parametrize(
    ("offers", "message"),
    [
        ((), "node hv1 has no network lan"),
        ((Offer(name="other", bridge="br0"),), "node hv1 has no network lan"),
        ((Offer(name="lan", bridge="br9"),), "node hv1 has lost the bridge of one of its networks"),
        (
            (LAN.model_copy(update={"batch": {"hv2": IPv4Network("10.2.0.66/31")}}),),
            "node hv1 has no addresses for batch VMs on network lan",
        ),
    ],
)
def test_a_job_for_a_network_that_the_node_has_not_is_tried_elsewhere(
    node: Node, offers: tuple[Offer, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shaper, "_trouble", lambda _: "")
    on_network(node, *offers)
    node.batch.grant("7")
    answer = failed(node, node.bait())
    assert answer["retry"]
    assert message in answer["message"]


@pytest.mark.usefixtures("passed")
def test_a_job_gets_the_scratch_disk_that_it_asks_for(node: Node) -> None:
    rule = Batch(partition="main", scratch_most=2)
    node.config = node.config.model_copy(update={"batch": (rule,)})
    node.guests.answer(FIRST)
    node.batch.grant("7", scratch="2")
    bait = node.bait()
    bait.batch.prepare(JobId("7"), 0)
    reaches(node, State.READY)
    where = paths(node.config, ID)
    assert where.scratch.stat().st_size == 2 << 30
    assert last(bait)["scratch"] == SCRATCH
    assert any("scratch disk of 2 GiB" in event.what for event in node.ledger.events("7"))
    domain = libvirt.open("test:///default").lookupByUUIDString(ID)
    assert f"<source file='{where.scratch}'/>" in domain.XMLDesc()
    bait.reconciler.release("7")
    assert node.left() == []


@pytest.mark.parametrize(("asked", "retry"), [("3", False), ("lots", False), ("2", True)])
def test_a_scratch_disk_that_can_not_be_had(
    node: Node, asked: str, retry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_mib", lambda _folder: 2048)  # and min_free_disk beside it
    node.config = node.config.model_copy(update={"batch": (Batch(scratch_most=2),)})
    node.vms = dataclasses.replace(node.vms, config=node.config)
    node.batch.grant("7", scratch=asked)
    answer = failed(node, node.bait())
    assert answer["retry"] is retry
    assert ("disk full on node hv1" if retry else "WNODES_SCRATCH") in answer["message"]


@pytest.mark.parametrize(
    ("rule", "may"),
    [
        ({"users": ("nobody",)}, True),
        ({"users": ("alice",)}, False),
        ({"groups": ("nogroup",)}, True),
        ({"accounts": ("grid",)}, True),
        ({"accounts": ("other",)}, False),
    ],
)
def test_the_sites_rules_hold_here_too(node: Node, rule: dict[str, Any], may: bool) -> None:
    node.config = node.config.model_copy(update={"allow": (Allow(image=TAG, **rule),)})
    node.batch.grant("7")
    bait = node.bait()
    if may:
        bait.batch.prepare(JobId("7"), 0)
        reaches(node, State.BOOTING)
        return
    answer = failed(node, bait)
    assert "user nobody may not use image" in answer["message"]
    assert not answer["retry"]


def unreachable(node: Node) -> None:
    other_image(node, disk=Part(source=f"{node.folder}/none", sha256="0" * 64))


def wrong_checksum(node: Node) -> None:
    other_image(node, disk=Part(source=node.image.disk.source, sha256="0" * 64))


def full(node: Node) -> None:
    huge = node.config.machine.model_copy(update={"min_free_disk": 1 << 40})
    node.config = node.config.model_copy(update={"machine": huge})
    node.vms = dataclasses.replace(node.vms, config=node.config)


def overlay_can_not_be_made(node: Node) -> None:
    other_image(node, format="raw")
    node.cache.fetch(node.image, lambda: None)
    broken = node.cache.path(node.image.disk)
    broken.unlink()
    broken.mkdir()


def name_is_taken(_node: Node) -> None:
    link = libvirt.open("test:///default")
    link.createXML(
        "<domain type='test'><name>wnodes-box-7-0</name><memory>1024</memory>"
        "<os><type>hvm</type></os></domain>"
    )


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (unreachable, "none: No such file or directory"),
        (wrong_checksum, "checksum"),
        (full, "disk full on node hv1"),
        (overlay_can_not_be_made, "can.t be copied"),
        (name_is_taken, r"the node's libvirt can't start the VM \(.* bait's log, under 7\)$"),
    ],
)
def test_each_failure_is_said_and_leaves_nothing(
    node: Node, break_it: Callable[[Node], None], message: str
) -> None:
    break_it(node)
    node.batch.grant("7")
    answer = failed(node, node.bait())
    assert answer["retry"]
    assert re.search(message, answer["message"])


def test_a_foreign_domain_of_the_same_name_is_left_alone(
    node: Node, libvirt_test: libvirt.virConnect
) -> None:
    name_is_taken(node)
    node.batch.grant("7")
    failed(node, node.bait())
    assert libvirt_test.lookupByName("wnodes-box-7-0").isActive()


def test_the_batch_system_away_for_a_moment_costs_only_time(node: Node) -> None:
    node.guests.answer(FIRST)
    bait = node.bait()
    node.batch.jobs = None
    bait.batch.prepare(JobId("7"), 0)
    threading.Timer(0.4, lambda: setattr(node.batch, "jobs", {})).start()
    threading.Timer(0.5, lambda: node.batch.grant("7") and None).start()
    assert reaches(node, State.READY).reason == ""
