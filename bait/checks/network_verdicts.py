"""What a node's checks conclude of the networks that guests have there. Pure: bait/checks/node.py
does the looking."""

from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Network

from bait.hypervisor.domain import Inventory
from wnodes_lrms.config.load import Batch, Network, Offer
from wnodes_lrms.doctor import Check, fault, ok, unknown, warning


def network(found: Inventory, wanted: Network) -> Check:
    """Whether the guests' network is active."""
    remedy = "restart wnodes-bait: it makes the network, or its log says why not"
    if wanted.name in found.networks:
        return ok("network", f"{wanted.name} is active, {wanted.subnet}")
    return fault("network", f"{wanted.name} is not active in libvirt", remedy)


def firewall(table: str, trouble: str | None) -> Check:
    """`trouble` is why nftables does not hold the guests by the tables of this name."""
    name = "guests' firewall"
    if trouble is None:
        return ok(name, f"nftables has the tables {table}")
    return fault(
        name,
        f"nftables has no tables {table}: guests reach the node and its networks, under any"
        f" address: {trouble}",
        "install nftables, with a kernel that has its families bridge and inet, and restart"
        " wnodes-bait: it makes the tables, or its log says why not",
    )


def tunnels(network: IPv4Network, end: str, trouble: str | None) -> Check:
    """`end` is the node's own address in the network of the tunnels; `trouble` is why the kernel
    can't make any."""
    name = "tunnels of private networks"
    if trouble is not None:
        remedy = "use a kernel with VXLAN (module vxlan), or leave [network] tunnels out"
        return fault(name, f"the kernel makes none: {trouble}", remedy)
    if not end:
        seen = f"this node has no address in {network}: it takes no VM on a private network"
        return fault(name, seen, "give it one, or see [network] tunnels")
    return ok(name, f"from {end}")


def site_networks(
    offers: Sequence[Offer], rules: Sequence[Batch], interfaces: Collection[str], node: str
) -> Iterator[Check]:
    """Whether this node has the networks that it offers, and those that batch jobs' VMs are to be
    on, with addresses for these; `interfaces` are the node's."""
    for offer in offers:
        name = f"network {offer.name}"
        if offer.bridge in interfaces:
            yield ok(name, f"by the bridge {offer.bridge}")
        else:
            yield fault(
                name,
                f"this node has no bridge {offer.bridge}: it takes no VM on that network",
                "make the bridge, or take the network out of this node's [[cloud.network]]",
            )
    named = {offer.name: offer for offer in offers}
    for name in sorted({rule.network for rule in rules if rule.network}):
        there = named.get(name)
        if there is None:
            lacks, remedy = "does not offer it", "add a [[cloud.network]]"
        elif there.subnet and node not in there.batch:
            lacks, remedy = "has no addresses of it for batch VMs", "say which it has, in its batch"
        else:
            continue
        yield warning(
            f"network {name}",
            f"this node {lacks}: jobs whose VMs are to be on it are tried elsewhere, and held after"
            " some tries",
            f"keep such jobs off this node (partition, feature), or {remedy}",
        )


def throughput(trouble: str, unshaped: str) -> Check:
    """`trouble` is why the kernel can't limit what cards carry, `unshaped` what the node then does
    with VMs that are to be limited."""
    name = "throughput"
    if not trouble:
        return ok(name, "the kernel can limit it")
    remedy = "load the modules ifb, sch_tbf, sch_ingress, cls_u32 and act_mirred; install iproute2"
    if unshaped == "warn":
        seen = f"not limited, VMs run without (unshaped = 'warn'): {trouble}"
        return warning(name, seen, remedy)
    return warning(name, f"VMs that are to have a limit are refused here: {trouble}", remedy)


def sfq(trouble: str | None) -> Check:
    """`trouble` is what tc said when asked for an sfq queue."""
    if trouble is None:
        return ok("sfq", "the kernel has it")
    if "unknown" not in trouble.lower():
        return unknown("sfq", f"can't be tried: {trouble}", "install iproute2 and util-linux")
    return ok(
        "sfq",
        "the kernel lacks the queue discipline sfq: only throughput limits of a site's own"
        " (libvirt's <bandwidth>) need it",
    )
