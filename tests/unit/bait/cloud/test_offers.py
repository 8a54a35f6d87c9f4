"""What of this node an order may name, however well it is signed."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any
from uuid import UUID

import pytest

from bait.cloud.offers import vet
from wnodes_lrms.config.load import Offer
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.order import Nic

LAN = Offer(
    name="lan",
    bridge="br0",
    subnet=IPv4Network("10.0.0.0/24"),
    gateway=IPv4Address("10.0.0.1"),
    subnet6=IPv6Network("2001:db8:1::/64"),
    batch={"hv1": IPv4Network("10.0.0.64/28"), "hv2": IPv4Network("10.0.0.80/28")},
)
OPEN = Offer(name="open", bridge="br1")
MACS, ADDRESSES = {"52:54:00:aa:aa:aa"}, {"10.0.0.2"}


def nic(number: int = 1, **changes: Any) -> Nic:
    values = {
        "id": UUID(int=number),
        "kind": "bridge",
        "network": "lan",
        "mac": f"52:54:00:00:00:{number:02x}",
        "address": f"10.0.0.{number + 10}/24",
        "gateway": "10.0.0.1",
    }
    return Nic.model_validate(values | changes)


OTHER = nic(2)
OWN6, PRIVATE6 = "2001:db8:1:0:5054:ff:fe00:1/64", "fd12::5054:ff:fe00:1/64"
FREE = nic(3, kind="isolated", network="mine", address="10.7.0.3/24", gateway=None)


def refusal(*nics: Nic) -> str:
    """Why an order with these cards is refused; empty if it isn't."""
    try:
        vet(nics, (OTHER, FREE), (LAN, OPEN), MACS, ADDRESSES)
    except RejectedError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "cards",
    [
        (),
        (nic(),),
        (nic(gateway=None),),
        (nic(address="10.0.0.254/24"),),
        (nic(network="open", address=None, gateway=None),),
        (nic(kind="isolated", network="mine", address="10.7.0.4/24"),),
        (nic(kind="isolated", network="another", address="10.7.0.3/24"),),
        (nic(kind="isolated", network="mine", address=None),),
        (nic(kind="nat", network="public", mac=OTHER.mac, address=None),),
        (nic(address6=OWN6),),
        (nic(address6=OWN6.replace(":0:", ":0000:")),),
        (nic(kind="isolated", network="mine", address=None, gateway=None, address6=PRIVATE6),),
        (OTHER,),  # asked again
        tuple(nic(number) for number in range(4, 20)),
    ],
)
def test_what_the_node_offers(cards: tuple[Nic, ...]) -> None:
    assert refusal(*cards) == ""


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ((nic(network="storage"),), "network storage is none that this node offers"),
        ((nic(network="br0"),), "network br0 is none that this node offers"),
        ((nic(network="virbr0", bridge="virbr0"),), "is none that this node offers"),
        ((nic(address="10.0.0.1/24"),), "10.0.0.1 is the router's, the node's own, or"),
        ((nic(address="10.0.0.2/24"),), "10.0.0.2 is the router's, the node's own, or"),
        ((nic(address="10.0.0.64/24"),), "10.0.0.64 is for VMs of batch jobs"),
        ((nic(address="10.0.0.95/24"),), "10.0.0.95 is for VMs of batch jobs"),
        ((nic(address="10.0.1.9/24"),), "10.0.1.9/24 is not of 10.0.0.0/24"),
        ((nic(address="10.0.0.9/16"),), "10.0.0.9/16 is not of 10.0.0.0/24"),
        ((nic(address="10.0.0.0/24"),), "10.0.0.0/24 is not of 10.0.0.0/24"),
        ((nic(address="10.0.0.255/24"),), "10.0.0.255/24 is not of 10.0.0.0/24"),
        ((nic(address=None),), "cards on it are of 10.0.0.0/24"),
        ((nic(network="open"),), "cards on it ask by DHCP"),
        ((nic(gateway="10.0.0.66"),), "10.0.0.66 is not its router"),
        ((nic(address6=PRIVATE6),), f"{PRIVATE6} is not of 2001:db8:1::/64"),
        (
            (nic(network="open", address=None, gateway=None, address6=OWN6),),
            f"{OWN6} is not of it: it has no subnet6",
        ),
        ((nic(2, address6=OWN6),), f"{OWN6} does not follow from 52:54:00:00:00:02"),
        (
            (nic(kind="isolated", network="mine", address6="fd12::1/64"),),
            "fd12::1/64 does not follow from 52:54:00:00:00:01",
        ),
        (
            (nic(kind="isolated", network="mine", address6="fe80::5054:ff:fe00:1/64"),),
            "hosts have addresses of 2000::/3 and fc00::/7 alone",
        ),
        ((nic(address=OTHER.address),), "10.0.0.12/24 is another VM's"),
        ((nic(mac=OTHER.mac),), f"{OTHER.mac} is another's"),
        ((nic(mac="52:54:00:aa:aa:aa"),), "52:54:00:aa:aa:aa is another's"),
        ((nic(kind="isolated", network="mine", mac=OTHER.mac),), f"{OTHER.mac} is another's"),
        (
            (nic(kind="isolated", network="mine", address="10.7.0.3/16"),),
            "10.7.0.3/16 is another VM's",
        ),
        ((nic(4), nic(5, mac="52:54:00:00:00:04")), "52:54:00:00:00:04 is another's"),
        ((nic(4), nic(5, address="10.0.0.14/24")), "10.0.0.14/24 is another VM's"),
        (tuple(nic(number) for number in range(4, 21)), "17 cards: a VM has 16 at most"),
    ],
)
def test_what_it_does_not(cards: tuple[Nic, ...], why: str) -> None:
    assert why in refusal(*cards)
    assert "\n" not in refusal(*cards)
