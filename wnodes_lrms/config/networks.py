"""What the tables of networks may not say together, each of which is right by itself. Pure."""

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise

from wnodes_lrms.config.bridge import Bridge, CloudNetwork
from wnodes_lrms.config.cloud import Cloud, Offer
from wnodes_lrms.config.hosts import Host
from wnodes_lrms.config.node import Batch, Network


def faults(network: Network, cloud: Cloud, bridge: Bridge | None) -> list[str]:
    """All that is wrong, each with its place."""
    found = [*_tunnels(network), *_routers("cloud.network", cloud.network)]
    found += [*_closed6(cloud.network), *_unheld(cloud.network)]
    found += _overlaps(network, cloud.network)
    found += _parts(cloud.network)
    found += _hosts(bridge.network if bridge else (), cloud.network)
    if bridge:
        found += _routers("bridge.network", bridge.network)
        found += _numbers(bridge.network)
        found += _without6(bridge.network)
        found += _same(cloud.network, bridge.network)
        found += _reserved(cloud.network, bridge.network)
        found += _unknown(bridge)
        found += _rates(network, cloud.network, bridge.network)
    return found


def batch_faults(rules: Sequence[Batch], offers: Collection[Offer]) -> list[str]:
    """What the rules for batch jobs say of networks that no node has, or has addresses of."""
    found = []
    for number, rule in enumerate(rules, start=1):
        place = f"batch[{number}].network"
        named = [offer for offer in offers if offer.name == rule.network]
        if rule.network and not named:
            found.append(f"{place}: there is no [[cloud.network]] «{rule.network}» on any node")
        elif named and all(offer.subnet and not offer.batch for offer in named):
            found.append(
                f"{place}: «{rule.network}» has a subnet, and no node has addresses of it to give:"
                " say which in its batch"
            )
    return [*found, *_common(offers), *_twice(offers)]


def _tunnels(network: Network) -> Iterator[str]:
    if network.tunnels and network.tunnels.overlaps(network.subnet):
        yield f"network.tunnels: {network.tunnels} has addresses of guests in it (network.subnet)"


def _routers(table: str, networks: Sequence[Offer | CloudNetwork]) -> Iterator[str]:
    for number, each in enumerate(networks, start=1):
        place = f"{table}[{number}].gateway"
        if each.gateway and each.subnet is None:
            yield f"{place}: {each.gateway} is of no subnet: give one, or leave it out"
        elif each.gateway and each.subnet:
            ends = (each.subnet.network_address, each.subnet.broadcast_address)
            if each.gateway not in each.subnet or each.gateway in ends:
                yield f"{place}: {each.gateway} is not a host of {each.subnet}"


def _closed6(offers: Sequence[Offer]) -> Iterator[str]:
    """What is closed by IPv4 alone is open by IPv6."""
    for number, offer in enumerate(offers, start=1):
        if offer.subnet6 and offer.closed and all(net.version == 4 for net in offer.closed):
            yield f"cloud.network[{number}].closed: has no IPv6 networks, but subnet6 is there"
        if offer.gateway6 and offer.subnet6 is None:
            yield f"cloud.network[{number}].gateway6: {offer.gateway6} needs a subnet6"


def _unheld(offers: Sequence[Offer]) -> Iterator[str]:
    """What nftables would have to see to, where it sees nothing."""
    for number, offer in enumerate(offers, start=1):
        for key in ("closed", "open"):
            if offer.openvswitch and getattr(offer, key):
                yield f"cloud.network[{number}].{key}: can't be held on Open vSwitch"


def _overlaps(network: Network, offers: Sequence[Offer]) -> Iterator[str]:
    """An address that is in two networks of a node is on two sides of it."""
    seen: dict[str, tuple[str, ipaddress.IPv4Network]] = {
        "network.subnet": (f"wn-{network.name}", network.subnet)
    }
    for number, offer in enumerate(offers, start=1):
        place = f"cloud.network[{number}].subnet"
        for other, (bridge, subnet) in seen.items():
            if offer.subnet and bridge != offer.bridge and offer.subnet.overlaps(subnet):
                yield f"{place}: {offer.subnet} and {other}, {subnet}, have addresses in common"
        if offer.subnet:
            seen[place] = (offer.bridge, offer.subnet)


def _parts(offers: Sequence[Offer]) -> Iterator[str]:
    for number, offer in enumerate(offers, start=1):
        for node, part in offer.batch.items():
            place = f"cloud.network[{number}].batch.{node}"
            if offer.subnet is None or not part.subnet_of(offer.subnet):
                yield f"{place}: {part} is not of {offer.subnet or 'a subnet: there is none'}"
                continue
            never = {offer.subnet.network_address, offer.subnet.broadcast_address, offer.gateway}
            if part.num_addresses <= len(never) and never.issuperset(part):
                yield f"{place}: {part} has no address for a VM: the router's, or the subnet's ends"
            elif offer.host and not any(host.address in part for host in offer.host):
                hosts = f"cloud.network[{number}].host"
                yield f"{place}: {part} has no address for a VM: none of {hosts}"


def _common(offers: Iterable[Offer]) -> Iterator[str]:
    """Each address that batch VMs get is one node's to give, whatever node's table says so."""
    parts = {
        (part, f"that of {node} in «{offer.name}»")
        for offer in offers
        for node, part in offer.batch.items()
    }
    # Networks are within each other or apart: sorted, those that overlap come in a row.
    for (one, here), (other, there) in pairwise(sorted(parts)):
        if one.overlaps(other):
            yield f"cloud.network.batch: {one}, {here}, and {other}, {there}, overlap"


def _twice(offers: Iterable[Offer]) -> Iterator[str]:
    """What nodes are told of hosts each in a table of its own: it is about the same hosts."""
    seen: dict[str, tuple[Host, Offer]] = {}
    for offer in offers:
        for host in offer.host:
            for what in (host.name, host.mac, str(host.address)):
                other, its = seen.setdefault(what, (host, offer))
                if other != host and its is not offer:  # in one table it has been said already
                    both = f"{other.name} ({other.address}) and {host.name} ({host.address})"
                    yield f"cloud.network.host: {what} is that of {both}"


def _reserved(offers: Sequence[Offer], networks: Sequence[CloudNetwork]) -> Iterator[str]:
    """What the bridge must not give out is the networks', and has all that batch VMs get."""
    parts = {offer.name: offer.batch for offer in offers}
    for number, each in enumerate(networks, start=1):
        place = f"bridge.network[{number}].reserved"
        for kept in each.reserved:
            if each.subnet is None or not kept.subnet_of(each.subnet):
                yield f"{place}: {kept} is not of {each.subnet or 'a subnet: there is none'}"
        for node, part in parts.get(each.name, {}).items() if each.kind == "bridge" else ():
            if not any(part.subnet_of(kept) for kept in each.reserved):
                yield f"{place}: {part} is missing, which node {node} has for batch VMs"


def _numbers(networks: Sequence[CloudNetwork]) -> Iterator[str]:
    seen: dict[int, int] = {}
    for number, each in enumerate(networks, start=1):
        place = f"bridge.network[{number}].vni"
        if each.vni and each.kind != "isolated":
            yield f"{place}: only a network of kind isolated has one"
        elif each.vni in seen:
            yield f"{place}: {each.vni} is that of bridge.network[{seen[each.vni]}]"
        elif each.vni:
            seen[each.vni] = number


def _hosts(networks: Sequence[CloudNetwork], offers: Sequence[Offer]) -> Iterator[str]:
    """Each name, MAC and address is one host's, and one that cards can have: of the bridge's, or of
    a node's for batch VMs."""
    seen: dict[str, str] = {}
    tables: dict[str, CloudNetwork | Offer] = {}
    tables |= {f"cloud.network[{number}]": each for number, each in enumerate(offers, start=1)}
    tables |= {f"bridge.network[{number}]": each for number, each in enumerate(networks, start=1)}
    for table, each in tables.items():
        if isinstance(each, CloudNetwork) and each.host and each.kind != "bridge":
            yield f"{table}.host: only a network of kind bridge has hosts"
        for count, host in enumerate(each.host, start=1):
            place = f"{table}.host[{count}]"
            for what in (host.name, host.mac, str(host.address)):
                if what in seen:
                    yield f"{place}: {what} is that of {seen[what]}"
                seen.setdefault(what, place)
            if not _for_cards(host.address, each):
                of = each.subnet or "a subnet: there is none"
                whose = "to give" if isinstance(each, CloudNetwork) else "that a node gives"
                yield f"{place}.address: {host.address} is not one {whose} of {of}"


def _for_cards(address: ipaddress.IPv4Address, network: CloudNetwork | Offer) -> bool:
    """Whether a card may be given this address: by the bridge, or to a batch VM by its node."""
    subnet = network.subnet
    if subnet is None or address not in subnet or address == network.gateway:
        return False
    if address in (subnet.network_address, subnet.broadcast_address):
        return False
    if isinstance(network, Offer):
        return any(address in part for part in network.batch.values())
    return not any(address in kept for kept in network.reserved)


def _without6(networks: Sequence[CloudNetwork]) -> Iterator[str]:
    for number, each in enumerate(networks, start=1):
        if each.subnet6 and each.kind == "nat":
            yield f"bridge.network[{number}].subnet6: the nodes' own networks have IPv4 alone"


def _same(offers: Sequence[Offer], networks: Sequence[CloudNetwork]) -> Iterator[str]:
    """A node refuses cards with other addresses than it has been told of."""
    own = {offer.name: offer for offer in offers}
    for number, each in enumerate(networks, start=1):
        offer = own.get(each.name)
        if offer is None or each.kind != "bridge":
            continue
        for what in ("subnet", "gateway", "subnet6"):
            here, there = getattr(each, what), getattr(offer, what)
            if here != there and not (what != "subnet" and here is None):
                yield (
                    f"bridge.network[{number}].{what}: is {here or 'not there'}, but"
                    f" {there or 'not there'} in the [[cloud.network]] of the same name"
                )


def _unknown(bridge: Bridge) -> Iterator[str]:
    names = {network.name for network in bridge.network} | {"*"}
    for number, grant in enumerate(bridge.grant, start=1):
        for place, name in enumerate(grant.networks, start=1):
            if name not in names:
                yield f"bridge.grant[{number}].networks[{place}]: there is no network «{name}»"
        if grant.network and not {grant.network, "*"}.intersection(grant.networks):
            yield f"bridge.grant[{number}].network: {grant.network} is not one of its networks"
        elif grant.network and grant.network not in names - {"*"}:
            yield f"bridge.grant[{number}].network: there is no network «{grant.network}»"


def _rates(
    network: Network, offers: Sequence[Offer], networks: Sequence[CloudNetwork]
) -> Iterator[str]:
    """What users are told that a card may carry is what the nodes let it."""
    nodes = {offer.name: offer.throughput for offer in offers}
    for number, each in enumerate(networks, start=1):
        place = f"bridge.network[{number}].throughput"
        if each.consumable and each.throughput_most is None:
            yield f"{place}_most: is missing, which `consumable` needs: else there is no number"
        own = {"nat": network.throughput, "bridge": nodes.get(each.name)}.get(each.kind)
        most = each.throughput_most
        if most and most < each.throughput_least:
            yield f"{place}_most: {most} is less than throughput_least, {each.throughput_least}"
        if each.throughput and not each.throughput_least <= each.throughput <= (
            most or each.throughput
        ):
            yield f"{place}: {each.throughput} is not between throughput_least and throughput_most"
        if own and (most is None or most > own):
            where = "[network]" if each.kind == "nat" else "the [[cloud.network]] of the same name"
            yield f"{place}_most: {own} or less is needed, as the nodes have it in {where}"
