"""Whether the batch system knows which nodes have which of the site's networks. Pure."""

from collections.abc import Collection, Iterator

from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, ok, warning


def wanted(config: Config) -> dict[str, bool]:
    """The features of networks, and whether this node is to have each: it offers the network."""
    offered = {offer.name for offer in config.cloud.network}
    networks = config.bridge.network if config.bridge else ()
    return {net.feature: net.name in offered for net in networks if net.feature}


def counted(config: Config) -> dict[str, bool]:
    """The consumables of networks, and whether this node is to have some: it has such a network."""
    offered = {offer.name for offer in config.cloud.network}
    found: dict[str, bool] = {}
    for net in config.bridge.network if config.bridge else ():
        if net.consumable:
            here = net.kind != "bridge" or net.name in offered
            found[net.consumable] = here or found.get(net.consumable, False)
    return found


def counts(config: Config, node: str, has: Collection[str]) -> Iterator[Check]:
    """What follows from the consumables of which a node has some in the batch system."""
    for name, needed in counted(config).items():
        if needed and name not in has:
            yield warning(
                f"consumable {name}",
                f"the batch system counts none of it on node {node}: no lease of VMs on its network"
                " comes here",
                "say how much the node has, in Mbit/s, or leave `consumable` out of"
                " [[bridge.network]]",
            )
        elif needed:
            yield ok(f"consumable {name}", f"the batch system counts it on node {node}")


def checks(config: Config, node: str, has: Collection[str]) -> Iterator[Check]:
    """What follows from the features that a node has in the batch system."""
    for feature, needed in wanted(config).items():
        name = f"feature {feature}"
        if needed and feature not in has:
            yield warning(
                name,
                f"node {node} lacks it: no lease of VMs on that network comes here",
                "give it to the node as `wnodes`, or leave `feature` out of [[bridge.network]]",
            )
        elif feature in has and not needed:
            yield warning(
                name,
                f"node {node} has it, and does not offer the network: VMs that come here fail",
                "take it from the node, or add the network to the node's [[cloud.network]]",
            )
        else:
            yield ok(name, f"node {node} {'has' if needed else 'lacks'} it, and the network")
