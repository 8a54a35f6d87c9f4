"""What guests may send, as nftables has it. Pure: bait/network/firewall.py hands it to the kernel.

Two tables of the node's own, by nft(8). In `bridge` a frame is held against the card that it comes
from: only IPv4 and ARP, and IPv6 where its network has that, under the card's own addresses, and
nothing that routers and DHCP servers say; what comes by a tunnel, against the cards behind it. In
`inet` a packet is held against where it wants to go: not to the node, nor to what is
closed, but for what the site has opened. Guests may answer connections that the node began. To the
tunnels' port only other nodes may send, and there only root: what a user of a node sends to another
has that node's address.
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence

from bait.network.cards import Guest, Taps
from bait.network.surroundings import Surroundings
from wnodes_lrms.addresses import address6_of
from wnodes_lrms.config.load import Network, Offer
from wnodes_lrms.opening import Opening, opening
from wnodes_lrms.resources import render
from wnodes_lrms.tunnel import Tunnel, split

FAMILIES = ("bridge", "inet")
_LINK = "fe80::/64"
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
# By which the hosts of a network are reached beside their addresses of it: several at once, and
# with IPv6 each by one that follows from its card.
_BESIDE: Mapping[int, Sequence[IPNetwork]] = {
    4: tuple(map(ipaddress.IPv4Network, ("224.0.0.0/4", "255.255.255.255/32"))),
    6: tuple(map(ipaddress.IPv6Network, ("fe80::/10", "ff00::/8"))),
}
Elements = Mapping[tuple[str, str], frozenset[str]]  # (family, set): as nft writes them


def table(node: str) -> str:
    """The name of both tables."""
    return f"wnodes-{node}"


def elements(
    guests: Iterable[Guest], offers: Sequence[Offer], far: Mapping[str, Tunnel] | None
) -> Elements:
    """What changes as guests come and go, here and behind the tunnels.

    `far` are the tunnels by their devices; None where the node has none.
    """
    guests = list(guests)
    fixed = {f"{g.tap} . {g.mac} . {g.address}" for g in guests if g.address}
    return {
        ("bridge", "cards"): frozenset(f"{g.tap} . {g.mac}" for g in guests),
        ("bridge", "addresses"): frozenset(fixed),
        ("bridge", "roaming"): frozenset(f"{g.tap} . {g.mac}" for g in guests if not g.address),
        ("inet", "cards"): frozenset(g.mac for g in guests),
        **_six(guests, offers),
        **{
            ("bridge", name): frozenset(g.tap for g in guests if g.offer == offer.name)
            for name, offer in _limited(offers).items()
        },
        **(_beyond(far) if far is not None else {}),
    }


def _six(guests: Iterable[Guest], offers: Sequence[Offer]) -> Elements:
    """IPv6: what each card that has it may use, and what it may say it is. Nothing where no network
    of the site's has it, and no card."""
    subnets = {offer.name: offer.subnet6 for offer in offers if offer.subnet6}
    own = [
        (f"{guest.tap} . {guest.mac}", address)
        for guest in guests
        for address in _addresses6(guest, subnets.get(guest.offer))
    ]
    if not subnets and not own:
        return {}
    return {
        ("bridge", "cards6"): frozenset(card for card, _ in own),
        ("bridge", "addresses6"): frozenset(f"{card} . {address}" for card, address in own),
        ("bridge", "targets6"): frozenset(f"{card} . {int(address):#x}" for card, address in own),
    }


def _addresses6(
    guest: Guest, subnet: ipaddress.IPv6Network | None
) -> tuple[ipaddress.IPv6Address, ...]:
    """The card's own address, and its link-local one; none where it has no IPv6."""
    if subnet:
        own = address6_of(guest.mac, subnet)
    elif guest.address6:
        own = ipaddress.IPv6Address(guest.address6)
    else:
        return ()
    return address6_of(guest.mac, _LINK), own


def _limited(offers: Sequence[Offer]) -> dict[str, Offer]:
    """Those of the site's networks by which VMs may not reach all, by the name of the set of cards
    that are on them."""
    return {f"on{number}": offer for number, offer in enumerate(offers) if offer.closed}


def _closed(offer: Offer) -> list[IPNetwork]:
    """What VMs may not reach by this network. Where its own hosts are among that, they are so under
    all their addresses."""
    found: list[IPNetwork] = list(offer.closed)
    for subnet in (offer.subnet, offer.subnet6):
        if subnet and any(_overlap(each, subnet) for each in offer.closed):
            found += _BESIDE[subnet.version]
    return found


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _beyond(far: Mapping[str, Tunnel]) -> Elements:
    ends = {(device, end): macs for device, each in far.items() for end, macs in each.ends.items()}
    return {
        ("bridge", "far"): frozenset(
            f"{device} . {mac}" for (device, _), macs in ends.items() for mac in macs
        ),
        ("inet", "nodes"): frozenset(str(split(end)[0]) for _, end in ends),
    }


def whole(
    node: str,
    taps: Taps,
    network: Network,
    offers: Sequence[Offer],
    around: Surroundings,
    held: Elements,
) -> str:
    """Both tables, in the place of what there is of them: one transaction."""
    openings = [opening(text) for text in network.open]
    gateways = {str(offer.gateway) for offer in offers if offer.gateway}
    closed = [*network.closed, network.subnet, *map(ipaddress.IPv4Network, around.networks)]
    return render(
        "guests.nft.j2",
        table=table(node),
        taps=taps,
        own=f"wn-{network.name}",
        gateway=network.subnet[1],
        bridges=sorted({offer.bridge for offer in offers}),
        limits=[
            {
                "name": name,
                "ways": [_match(opening(text)) for text in offer.open],
                "closed": _of(4, _closed(offer)),
                "closed6": _of(6, _closed(offer)),
            }
            for name, offer in _limited(offers).items()
        ],
        six=("bridge", "addresses6") in held,
        tunnels=network.tunnels,
        tunnel_port=network.tunnel_port,
        reserved=sorted({*around.addresses, *gateways}),
        closed=[str(net) for net in ipaddress.collapse_addresses(closed)],
        doors=[_match(each) for each in openings if each.is_host and each.port],
        ways=[_match(each) for each in openings if each.network],
        elements={f"{family}_{name}": sorted(values) for (family, name), values in held.items()},
    )


def changes(node: str, before: Elements, after: Elements) -> list[str]:
    """The commands that make the sets as they should be; none where they are."""
    commands = []
    for (family, name), wanted in after.items():
        for verb, values in (
            ("add", wanted - before[family, name]),
            ("delete", before[family, name] - wanted),
        ):
            if values:
                listed = ", ".join(sorted(values))
                commands.append(f"{verb} element {family} {table(node)} {name} {{ {listed} }}")
    return commands


def _of(version: int, networks: Iterable[IPNetwork]) -> list[str]:
    """Those of this version of IP, as few as possible."""
    mine = [network for network in networks if network.version == version]
    return [str(network) for network in ipaddress.collapse_addresses(mine)]  # type: ignore[type-var]


def _match(each: Opening) -> str:
    """What a packet must be to go to this opening."""
    place = [f"ip daddr {each.network}"] if each.network else []
    return " ".join([*place, *([f"{each.protocol} dport {each.port}"] if each.port else [])])


def seen(listing: Collection[Mapping[str, object]], held: Elements) -> tuple[Elements, str]:
    """From what nft lists as JSON (libnftables-json(5)): the sets that change, and all the rest
    in a text, which is another one when somebody has changed a rule.
    """
    found = {}
    rest = []
    for entry in listing:
        for kind, value in entry.items():
            if kind == "metainfo" or not isinstance(value, dict):
                continue
            key = (value.get("family", ""), value.get("name", ""))
            if kind == "set" and key in held:
                found[key] = frozenset(_element(each) for each in value.get("elem", ()))
            else:
                rest.append(f"{kind} {_plain(value)}")
    return found, "\n".join(rest)


def _element(value: object) -> str:
    if isinstance(value, dict):
        return " . ".join(value["concat"])
    return str(value)


def _plain(value: object) -> object:
    """Without what counts, and without the kernel's own numbers."""
    if isinstance(value, dict):
        counts = ("handle", "packets", "bytes")
        return {key: _plain(each) for key, each in value.items() if key not in counts}
    return [_plain(each) for each in value] if isinstance(value, list) else value
