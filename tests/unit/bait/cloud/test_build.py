"""A build that fails leaves no new disk, and an old one as it was."""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt
import pytest

from tests.unit.bait.cloud.cloudsite import FIRST, ID, STEPS, acts, leaves_nothing, rest_of
from tests.unit.bait.conftest import VOLUMES, Site, an_order, interrupt
from tests.unit.conftest import TAG, eventually, needs_root, part_of
from wnodes_lrms.config.load import Allow, Network, Offer
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.images import catalogue
from wnodes_lrms.model import State
from wnodes_lrms.order import Nic
from wnodes_lrms.run import run

pytestmark = needs_root  # files that only root may write


@pytest.mark.parametrize("where", [STEPS[0], STEPS[1], STEPS[3]])
def test_a_build_that_fails_leaves_no_new_disk(site: Site, where: str) -> None:
    def fail(_step: Callable[[], None]) -> None:
        raise WnodesError("it broke")

    if where == STEPS[0]:
        (site.node.cache.path(site.node.image.disk)).unlink(missing_ok=True)
    interrupt(site, where, fail)
    order = an_order()
    told = rest_of(site.lease(order))
    assert told[-1] == {"ended": "it broke", "code": 1, "end": True}
    site.reaches(None)
    assert leaves_nothing(site)
    assert site.cloud.outcomes()[0]["reason"] == "it broke"


@pytest.mark.parametrize("where", STEPS[2:])
@pytest.mark.parametrize("error", [WnodesError("it broke"), OSError(28, "No space"), KeyError()])
def test_a_build_that_fails_leaves_an_old_disk(site: Site, where: str, error: Exception) -> None:
    site.runs()
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    inode = site.disk().stat().st_ino

    def fail(_step: Callable[[], None]) -> None:
        raise error

    interrupt(site, where, fail)
    order = an_order()
    told = rest_of(site.lease(order, "8"))
    assert told[-1]["code"] == 1
    assert site.row().state is State.FAILED
    assert site.row().reason == told[-1]["ended"]
    assert site.disk().stat().st_ino == inode
    site.restarted()
    assert acts(site) == []
    site.runs(job="9")
    assert site.row().reason == ""
    assert site.disk().stat().st_ino == inode


def test_the_root_disk_is_as_large_as_the_order_says(site: Site, tmp_path: Path) -> None:
    for at in (tmp_path, *tmp_path.parents[:-1]):  # who looks at disks comes to them as on a node
        at.chmod(at.stat().st_mode | 0o711)
    disk = 0
    for job, asked in (("7", 2), ("8", 3), ("9", 1)):  # never smaller
        site.runs(an_order(disk=asked), job)
        disk = max(disk, asked)
        info = json.loads(run(["qemu-img", "info", "--output=json", str(site.disk())], deadline=20))
        assert info["virtual-size"] == disk << 30
        site.cloud.stop(ID, "poweroff")
        site.reaches(State.STOPPED)


def test_a_domain_that_libvirt_does_not_take_is_said(
    site: Site, libvirt_test: libvirt.virConnect
) -> None:
    libvirt_test.createXML(
        f"<domain type='test'><name>wnodes-box-{ID}</name><memory>1024</memory>"
        "<os><type>hvm</type></os></domain>"
    )
    told = rest_of(site.lease(an_order()))
    assert "can't start the VM" in told[-1]["ended"]
    site.reaches(None)
    assert leaves_nothing(site)


def test_what_a_guest_is_told_of_its_cards(site: Site) -> None:
    """Who has no IPv4 in a private network, but IPv6, does not wait for a DHCP server there."""
    vms = site.cloud.builder.vms
    lan = Offer(name="lan", bridge="br0", subnet6=IPv6Network("2001:db8:1::/64"))
    cloud = vms.config.cloud.model_copy(update={"network": (lan,)})
    config = vms.config.model_copy(update={"cloud": cloud})
    builder = replace(site.cloud.builder, vms=replace(vms, config=config))
    mac = "52:54:00:00:00:07"

    def told(kind: str, **more: str) -> tuple[str | None, str | None, bool]:
        nic = Nic.model_validate({"id": uuid4(), "kind": kind, "network": "lan", "mac": mac} | more)
        found = builder.told(nic, FIRST)
        return found.address, found.address6, found.dhcp

    own, four = "fd12::5054:ff:fe00:7/64", "10.1.0.5/24"
    assert told("nat") == (f"{FIRST}/24", None, False)
    assert told("isolated") == (None, None, True)
    assert told("isolated", address6=own) == (None, own, False)
    assert told("isolated", address=four, address6=own) == (four, own, False)
    assert told("bridge") == (None, "2001:db8:1:0:5054:ff:fe00:7/64", True)


def test_a_card_that_reaches_other_nodes_is_told_what_fits_through(site: Site) -> None:
    nic = Nic(id=uuid4(), kind="isolated", network="a", mac="52:54:00:00:00:07")
    nics, vms = site.cloud.nics, site.cloud.builder.vms
    nics.vet((nic,))
    assert nics.builder.card(nic, None).mtu is None

    def tunnels(network: str) -> None:
        own = Network(tunnels=IPv4Network(network))
        config = vms.config.model_copy(update={"network": own})
        nics.builder = replace(nics.builder, vms=replace(vms, config=config))

    tunnels("127.0.0.0/8")
    nics.vet((nic,))
    assert nics.builder.card(nic, None).mtu == 1500
    tunnels("203.0.113.0/24")
    with pytest.raises(RejectedError, match=r"no address in 203\.0\.113\.0/24"):
        nics.vet((nic,))
    assert nics.builder.card(nic, None).mtu is None  # as for one that is to be taken out


def test_an_image_that_the_account_may_not_use(site: Site) -> None:
    rule = Allow(image=TAG, users=("alice",))
    site.node.config = site.node.config.model_copy(update={"allow": (rule,)})
    site.cloud.lifecycle.config = site.node.config
    told = rest_of(site.lease(an_order()))
    assert "account nobody may not use image" in told[-1]["ended"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "other_linux_x86_64"}, "not in the catalogue"),
        ({"memory": 64}, "needs 128 MiB"),
        ({"volumes": VOLUMES[:1]}, "there is no volume"),
        (
            {"nics": [Nic(id=uuid4(), kind="isolated", network="a", mac="52:54:00:00:00:07")] * 2},
            None,
        ),
    ],
)
def test_what_an_order_may_ask_for(
    site: Site, changes: dict[str, Any], message: str | None
) -> None:
    image = site.node.image.model_copy(update={"min_memory": 128})
    catalogue.write(site.node.folder / "images", image)
    if message is None:
        site.runs(an_order(**changes))
        assert "wnodes-a@hv1" in site.libvirt.networks()
        site.cloud.delete(ID)
        eventually(lambda: "wnodes-a@hv1" not in site.libvirt.networks())
        return
    told = rest_of(site.lease(an_order(**changes)))
    assert message in told[-1]["ended"]
    site.reaches(None)
    assert leaves_nothing(site)


def test_the_files_under_an_old_disk_stay_when_the_tag_gets_new_ones(site: Site) -> None:
    site.runs()
    old = site.node.image.disk.sha256
    site.cloud.stop(ID, "poweroff")
    site.reaches(State.STOPPED)
    newer = site.node.folder / "newer.qcow2"
    newer.write_bytes(Path(site.node.image.disk.source).read_bytes() + bytes(65536))
    image = site.node.image.model_copy(update={"disk": part_of(newer)})
    catalogue.write(site.node.folder / "images", image)
    site.runs(job="8")
    assert old in site.row().digests.split()
    assert image.disk.sha256 in site.row().digests.split()
