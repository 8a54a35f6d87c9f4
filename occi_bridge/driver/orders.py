"""The orders that the bridge signs: a row of the database as the baits want it. Pure."""

from collections.abc import Mapping, Sequence

from occi_bridge.store.networks import Net
from occi_bridge.store.rows import Attachment, Compute, Interface
from wnodes_lrms.order import Order
from wnodes_lrms.rates import least

SSH_KEY = "occi.credentials.ssh.publickey"


def order(
    compute: Compute,
    user_data: str,
    cards: Sequence[Interface],
    nets: Mapping[str, Net],
    volumes: Sequence[Attachment],
    node: str,
) -> Order:
    """The order for a VM under the lease, and in the job, that its row has.

    `nets` are all networks by name; links that their owner has deleted are left out, and so are
    those to a network that the site no longer has. Raises pydantic.ValidationError where the row
    does not make an order.
    """
    job = {"job": compute.job} if compute.job else {}
    linked = [card for card in cards if not card.gone and card.network in nets]
    keys = str(compute.attributes.get(SSH_KEY, "")).splitlines()
    return Order.model_validate(
        {
            **job,
            "lease": compute.lease,
            "machine": compute.uid,
            "hostname": compute.hostname,
            "dn": compute.owner,
            "fqan": compute.fqan,
            "account": compute.account,
            "lrms_account": compute.lrms_account,
            "partition": compute.partition,
            "walltime": compute.walltime,
            "cores": compute.cores,
            "memory": compute.memory,
            "node": node,
            "image": compute.image,
            "saved": compute.saved,
            "disk": compute.disk,
            "ssh_keys": tuple(key for key in keys if key.strip()),
            "user_data": user_data,
            "features": sorted({nets[card.network].feature for card in linked} - {""}),
            "consumables": _consumables(linked, nets),
            "nics": tuple(nets[card.network].nic(card) for card in linked),
            "volumes": tuple(volume.storage for volume in volumes if not volume.gone),
            "readonly": tuple(
                volume.storage for volume in volumes if volume.readonly and not volume.gone
            ),
        }
    )


def _consumables(cards: Sequence[Interface], nets: Mapping[str, Net]) -> dict[str, int]:
    """What the batch system is to count for a VM: the Mbit/s that its cards may send, by name."""
    found: dict[str, int] = {}
    for card in cards:
        net = nets[card.network]
        if net.consumable and (sends := least(card.rates.outbound, net.most)):
            found[net.consumable] = found.get(net.consumable, 0) + sends
    return found
