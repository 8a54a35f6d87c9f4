"""The network cards of a node's guests: where each is plugged in, and what it may say it is."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from bait.ledger.records import Row
from bait.ledger.states import AT_REST
from bait.network.addresses import mac_of
from wnodes_lrms.config.load import Offer
from wnodes_lrms.model import Kind
from wnodes_lrms.order import Nic, Order
from wnodes_lrms.rates import UNLIMITED, Rates


@dataclass(frozen=True)
class Card:
    """A network card, on a network of libvirt's or on a bridge of the node's."""

    mac: str
    tap: str  # what the node calls its end of it
    network: str = ""
    bridge: str = ""
    openvswitch: bool = False  # the bridge is one of its
    vlan: int | None = None  # that the card is in, on that bridge
    alone: bool = False  # guests on this network can't reach each other
    mtu: int | None = None  # bytes of a packet, where the guest has to be told


def site_card(guest: "Guest", offer: Offer) -> Card:
    """The card of this guest on a network of the site's."""
    return Card(
        guest.mac,
        guest.tap,
        bridge=offer.bridge,
        openvswitch=offer.openvswitch,
        vlan=offer.vlan,
    )


@dataclass(frozen=True)
class Guest:
    """What a guest may be on its network: whatever else it says it is, is dropped."""

    tap: str
    mac: str
    address: str | None  # None: it asks by DHCP, or chooses one
    offer: str = ""  # the network of the site's that it is on; "": none
    own: bool = False  # it is on the node's own network
    rates: Rates = UNLIMITED  # as they were asked for
    address6: str | None = None  # where its order has it; on a network of the site's it follows


@dataclass(frozen=True)
class Taps:
    """How a node calls its ends of its guests' cards: by these beginnings a filter knows them."""

    own: str  # of cards on the node's own network
    other: str
    tunnel: str  # of private networks, to other nodes

    @classmethod
    def of(cls, cluster: str, node: str) -> "Taps":
        """Not those of another node, which may be on the same host."""
        mine = hashlib.sha256(f"{cluster}/{node}".encode()).hexdigest()[:4]
        return cls(f"wg{mine}", f"wl{mine}", f"wx{mine}")

    def own_card(self, address: str, rates: Rates = UNLIMITED) -> Guest:
        """On the node's own network; MAC and tap follow from the address."""
        mac = mac_of(address)
        return Guest(self.own + mac[6:].replace(":", ""), mac, address, own=True, rates=rates)

    def site_card(
        self,
        machine: str,
        network: str,
        mac: str | None = None,
        address: str | None = None,
        rates: Rates = UNLIMITED,
    ) -> Guest:
        """A batch VM's on a network of the site's, with the MAC that is registered for its address.
        Without one, what MACs other nodes give is not known here: it follows from the VM, whose id
        is nobody else's."""
        digest = hashlib.sha256(f"{machine}/{network}".encode()).hexdigest()
        mac = mac or ":".join(("56", *(digest[at : at + 2] for at in range(0, 10, 2))))
        return Guest(self._other(mac), mac, address, network, rates=rates)

    def other_card(self, nic: Nic) -> Guest:
        """On another network; no two cards of a node have the same MAC there."""
        address = nic.address.partition("/")[0] if nic.address else None
        offer = nic.network if nic.kind == "bridge" else ""
        own6 = nic.address6.partition("/")[0] if nic.address6 and not offer else None
        tap = self._other(nic.mac)
        return Guest(tap, nic.mac, address, offer, rates=nic.rates, address6=own6)

    def _other(self, mac: str) -> str:
        return self.other + mac[9:].replace(":", "")


def guests(rows: Iterable[Row], taps: Taps) -> list[Guest]:
    """The cards of all VMs that run, or soon may."""
    found = []
    for row in rows:
        if row.kind is Kind.CLOUD and row.state in AT_REST:
            continue
        nics = Order.model_validate_json(row.spec).nics if row.kind is Kind.CLOUD else ()
        found += [taps.other_card(nic) for nic in nics if nic.kind != "nat"]
        if row.network:
            where = (row.network, row.site_mac, row.site_address)
            found.append(taps.site_card(row.id, *where, row.rates))
        if row.address:
            of_nat = (nic.rates for nic in nics if nic.kind == "nat")
            found.append(taps.own_card(row.address, next(of_nat, row.rates)))
    return found
