"""What tc(8) is told for a card's throughput, and what it says of it. Pure; see shaper.py.

A card that is limited has a token bucket on its tap, for what goes to the guest. What comes from
the guest is handed to an IFB device of the card's own, and waits in a token bucket there. So both
ways are queues: a policer would have the guest send a third of its packets twice. Nothing is needed
that some kernels lack, as libvirt's own <bandwidth> needs sfq and police.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bait.network.cards import Guest
from wnodes_lrms.config.load import Network, Offer
from wnodes_lrms.rates import Flow, Flows, Rates

_BURST = 0.02  # seconds' worth of bytes that may pass at once: a busy node may wake that late
_SMALLEST = 15_000  # bytes of it: ten packets
_WAIT = "100ms"  # the longest that a packet waits; then the queue is full, and it is dropped
_METER = "estimator 1s 8s"  # the kernel's own measurement of what passes, over some 8 seconds


def limits(guests: Iterable[Guest], network: Network, offers: Sequence[Offer]) -> dict[str, Rates]:
    """The cards that are to be limited, by their taps: what was asked for, within the node's own
    most."""
    most = {offer.name: offer.throughput for offer in offers}
    found = {}
    for guest in guests:
        own = network.throughput if guest.own else most.get(guest.offer)
        if limited := guest.rates.within(own):
            found[guest.tap] = limited
    return found


def back_of(tap: str) -> str:
    """The IFB device of a card."""
    return "wf" + tap[1:]


def tap_of(back: str) -> str:
    """The card of an IFB device."""
    return "w" + back[2:]


def flows(
    taps: Iterable[str],
    links: Iterable[Mapping[str, Any]],
    qdiscs: Iterable[Mapping[str, Any]],
    leads: Mapping[str, str],
) -> dict[str, Flows]:
    """How the cards are limited that are there, by their taps.

    By `ip -json link`, `tc -json -statistics qdisc`, and `leads`: the devices that what comes in by
    a tap is handed to.
    """
    up = {link["ifname"] for link in links if "UP" in link.get("flags", ())}
    buckets = {
        each["dev"]: _flow(each) for each in qdiscs if each["kind"] == "tbf" and each.get("root")
    }
    return {
        tap: Flows(
            buckets.get(tap),
            buckets.get(back_of(tap)) if leads.get(tap) == back_of(tap) in up else None,
        )
        for tap in taps
    }


def _flow(bucket: Mapping[str, Any]) -> Flow:
    return Flow(
        limit=round(bucket["options"]["rate"] * 8 / 1e6),
        passing=bucket.get("rate", 0) * 8,
        passed=bucket["bytes"],
        dropped=bucket["drops"],
    )


def lead(filters: Iterable[Mapping[str, Any]]) -> str:
    """The device that packets are handed to, by what `tc -json filter show` lists; "": none."""
    for each in filters:
        for action in each.get("options", {}).get("actions", ()):
            if action.get("kind") == "mirred":
                return str(action.get("to_dev", ""))
    return ""


def links_needed(wanted: Mapping[str, Rates], there: Iterable[str]) -> list[str]:
    """Lines for `ip -batch` that make the IFB devices that are missing."""
    lines = []
    for tap, rates in wanted.items():
        back = back_of(tap)
        if rates.outbound:
            lines += [] if back in there else [f"link add {back} type ifb"]
            lines.append(f"link set {back} addrgenmode none up")
    return lines


def buckets(wanted: Mapping[str, Rates], found: Mapping[str, Flows]) -> list[str]:
    """Lines for `tc -batch` that limit these cards. What is so already may be said again."""
    lines = []
    for tap, rates in wanted.items():
        if rates.inbound:
            lines.append(_bucket(tap, rates.inbound))
        elif found[tap].inbound:
            lines.append(f"qdisc del dev {tap} root")
        if rates.outbound:
            way = f"match u32 0 0 action mirred egress redirect dev {back_of(tap)}"
            lines += [
                _bucket(back_of(tap), rates.outbound),
                f"qdisc replace dev {tap} ingress",
                f"filter replace dev {tap} ingress protocol all prio 1 handle 800::800 u32 {way}",
            ]
        elif found[tap].outbound:
            lines.append(f"qdisc del dev {tap} ingress")
    return lines


def trial(tap: str) -> list[str]:
    """Commands that make two devices and limit the first, to see whether the kernel can."""
    card = {tap: Rates(1, 1)}
    return [
        f"ip link add {tap} type ifb",
        *(f"ip {line}" for line in links_needed(card, ())),
        *(f"tc {line}" for line in buckets(card, {})),
    ]


def _bucket(device: str, rate: int) -> str:
    burst = max(_SMALLEST, int(rate * 1e6 / 8 * _BURST))
    return (
        f"qdisc replace dev {device} root {_METER} tbf rate {rate}mbit burst {burst}"
        f" latency {_WAIT}"
    )
