"""The networks that VMs can be linked to: the site's, and those that users made. Pure.

What tells one kind of network from another is in KINDS alone.
"""

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from occi_bridge.store.rows import Interface, Network
from wnodes_lrms.addresses import address6_of
from wnodes_lrms.config.load import CloudNetwork, Grant, Host
from wnodes_lrms.order import Nic

_OWN_PREFIX = "u-"  # a user's network, as the baits know it
_OWN_DIGITS = 10  # the name also has to fit into that of a Linux bridge


@dataclass(frozen=True)
class Kind:
    """What is particular to a kind of network."""

    addresses: bool  # the bridge gives them; otherwise the node's bait, or the guest asks
    one_node: bool  # a user's VMs on it can only meet on one node, where nodes have no tunnels
    once: bool  # a VM has one card at most on all networks of this kind


KINDS = {
    "nat": Kind(addresses=False, one_node=False, once=True),
    "bridge": Kind(addresses=True, one_node=False, once=False),
    "isolated": Kind(addresses=True, one_node=True, once=False),
}


@dataclass(frozen=True)
class Net:
    """A network, whoever made it."""

    name: str  # as the baits know it
    kind: str
    title: str = ""
    public: bool = False
    subnet: ipaddress.IPv4Network | None = None
    gateway: ipaddress.IPv4Address | None = None
    reserved: tuple[ipaddress.IPv4Network, ...] = ()  # of the subnet, never given out
    # Those that the site has registered, by their addresses: if there are any, no others are given.
    hosts: Mapping[ipaddress.IPv4Address, Host] = field(default_factory=dict, hash=False)
    subnet6: ipaddress.IPv6Network | None = None
    owned: str | None = None  # its uid, where a user made it
    throughput: int | None = None  # Mbit/s of a card for which nothing is asked; None: `most`
    least: int = 1  # Mbit/s that can be asked for
    most: int | None = None
    feature: str = ""  # of the nodes that have it, in the batch system; "": all may
    consumable: str = ""  # by which the batch system counts what cards may send; "": it does not

    def address6(self, card: Interface) -> str | None:
        """The IPv6 address of a card on it, with the prefix's length; None if it has none."""
        if self.subnet6 is None:
            return None
        return f"{address6_of(card.mac, self.subnet6)}/{self.subnet6.prefixlen}"

    def host(self, address: str | None) -> Host | None:
        """What the site has registered for an address of a card on it, if it has."""
        return self.hosts.get(ipaddress.IPv4Interface(address).ip) if address else None

    def nic(self, card: Interface) -> Nic:
        """A network card on it, as an order has it."""
        return Nic(
            id=card.uid,
            kind=self.kind,
            network=self.name,
            mac=card.mac,
            address=card.assigned,
            gateway=card.gateway or None,
            address6=self.address6(card),
            inbound=card.rates.inbound,
            outbound=card.rates.outbound,
        )

    @property
    def pool(self) -> ipaddress.IPv4Network | None:
        """The range that the bridge gives addresses of; None where a bait does, or nobody."""
        return self.subnet if KINDS[self.kind].addresses else None

    def free_address(self, taken: Collection[str]) -> str | None:
        """An address, with the prefix's length, that nobody has; None if it gives none.

        Raises LookupError when all are taken.
        """
        if self.pool is None:
            return None
        for address in self._given:
            found = f"{address}/{self.pool.prefixlen}"
            if found not in taken and self.gives(address):
                return found
        few = f"{len(self.hosts)} " if self.hosts else ""
        raise LookupError(f"network {self.name}: all {few}addresses of {self.pool} are taken")

    def gives(self, address: ipaddress.IPv4Address) -> bool:
        """Whether cards may have this address, if nobody has it."""
        if self.pool is None or address not in self.pool:
            return False
        if self.hosts and address not in self.hosts:
            return False
        ends = (self.pool.network_address, self.pool.broadcast_address, self.gateway)
        return address not in ends and not any(address in kept for kept in self.reserved)

    @property
    def _given(self) -> Iterator[ipaddress.IPv4Address]:
        """The addresses of the pool, without walking through those that are reserved."""
        if self.hosts:
            yield from self.hosts
            return
        if self.pool is None:
            return
        at, over = int(self.pool.network_address), int(self.pool.broadcast_address) + 1
        for kept in sorted(self.reserved):
            before = min(int(kept.network_address), over)
            yield from map(ipaddress.IPv4Address, range(at, before))
            at = max(at, int(kept.broadcast_address) + 1)
        yield from map(ipaddress.IPv4Address, range(at, over))


def own_name(uid: str) -> str:
    """How the baits call the network that a user made."""
    return _OWN_PREFIX + uid.replace("-", "")[:_OWN_DIGITS]


def of_site(network: CloudNetwork) -> Net:
    """A network of the configuration."""
    return Net(
        name=network.name,
        kind=network.kind,
        title=network.title,
        public=network.public,
        subnet=network.subnet,
        gateway=network.gateway,
        reserved=network.reserved,
        hosts={host.address: host for host in network.host},
        subnet6=network.subnet6,
        throughput=network.throughput,
        least=network.throughput_least,
        most=network.throughput_most,
        feature=network.feature,
        consumable=network.consumable,
    )


def of_user(row: Network) -> Net:
    """A network that a user made: always an isolated one."""
    return Net(
        name=row.name,
        kind="isolated",
        subnet=ipaddress.IPv4Network(row.subnet) if row.subnet else None,
        gateway=ipaddress.IPv4Address(row.gateway) if row.gateway else None,
        subnet6=ipaddress.IPv6Network(row.subnet6) if row.subnet6 else None,
        owned=row.uid,
    )


def granted(networks: Iterable[CloudNetwork], grant: Grant) -> list[CloudNetwork]:
    """Those of the site's networks that a user may link to, in the order of the configuration."""
    return [net for net in networks if "*" in grant.networks or net.name in grant.networks]
