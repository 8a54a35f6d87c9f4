"""domain.xml.j2 against golden files (`--regenerate` writes them) and libvirt's own schema."""

import dataclasses
import ipaddress
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import libvirt
import pytest

from bait.batch.build import BatchBuilder
from bait.cloud.build import CloudBuilder, Plan
from bait.hypervisor.domain import MARK
from bait.hypervisor.domains import Hypervisor
from bait.machine.files import Paths, paths
from bait.machine.hardware import BlockDevice, Blueprint, Drive, Hardware, RbdImage
from bait.machine.owner import owner_of
from bait.machine.vms import NodeVms
from tests.unit.bait.conftest import MACHINE, an_order
from tests.unit.bait.machine.recordings import recorded
from tests.unit.conftest import NOBODY, Batch, Node
from wnodes_lrms.config.load import Bait, Cloud, Images, Offer
from wnodes_lrms.images.catalogue import Image, Part
from wnodes_lrms.model import machine_id
from wnodes_lrms.provision import Provision
from wnodes_lrms.resources import folder

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parents[2] / "data" / "domain"
ID = machine_id("box", "7", 0)
DISK = Part(source="/srv/disk", sha256="d" * 64)
FULL = {
    "kernel": Part(source="/srv/kernel", sha256="e" * 64),
    "initrd": Part(source="/srv/initrd", sha256="f" * 64),
    "cmdline": "root=/dev/vda console=ttyS0 quiet",
    "trusted": True,
}
EVIL = """'"/><evil a='&lt;' b="<!--]]>"""

# name: (image, allocation, whether KVM, shared folders)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], bool, tuple[str, ...]]] = {
    "plain": ({}, {}, False, ()),
    "kvm-pinned": ({}, {"cores": 2, "cpus": (1, 5)}, True, ()),
    "cores-not-known": ({}, {"cores": 2, "cpus": (1,)}, True, ()),
    "kernel-and-shares": (FULL, {"restart": 2}, False, ("/home", "/data")),
    "hostile": ({**FULL, "cmdline": EVIL}, {"job": EVIL}, True, (f"/home/{EVIL}",)),
    "one-socket-of-two": ({}, {"cores": 4, "cpus": (8, 9, 10, 11)}, True, ()),
    "both-sockets": (FULL, {"cores": 4, "cpus": (6, 7, 8, 5)}, True, ("/home",)),
    "smt": ({}, {"cores": 4, "cpus": (5, 6, 53, 54)}, True, ()),
    "scratch": (FULL, {}, False, ("/home",)),
    "scratch-limited": (FULL, {}, False, ()),
    "site-network": ({}, {}, False, ()),
}

# name: what the site's rules give its VM
PROVISIONS = {
    "scratch": Provision(scratch=20),
    "scratch-limited": Provision(scratch=20, disk_rate=100, disk_iops=2000),
    "site-network": Provision(network="vlan"),
}

# name: what machine it is on (see data/topology), and its free huge pages on each node
MACHINES = {
    "one-socket-of-two": ("two-sockets", 0),
    "both-sockets": ("two-sockets", 144),
    "smt": ("smt-and-four-nodes-a-socket", 0),
    "cloud-numa": ("two-nodes-a-socket", 512),
}

NICS: tuple[dict[str, Any], ...] = (
    {"kind": "nat", "network": "public"},
    {"kind": "bridge", "network": "lan", "address": "10.0.0.9/24"},
    {"kind": "isolated", "network": "mine"},
)
SWITCHED: tuple[dict[str, Any], ...] = (
    {"kind": "bridge", "network": "vlan"},
    {"kind": "bridge", "network": "ovs"},
    {"kind": "bridge", "network": "ovs-vlan"},
)
OFFERS = (
    Offer(name="vlan", bridge="br0", vlan=42),
    Offer(name="ovs", bridge="ovs0", openvswitch=True),
    Offer(name="ovs-vlan", bridge="ovs0", openvswitch=True, vlan=4094),
)
LAN = ipaddress.IPv4Network("10.0.0.0/24")
VOLUMES = tuple(UUID(int=number) for number in (1, 2))

# name: (image, order, CPUs, whether KVM)
CLOUD: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, ...], bool]] = {
    "cloud-plain": ({}, {}, (), False),
    "cloud-devices": ({}, {"nics": NICS, "volumes": VOLUMES, "cores": 2}, (1, 5), True),
    "cloud-numa": ({}, {"cores": 2}, (7, 8), True),
    "cloud-vlans": ({}, {"nics": SWITCHED}, (), False),
    "cloud-limited": ({}, {"volumes": VOLUMES[:1]}, (), False),
    "cloud-rbd": ({}, {"volumes": VOLUMES}, (), False),
    "cloud-lvm": ({}, {"volumes": VOLUMES}, (), False),
    "cloud-injected": ({"context": "guestfs"}, {"nics": NICS[:1]}, (), False),
}
# Where volumes are that are no files.
SOURCES: dict[str, tuple[RbdImage | BlockDevice, ...]] = {
    "cloud-rbd": (
        RbdImage("volumes/one", "/etc/ceph/ceph.conf", "wnodes", str(UUID(int=3))),
        RbdImage("volumes/two", "/etc/ceph/ceph.conf", "wnodes", None),
    ),
    "cloud-lvm": tuple(BlockDevice(f"/dev/data/wnodes-{volume}") for volume in VOLUMES),
}
LIMITS: dict[str, dict[str, Any]] = {"cloud-limited": {"disk_rate": 100, "disk_iops": 500}}
EVERY = (*CASES, *CLOUD)


def cloud_domain(vms: NodeVms, image: Image, case: str) -> str:
    _image, changes, cpus, _kvm = CLOUD[case]
    cards = [
        {"id": UUID(int=n), "mac": f"52:54:00:00:00:0{n}"} | nic
        for n, nic in enumerate(changes.get("nics", ()))
    ]
    order = an_order(**(changes | {"nics": cards}))
    limit = CloudBuilder(vms).disk_limit()
    folder = Path("/var/lib/wnodes/volumes")
    volumes = tuple(
        Drive(
            SOURCES[case][n] if case in SOURCES else folder / f"{volume}.raw",
            f"vd{'cd'[n]}",
            volume.hex[:20],
            limit,
            readonly=case == "cloud-lvm" and n == 1,
        )
        for n, volume in enumerate(order.volumes)
    )
    machine = Plan(order, "7", cpus, image, "192.168.190.7", volumes)
    made = CloudBuilder(vms)
    return drawn(vms, made.paths(machine.id), made._hardware(machine))


def drawn(vms: NodeVms, where: Paths, hardware: Hardware) -> str:
    return vms.domain(where, hardware, vms.tuning(hardware))


def domain(node: Node, case: str, uri: str = "test:///default") -> str:
    """The XML of a VM, on a node whose folders are those of a real one."""
    image, allocation, kvm, shares = CASES.get(case) or (CLOUD[case][0], {}, CLOUD[case][3], ())
    config = node.config.model_copy(
        update={
            "bait": Bait(state_dir="/var/lib/wnodes/hv1", run_dir="/run/wnodes/hv1"),
            "images": Images(cache_dir="/var/cache/wnodes/hv1"),
            "cloud": Cloud(
                network=(Offer(name="lan", bridge="br0", subnet=LAN), *OFFERS),
                **LIMITS.get(case, {}),
            ),
        }
    )
    node.cache.folder = Path(config.images.cache_dir)
    hypervisor = Hypervisor(uri, "box", "hv1", config.network, Path("/nowhere"))
    name, free = MACHINES.get(case, ("one-node", 0))
    vms = dataclasses.replace(
        node.vms,
        config=config,
        kvm=kvm,
        hypervisor=hypervisor,
        topology=lambda: recorded(name, free),
    )
    whole = Image.model_validate(
        {"tag": "small_linux_x86_64", "format": "raw", "disk": DISK, "context": "script"} | image
    )
    if case in CLOUD:
        return cloud_domain(vms, whole, case)
    machine = Blueprint(
        ID,
        Batch().grant("7", **allocation),
        owner_of(NOBODY.pw_uid, NOBODY.pw_gid),
        whole,
        384,
        ipaddress.IPv4Address("192.168.190.7"),
        PROVISIONS.get(case, Provision()),
    )
    where = paths(config, ID)
    text = drawn(vms, where, BatchBuilder(vms).hardware(where, machine, shares))
    return text.replace(str(folder("hooks")), "/usr/lib/wnodes/hooks")


@pytest.mark.parametrize("case", EVERY)
def test_golden(node: Node, pytestconfig: pytest.Config, case: str) -> None:
    text, golden = domain(node, case), GOLDEN / f"{case}.xml"
    if pytestconfig.getoption("regenerate"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_file_has_a_test() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(EVERY)


@pytest.mark.parametrize("case", EVERY)
def test_libvirt_takes_it_by_its_own_schema(
    node: Node, libvirt_test: libvirt.virConnect, case: str
) -> None:
    text = domain(node, case)
    if case == "hostile":  # a job's number is never like that, and libvirt would not take the name
        text = text.replace(text.partition("<name>")[2].partition("</name>")[0], "wnodes-box-x-0")
    made = libvirt_test.createXML(text, libvirt.VIR_DOMAIN_START_VALIDATE)
    assert made.UUIDString() == (str(MACHINE) if case in CLOUD else ID)
    with pytest.raises(libvirt.libvirtError, match=r"(?s)schema|extra|element"):
        libvirt_test.createXML(
            text.replace("<vcpu>", "<vcpus>").replace("</vcpu>", "</vcpus>"),
            libvirt.VIR_DOMAIN_START_VALIDATE,
        )


def test_what_people_write_stays_data(node: Node) -> None:
    tree = ElementTree.fromstring(domain(node, "hostile"))  # noqa: S314 (our own)
    assert tree.findtext("os/cmdline") == EVIL
    assert tree.findtext("name") == f"wnodes-box-{EVIL}-0"
    source = tree.find("devices/filesystem/source")
    assert source is not None
    assert source.get("dir") == f"/var/lib/wnodes/hv1/machines/{ID}/share0/."
    mark = tree.find(f"metadata/{{{MARK}}}machine")
    assert mark is not None
    assert mark.get("job") == EVIL
    assert tree.find(".//evil") is None


def test_our_mark_is_found_again(node: Node, libvirt_test: libvirt.virConnect) -> None:
    libvirt_test.createXML(domain(node, "kernel-and-shares"))
    found = node.hypervisor.domains()[ID]
    assert (found.job, found.restart) == ("7", 2)


def test_what_a_user_keeps_is_written_to_disk_and_can_hibernate(node: Node) -> None:
    text = domain(node, "cloud-devices")
    assert "cache='unsafe'" not in text
    assert "migratable='on'" in text  # else QEMU refuses to write its memory down
    assert "cache='unsafe'" in domain(node, "plain")
    assert "vdb" not in domain(node, "cloud-injected")  # the seed's place stays free
