"""Rows as users see them: OCCI entities; those of VMs are in vm_entities. Pure."""

import datetime
from collections.abc import Iterable, Mapping

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, Value
from occi_bridge.store.networks import KINDS, Net, of_user
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Row, Storage
from occi_bridge.store.states import AWAITS

PATHS: Mapping[type[Row], str] = {
    Compute: "/compute/",
    Network: "/network/",
    Storage: "/storage/",
    Interface: "/networkinterface/",
    Attachment: "/storagelink/",
}
KIND_IDS: Mapping[type[Row], str] = {
    Compute: schema.COMPUTE,
    Network: schema.NETWORK,
    Storage: schema.STORAGE,
    Interface: schema.NETWORKINTERFACE,
    Attachment: schema.STORAGELINK,
}
_NETWORK_ACTION = f"{schema.INFRA}/network/action#"
_STORAGE_ACTION = f"{schema.INFRA}/storage/action#"
_LAST = 253_402_300_799.0  # seconds since the epoch: the last that has a date


def storage(row: Storage) -> Entity:
    """A volume."""
    now = "online" if row.made and row.online else "error" if row.reason else "offline"
    attributes: dict[str, Value] = {
        **own(row),
        "occi.storage.size": row.size,
        "occi.storage.state": now,
    }
    if row.reason or row.has < row.size:
        making = "it will be made on the node of the first VM that it is linked to"
        making = making if row.act == AWAITS else "being made"
        going = f"being grown from {row.has} GiB" if row.made else making
        going += f" as a copy of {row.origin}" if row.source and not row.made else ""
        attributes["occi.storage.state.message"] = row.reason or going
    actions = ["offline" if row.online else "online"]
    if row.made:
        actions += ["resize", "snapshot", "backup"]
    found = tuple(_STORAGE_ACTION + action for action in actions)
    if not row.source:
        return entity(row, attributes, actions=found)
    attributes[schema.COPY_SOURCE] = row.origin
    if row.consistency:
        attributes[schema.COPY_TIME] = instant(row.taken)
        attributes[schema.COPY_CONSISTENCY] = row.consistency
    return entity(row, attributes, mixins=(schema.COPY,), actions=found)


def instant(when: float) -> str:
    """A time (seconds since the epoch) as ISO 8601 has it, in UTC; a later one than has a date, as
    of a lease without end, as the last that has one."""
    date = datetime.datetime.fromtimestamp(min(when, _LAST), datetime.UTC)
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


def network(row: Network) -> Entity:
    """A network that a user made."""
    attributes: dict[str, Value] = {
        **own(row),
        **_named(row, "occi.network.label"),
        "occi.network.state": "active" if row.up else "inactive",
    }
    net = of_user(row)
    attributes |= _addresses(net)
    action = "down" if row.up else "up"
    return entity(row, attributes, mixins=_mixins(net), actions=(_NETWORK_ACTION + action,))


def site_network(net: Net) -> Entity:
    """A network of the site: nobody's, and always there."""
    attributes: dict[str, Value] = {
        schema.ID: net.name,
        "occi.core.title": net.title or net.name,
        "occi.network.label": net.name,
        "occi.network.state": "active",
    }
    return Entity(
        id=net.name,
        kind=schema.NETWORK,
        path=f"/network/{net.name}",
        mixins=_mixins(net),
        attributes=attributes | _addresses(net),
    )


def _addresses(net: Net) -> dict[str, Value]:
    """OCCI has one attribute for a range of either kind: where there are two, the IPv4 one."""
    found: dict[str, Value] = {}
    if shown := net.subnet or net.subnet6:
        found[schema.NETWORK_ADDRESS] = str(shown)
        ours = KINDS[net.kind].addresses
        found["occi.network.allocation"] = "static" if ours else "dynamic"
    if net.gateway:
        found["occi.network.gateway"] = str(net.gateway)
    if net.subnet6:
        found[schema.NETWORK_ADDRESS6] = str(net.subnet6)
    return found


def _mixins(net: Net) -> tuple[str, ...]:
    known = ((schema.IPNETWORK, net.subnet or net.subnet6), (schema.IPV6NETWORK, net.subnet6))
    return tuple(mixin for mixin, has in known if has)


def entity(
    row: Row,
    attributes: dict[str, Value],
    *,
    mixins: Iterable[str] = (),
    actions: tuple[str, ...] = (),
    links: tuple[Entity, ...] = (),
) -> Entity:
    """The entity of a row, which has its user's mixins and these."""
    name = row.id or row.uid
    has = dict.fromkeys([*row.mixins, *mixins])
    path = PATHS[type(row)] + name
    return Entity(name, KIND_IDS[type(row)], path, tuple(has), attributes, actions, links)


def own(row: Row) -> dict[str, Value]:
    """The attributes that entities of all kinds have: id, title, summary, credentials."""
    return {schema.ID: row.id or row.uid, **_named(row, "occi.core."), **_named(row, "occi.cred")}


def _named(row: Row, prefix: str) -> dict[str, Value]:
    return {name: value for name, value in row.attributes.items() if name.startswith(prefix)}
