"""Link VMs to networks and volumes, in one transaction; and what every new row has."""

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.occi.messages import OcciError, Value, named_in
from occi_bridge.occi.validate_new import New
from occi_bridge.service import quota, throughput
from occi_bridge.service.addresses import new_address, new_mac
from occi_bridge.service.transaction import Transaction
from occi_bridge.store import networks, queries, tables
from occi_bridge.store.networks import KINDS, Net
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Row, Storage

_RETRY = 30  # seconds after which clients are told to ask again
_APART = {  # attributes that have a column, or that only the baits can know
    schema.ID,
    schema.SOURCE,
    schema.TARGET,
    schema.ARCHITECTURE,
    schema.CORES,
    schema.DISK_SIZE,
    schema.USERDATA,
    "occi.compute.hostname",
    "occi.storage.size",
    schema.NETWORK_ADDRESS,
    schema.NETWORK_ADDRESS6,
    "occi.network.gateway",
    "occi.network.allocation",
    "occi.networkinterface.interface",
    schema.ADDRESS,
    "occi.networkinterface.gateway",
    "occi.networkinterface.allocation",
    "occi.storagelink.deviceid",
}


def columns(tx: Transaction, new: New, owner: str = "") -> dict[str, object]:
    """What every new row has. `owner` is whose it is, if not this user's.

    An id is its owner's: what others have called so, who are not seen, is nobody's business.

    Raises OcciError 409 where the id is taken, 403 for too many mixins, 503 while too much of what
    the user has deleted is still there.
    """
    uid = str(uuid.uuid4())
    check_tags(new.mixins)
    if tx.leaving >= quota.GOING:
        said = f"{quota.GOING} things that you have deleted are still being taken away; try again"
        raise OcciError(503, said, _RETRY)
    name = str(new.attributes.get(schema.ID) or uid)
    of = tables.entity.c
    near = sa.or_(of.owner == (owner or tx.user.key), tx.visible())
    if name != uid and tx.link.execute(sa.select(of.uid).where(of.id == name, near)).first():
        raise OcciError(409, f"{schema.ID}: {name} is taken")
    return {
        "uid": uid,
        "id": name,
        "owner": owner or tx.user.key,
        "shared": tx.shared,
        "created": time.time(),
        "mixins": list(new.mixins),
        "attributes": stored(new.attributes),
    }


def check_tags(mixins: Collection[str]) -> None:
    """Raises OcciError 403 for more mixins than an entity may have."""
    fault = quota.full("mixins of an entity", 0, quota.TAGS, len(mixins))
    if fault:
        raise OcciError(403, fault)


def stored(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Those attributes that have no column of their own."""
    return {name: value for name, value in attributes.items() if name not in _APART}


def net_of(tx: Transaction, card: Interface) -> Net | None:
    """The network that a card is on; None if the site has it no more."""
    if card.owned is None:
        return tx.site.nets.get(card.network)
    return networks.of_user(queries.read(tx.link, Network, tables.entity.c.uid == card.owned)[0])


def make_link(tx: Transaction, machine: Compute, new: New) -> Row:
    """Link a VM to a network or a volume. Raises OcciError."""
    if machine.state == "suspended" and not machine.lease:
        raise OcciError(409, "the VM is hibernated: start it before its links are changed")
    with named_in(schema.TARGET):
        target = tx.find(str(new.attributes[schema.TARGET]))
    machine = tx.held(machine)
    if new.kind == schema.NETWORKINTERFACE and isinstance(target, Net | Network):
        return interface(tx, machine, target, new)
    if new.kind == schema.STORAGELINK and isinstance(target, Storage):
        return _attachment(tx, machine, target, new)
    raise OcciError(400, f"{schema.TARGET}: this kind of link can't go there")


def _check_room(what: str, has: int) -> None:
    """Raises OcciError 403 where a VM has all the links of a kind that it may have.

    Deleted ones count until they are gone from the VM.
    """
    fault = quota.full(what, has, quota.LINKS)
    if fault:
        raise OcciError(403, fault)


def _attachment(tx: Transaction, machine: Compute, volume: Storage, new: New) -> Attachment:
    links = tables.attachment
    _check_room("volumes of a VM", tx.count(links, links.c.compute == machine.uid))
    volume = tx.held(volume)
    if not volume.online:
        raise OcciError(409, f"/storage/{volume.id} is offline")
    row = Attachment(
        **_of_machine(tx, machine, new),  # type: ignore[arg-type]
        storage=volume.uid,
    )
    for other in queries.existing(tx.link, Attachment, links.c.storage == volume.uid):
        if other.compute == machine.uid or not (row.readonly and other.readonly):
            both = "" if other.compute == machine.uid else "; links of which all have the mixin "
            both += "readonly can be several" if both else ""
            raise OcciError(409, f"/storage/{volume.id} is linked to a VM already{both}")
    _check_place(tx, machine, volume)
    queries.insert(tx.link, row)
    return row


def _check_place(tx: Transaction, machine: Compute, volume: Storage) -> None:
    """What is on one node alone can't meet what is on another."""
    if machine.home and volume.node and machine.home != volume.node:
        said = f"the VM is on {machine.node}, /storage/{volume.id} on {volume.node} alone"
        raise OcciError(409, said)
    its = sa.select(tables.attachment.c.storage).where(tables.attachment.c.compute == machine.uid)
    for other in queries.existing(tx.link, Storage, tables.storage.c.uid.in_(its)):
        if volume.node and other.node and other.node != volume.node:
            said = f"/storage/{other.id} is on {other.node} alone, /storage/{volume.id} on"
            raise OcciError(409, f"{said} {volume.node}")


def interface(
    tx: Transaction,
    machine: Compute,
    on: Net | Network,
    new: New,
    cards: Sequence[Interface] | None = None,
) -> Interface:
    """A card of a VM's on a network; `cards` are those that it has, where that is known."""
    if cards is None:
        cards = queries.read(tx.link, Interface, tables.interface.c.compute == machine.uid)
    _check_room("networks of a VM", len(cards))
    cards = [card for card in cards if not card.gone]
    net = networks.of_user(on) if isinstance(on, Network) else on
    if isinstance(on, Network):
        if not tx.held(on).up:
            raise OcciError(409, f"/network/{on.id} is down")
    elif net.pool:
        # All who are on another kind of network would wait here for each other, and for the disk.
        tx.db.lock(tx.link, f"network {net.name}")
    _check_name(cards, new)
    _check_given(net, new)
    _check_once(tx, cards, net)
    check_counted(tx, net, machine, 0, 1)
    _check_node(tx, machine, net)
    of_size = tx.site.throughput_of(machine.mixins)
    limits = throughput.settled(net, tx.user.grant, new.attributes, of_size)
    new = replace(new, attributes={**new.attributes, **limits})
    address = new_address(tx, net, new)
    host = net.host(address)
    row = Interface(
        **_of_machine(tx, machine, new),  # type: ignore[arg-type]
        network=net.name,
        owned=net.owned,
        mac=host.mac if host else new_mac(tx.site.macs),
        assigned=address,
        gateway=str(net.gateway or ""),
    )
    queries.insert(tx.link, row)
    return row


def check_counted(tx: Transaction, net: Net, vm: Compute, sends: int, to_send: int) -> None:
    """Raises OcciError 409 where a card is to send more (Mbit/s) than the lease of its VM has asked
    the batch system for."""
    if throughput.is_counted(net, sends, to_send) and tx.lease_of(vm):
        said = f"what VMs send on network {net.name} is counted when their lease is asked for"
        raise OcciError(409, f"{said}: stop the VM first")


def _of_machine(tx: Transaction, machine: Compute, new: New) -> dict[str, object]:
    """The columns of a link: whoever makes it, it is its VM's."""
    of_machine = {"shared": machine.shared, "compute": machine.uid}
    return columns(tx, new, machine.owner) | of_machine


def _check_name(cards: Sequence[Interface], new: New) -> None:
    """Cards are counted, and that is how they are called."""
    name = "occi.networkinterface.interface"
    own = f"eth{len(cards)}"
    if new.attributes.get(name, own) != own:
        raise OcciError(400, f"{name}: this one is {own}; leave it out")


def _check_given(net: Net, new: New) -> None:
    """Gateway and allocation are the network's."""
    name, ours = "occi.networkinterface", net.pool or net.subnet6
    own = {
        f"{name}.gateway": str(net.gateway or ""),
        f"{name}.allocation": "static" if ours else "" if net.owned else "dynamic",
    }
    for key, value in own.items():
        asked = str(new.attributes.get(key, value)).partition("/")[0]
        if asked != value:
            raise OcciError(400, f"{key}: {value or 'none'} in network {net.name}; leave it out")


def _check_once(tx: Transaction, cards: Sequence[Interface], net: Net) -> None:
    if not KINDS[net.kind].once:
        return
    for card in cards:
        other = tx.site.nets.get(card.network)
        if other and other.kind == net.kind:
            raise OcciError(409, f"the VM is on /network/{other.name} already: once is all")


def _check_node(tx: Transaction, machine: Compute, net: Net) -> None:
    """A VM that can't leave its node can't meet those that can't leave another."""
    if tx.site.spans or not (net.owned and KINDS[net.kind].one_node and machine.home):
        return
    on = sa.select(tables.interface.c.compute).where(tables.interface.c.owned == net.owned)
    for other in queries.existing(tx.link, Compute, tables.compute.c.uid.in_(on)):
        if other.home and other.home != machine.node:
            raise OcciError(
                409, f"the VM is on {machine.node}, those of this network on {other.node}"
            )
