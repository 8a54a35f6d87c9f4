"""Make entities: rows for what a checked request asks for, in one transaction."""

import ipaddress
import math
import re
import secrets
import time
import uuid
from collections.abc import Mapping

import sqlalchemy as sa

from occi_bridge import networks, rows, schema, tables
from occi_bridge.desk import Desk
from occi_bridge.model import Mixin, Model
from occi_bridge.networks import KINDS, Net
from occi_bridge.quota import Amount, excess
from occi_bridge.rows import Attachment, Compute, Interface, Network, Row, Storage
from occi_bridge.siting import placed
from occi_bridge.validate import New
from occi_bridge.wire import OcciError, Value

_MAC = re.compile(r"52:54:00(:[0-9a-f]{2}){3}")
_COLUMNS = {  # attributes that have a column, or that only the baits can know
    schema.ID,
    schema.SOURCE,
    schema.TARGET,
    schema.CORES,
    schema.MEMORY,
    schema.USERDATA,
    "occi.compute.hostname",
    "occi.storage.size",
    "occi.network.address",
    "occi.network.gateway",
    "occi.network.allocation",
    "occi.networkinterface.mac",
    "occi.networkinterface.address",
    "occi.networkinterface.gateway",
    "occi.networkinterface.allocation",
}


def make(desk: Desk, model: Model, new: New) -> Row:
    """Make an entity, with its inline links. Raises OcciError 400, 403, 404, 409."""
    name = str(new.attributes.get(schema.ID, ""))
    if (
        name
        and desk.link.execute(
            sa.select(tables.entity.c.uid).where(tables.entity.c.id == name)
        ).first()
    ):
        raise OcciError(409, f"{schema.ID}: {name} is taken")
    if new.kind == schema.COMPUTE:
        return _compute(desk, model, new)
    if new.kind == schema.NETWORK:
        return _network(desk, new)
    if new.kind == schema.STORAGE:
        return _storage(desk, new)
    source = desk.find(str(new.attributes[schema.SOURCE]))
    if not isinstance(source, Compute):
        raise OcciError(400, f"{schema.SOURCE}: a machine is needed")
    return make_link(desk, source, new)


def make_link(desk: Desk, machine: Compute, new: New) -> Row:
    """Link a machine to a network or a volume. Raises OcciError."""
    if machine.state == "suspended" and not machine.lease:
        raise OcciError(409, "the machine is hibernated: start it before its links are changed")
    target = desk.find(str(new.attributes[schema.TARGET]))
    if new.kind == schema.NETWORKINTERFACE and isinstance(target, Net | Network):
        return _interface(desk, machine, target, new)
    if new.kind == schema.STORAGELINK and isinstance(target, Storage):
        return _attachment(desk, machine, target, new)
    raise OcciError(400, f"{schema.TARGET}: this kind of link can't go there")


def check_quota(desk: Desk, owner: str, asked: Amount) -> None:
    """Raises OcciError 403 where this is more than the owner may have.

    Whoever counts before he makes something is the only one to do so for this owner.
    """
    desk.db.lock(desk.link, f"owner {owner}")
    fault = excess(desk.user.grant, desk.used(owner), asked)
    if fault:
        raise OcciError(403, fault)


def check_image(desk: Desk, tag: str, memory: int) -> None:
    """Raises OcciError 400 where an image needs more memory (MiB) than that."""
    image = desk.site.image(tag)
    if image and memory < image.min_memory:
        raise OcciError(
            400, f"{schema.MEMORY}: image {tag} needs {image.min_memory / 1024:g} GiB at least"
        )


def hostname(wish: Value | None, uid: str) -> str:
    """A host name near to what the user called the machine (RFC 1123, one label)."""
    text = re.sub(r"[^a-z0-9]+", "-", str(wish or "").partition(".")[0].lower()).strip("-")
    return text[:63].strip("-") or f"vm-{uid[:8]}"


def _common(desk: Desk, new: New) -> dict[str, object]:
    """The columns of every new row."""
    uid = str(uuid.uuid4())
    return {
        "uid": uid,
        "id": str(new.attributes.get(schema.ID) or uid),
        "owner": desk.user.key,
        "shared": desk.shared,
        "created": time.time(),
        "mixins": list(new.mixins),
        "attributes": stored(new.attributes),
    }


def stored(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Those attributes that have no column of their own."""
    return {name: value for name, value in attributes.items() if name not in _COLUMNS}


def _compute(desk: Desk, model: Model, new: New) -> Compute:
    cores = int(new.attributes.get(schema.CORES) or desk.site.size.cores)
    gib = float(new.attributes.get(schema.MEMORY) or desk.site.size.memory / 1024)
    memory = round(gib * 1024)
    image = _image(desk, model, new, memory)
    if not image.saved:
        check_image(desk, image.value, memory)
    check_quota(desk, desk.user.key, Amount(machines=1, cores=cores, memory=memory))
    common = _common(desk, new)
    uid = str(common["uid"])
    grant = desk.user.grant
    row = Compute(
        **common,  # type: ignore[arg-type]
        fqan=desk.user.group,
        account=desk.user.account,
        lrms_account=grant.lrms_account,
        partition=grant.partition,
        walltime=grant.walltime,
        image=image.value,
        saved=image.saved,
        hostname=hostname(new.attributes.get("occi.compute.hostname"), uid),
        cores=cores,
        memory=memory,
    )
    if image.id not in row.mixins:
        row.mixins.append(image.id)
    rows.insert(desk.link, row, user_data=str(new.attributes.get(schema.USERDATA, "")))
    for link in new.links:
        make_link(desk, row, link)
    if not any(link.kind == schema.NETWORKINTERFACE for link in new.links):
        public = [net for net in desk.site.granted(desk.user.grant) if net.public]
        for net in public[:1]:
            _interface(desk, row, net, New(schema.NETWORKINTERFACE))
    return row


def _image(desk: Desk, model: Model, new: New, memory: int) -> Mixin:
    """The os_tpl that is asked for, or the first that runs in this memory (MiB)."""
    all_there = [
        mixin
        for mixin in model.mixins.values()
        if mixin.parent == schema.OS_TPL and not mixin.user
    ]
    for mixin in all_there:
        if mixin.id in new.mixins:
            return mixin
    for mixin in all_there:
        image = desk.site.image(mixin.value)
        if image and image.min_memory <= memory:
            return mixin
    raise OcciError(409, "no image that you may use runs in this memory: choose an os_tpl")


def _network(desk: Desk, new: New) -> Network:
    if str(new.attributes.get(schema.ID, "")) in desk.site.nets:
        raise OcciError(409, f"{schema.ID}: {new.attributes[schema.ID]} is taken")
    common = _common(desk, new)
    subnet = _subnet(new.attributes.get("occi.network.address"))
    gateway = str(new.attributes.get("occi.network.gateway", "")).partition("/")[0]
    if gateway:
        name = "occi.network.gateway"
        if not subnet or _ip(name, gateway) not in subnet:
            raise OcciError(400, f"{name}: {gateway} is not in the network's address range")
    row = Network(
        **common,  # type: ignore[arg-type]
        name=networks.own_name(str(common["uid"])),
        subnet=str(subnet or ""),
        gateway=gateway,
    )
    rows.insert(desk.link, row)
    return row


def _subnet(wish: Value | None) -> ipaddress.IPv4Network | None:
    if not wish:
        return None
    try:
        subnet = ipaddress.IPv4Network(str(wish), strict=False)
    except ValueError as error:
        raise OcciError(400, f"occi.network.address: {error}") from error
    if not 8 <= subnet.prefixlen <= 30:
        raise OcciError(400, "occi.network.address: a range from /8 to /30 is needed")
    return subnet


def _ip(name: str, text: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError as error:
        raise OcciError(400, f"{name}: {error}") from error


def _storage(desk: Desk, new: New) -> Storage:
    size = math.ceil(float(new.attributes["occi.storage.size"]))
    check_quota(desk, desk.user.key, Amount(storage=size))
    row = Storage(**_common(desk, new), size=size)  # type: ignore[arg-type]
    rows.insert(desk.link, row)
    return row


def _attachment(desk: Desk, machine: Compute, volume: Storage, new: New) -> Attachment:
    if not volume.online:
        raise OcciError(409, f"/storage/{volume.id} is offline")
    desk.db.lock(desk.link, f"volume {volume.uid}")
    column = tables.attachment.c.storage
    there = tables.entity.c.id.is_not(None)
    if rows.read(desk.link, Attachment, there, column == volume.uid):
        raise OcciError(409, f"/storage/{volume.id} is linked to a machine already")
    row = Attachment(
        **_of_machine(desk, machine, new),  # type: ignore[arg-type]
        storage=volume.uid,
    )
    rows.insert(desk.link, row)
    return row


def _interface(desk: Desk, machine: Compute, on: Net | Network, new: New) -> Interface:
    net = networks.of_user(on) if isinstance(on, Network) else on
    if isinstance(on, Network) and not on.up:
        raise OcciError(409, f"/network/{on.id} is down")
    desk.db.lock(desk.link, f"network {net.name}")
    _check_node(desk, machine, net)
    mac = str(new.attributes.get("occi.networkinterface.mac", "")).lower()
    row = Interface(
        **_of_machine(desk, machine, new),  # type: ignore[arg-type]
        network=net.name,
        owned=net.owned,
        mac=_mac(desk, mac),
        assigned=_address(desk, net, new),
        gateway=str(net.gateway or ""),
    )
    rows.insert(desk.link, row)
    return row


def _of_machine(desk: Desk, machine: Compute, new: New) -> dict[str, object]:
    """The columns of a link: whoever makes it, it is its machine's."""
    owner = {"owner": machine.owner, "shared": machine.shared, "compute": machine.uid}
    return _common(desk, new) | owner


def _check_node(desk: Desk, machine: Compute, net: Net) -> None:
    """A machine that can't leave its node can't meet those that can't leave another."""
    if not (net.owned and KINDS[net.kind].one_node and placed(machine)):
        return
    on = sa.select(tables.interface.c.compute).where(tables.interface.c.owned == net.owned)
    there = tables.entity.c.id.is_not(None)
    for other in rows.read(desk.link, Compute, there, tables.compute.c.uid.in_(on)):
        if placed(other) and placed(other) != machine.node:
            raise OcciError(
                409, f"the machine is on {machine.node}, those of this network on {other.node}"
            )


def _mac(desk: Desk, wish: str) -> str:
    column = tables.interface.c.mac
    name = "occi.networkinterface.mac"
    if wish and not _MAC.fullmatch(wish):
        raise OcciError(400, f"{name}: 52:54:00 has to be its beginning")
    while True:
        mac = wish or "52:54:00:" + secrets.token_bytes(3).hex(":")
        if not desk.link.execute(sa.select(column).where(column == mac)).first():
            return mac
        if wish:
            raise OcciError(409, f"{name}: {wish} is taken")


def _address(desk: Desk, net: Net, new: New) -> str | None:
    """An address of the network that no card has, the one wished for if there is a wish."""
    name = "occi.networkinterface.address"
    wish = str(new.attributes.get(name, "")).partition("/")[0]
    table = tables.interface.c
    query = sa.select(table.assigned).where(table.network == net.name, table.assigned.is_not(None))
    taken = set(desk.link.execute(query).scalars())
    if not wish:
        try:
            return net.free_address(taken)
        except LookupError as error:
            raise OcciError(409, str(error)) from error
    if net.subnet is None or not KINDS[net.kind].addresses:
        raise OcciError(409, f"{name}: network {net.name} gives addresses by itself, or none")
    address = f"{wish}/{net.subnet.prefixlen}"
    ends = (net.subnet.network_address, net.subnet.broadcast_address, net.gateway)
    if _ip(name, wish) not in net.subnet or _ip(name, wish) in ends or address in taken:
        raise OcciError(409, f"{name}: {wish} is taken, or not one of {net.subnet}")
    return address
