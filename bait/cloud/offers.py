"""What an order may say of networks, bridges and addresses of this node: pure decisions.

A bridge's key signs what users want; the node's administrator has said what there is.
"""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

from wnodes_lrms.addresses import address6_of, fault6
from wnodes_lrms.config.load import Offer
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.order import Nic

_MOST = 16  # cards of a VM


def offered(nic: Nic, offers: Sequence[Offer]) -> Offer:
    """The node's network that the card is to be on. Raises RejectedError if there is none."""
    for offer in offers:
        if offer.name == nic.network:
            return offer
    raise RejectedError(
        f"network {nic.network} is none that this node offers: see [[cloud.network]]"
    )


def vet(
    nics: Sequence[Nic],
    others: Collection[Nic],
    offers: Sequence[Offer],
    macs: Collection[str],
    addresses: Collection[str],
) -> None:
    """Raises RejectedError, with the reason, unless the node can have these cards.

    `others` are the cards of its other cloud VMs, `macs` the node's own, `addresses` its own and
    those of batch VMs on the site's networks: one may have what is not in its part any more.
    """
    if len(nics) > _MOST:
        raise RejectedError(f"{len(nics)} cards: a VM has {_MOST} at most")
    taken = list(others)
    for nic in nics:
        if nic.kind == "nat":  # the bait gives it what it has
            continue
        if nic.mac in macs or nic.mac in {other.mac for other in taken if other.id != nic.id}:
            raise RejectedError(f"card {nic.id}: {nic.mac} is another's on this node")
        _vet6(nic)
        if nic.kind == "bridge":
            _vet_offered(nic, offered(nic, offers), addresses)
        for other in taken:
            if _place(other) == _place(nic) and other.id != nic.id and nic.address:
                raise RejectedError(f"card {nic.id}: {nic.address} is another VM's")
        taken.append(nic)


def _place(nic: Nic) -> tuple[str, str, str | None]:
    return nic.kind, nic.network, nic.address and nic.address.partition("/")[0]


def _vet6(nic: Nic) -> None:
    if nic.address6 is None:
        return
    card = IPv6Interface(nic.address6)
    if fault := fault6(card.network):
        raise RejectedError(f"card {nic.id}: {nic.address6}: {fault}")
    if card.ip != address6_of(nic.mac, card.network):
        raise RejectedError(f"card {nic.id}: {nic.address6} does not follow from {nic.mac}")


def _vet_offered(nic: Nic, offer: Offer, addresses: Collection[str]) -> None:
    def refuse(why: str) -> None:
        raise RejectedError(f"network {offer.name}: {why}; see [[cloud.network]]")

    if nic.address6 and IPv6Interface(nic.address6).network != offer.subnet6:
        refuse(f"{nic.address6} is not of {offer.subnet6 or 'it: it has no subnet6'}")
    if offer.subnet is None or nic.address is None:
        if nic.address or offer.subnet:
            refuse(f"cards on it {'ask by DHCP' if nic.address else f'are of {offer.subnet}'}")
        return
    card = IPv4Interface(nic.address)
    if card.network != offer.subnet or not _is_host(card.ip, offer.subnet):
        refuse(f"{nic.address} is not of {offer.subnet}")
    if card.ip == offer.gateway or str(card.ip) in addresses:
        refuse(f"{card.ip} is the router's, the node's own, or a batch VM's")
    if any(card.ip in part for part in offer.batch.values()):
        refuse(f"{card.ip} is for VMs of batch jobs")
    if nic.gateway and IPv4Address(nic.gateway) != offer.gateway:
        refuse(f"{nic.gateway} is not its router")


def _is_host(address: IPv4Address, subnet: IPv4Network) -> bool:
    return address not in (subnet.network_address, subnet.broadcast_address)
