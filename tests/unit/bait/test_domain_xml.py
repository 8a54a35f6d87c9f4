"""domain.xml.j2 against golden files (`--regenerate` writes them) and libvirt's own schema."""

import dataclasses
import ipaddress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt
import pytest

from bait.build import Blueprint, owner_of, paths
from bait.hypervisor import MARK, Hypervisor
from tests.unit.conftest import NOBODY, Batch, Node
from wnodes_lrms.catalogue import Image, Part
from wnodes_lrms.config import Bait, Images
from wnodes_lrms.model import machine_id

GOLDEN = Path(__file__).parents[1] / "data" / "domain"
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
}


def domain(node: Node, case: str, uri: str = "test:///default") -> str:
    """The XML of a machine, on a node whose folders are those of a real one."""
    image, allocation, kvm, shares = CASES[case]
    config = node.config.model_copy(
        update={
            "bait": Bait(state_dir="/var/lib/wnodes/hv1", run_dir="/run/wnodes/hv1"),
            "images": Images(cache_dir="/var/cache/wnodes/hv1"),
        }
    )
    node.cache.folder = Path(config.images.cache_dir)
    hypervisor = Hypervisor(uri, "box", "hv1", config.network)
    builder = dataclasses.replace(node.builder, config=config, kvm=kvm, hypervisor=hypervisor)
    machine = Blueprint(
        ID,
        Batch().grant("7", **allocation),
        owner_of(NOBODY.pw_uid, NOBODY.pw_gid),
        Image.model_validate(
            {"tag": "small_linux_x86_64", "format": "raw", "disk": DISK, "context": "script"}
            | image
        ),
        384,
        ipaddress.IPv4Address("192.168.190.7"),
    )
    return builder._domain(paths(config, ID), machine, shares)


@pytest.mark.parametrize("case", CASES)
def test_golden(node: Node, pytestconfig: pytest.Config, case: str) -> None:
    text, golden = domain(node, case), GOLDEN / f"{case}.xml"
    if pytestconfig.getoption("regenerate"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_file_has_a_test() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_libvirt_takes_it_by_its_own_schema(
    node: Node, libvirt_test: libvirt.virConnect, case: str
) -> None:
    text = domain(node, case)
    if case == "hostile":  # a job's number is never like that, and libvirt would not take the name
        text = text.replace(text.partition("<name>")[2].partition("</name>")[0], "wnodes-box-x-0")
    made = libvirt_test.createXML(text, libvirt.VIR_DOMAIN_START_VALIDATE)
    assert made.UUIDString() == ID
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
    assert source.get("dir") == f"/home/{EVIL}"
    mark = tree.find(f"metadata/{{{MARK}}}machine")
    assert mark is not None
    assert mark.get("job") == EVIL
    assert tree.find(".//evil") is None


def test_our_mark_is_found_again(node: Node, libvirt_test: libvirt.virConnect) -> None:
    libvirt_test.createXML(domain(node, "kernel-and-shares"))
    found = node.hypervisor.domains()[ID]
    assert (found.job, found.restart) == ("7", 2)
