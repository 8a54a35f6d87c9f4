"""Make entities: rows for what a checked request asks for, in one transaction."""

import ipaddress
import math
import re
import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, OcciError, Value, named_in
from occi_bridge.occi.model import Mixin, Model
from occi_bridge.occi.validate_new import New
from occi_bridge.service.addresses import ip_of
from occi_bridge.service.links import columns, interface, make_link
from occi_bridge.service.quota import Amount, excess, full
from occi_bridge.service.transaction import Transaction
from occi_bridge.service.vm_entities import architecture
from occi_bridge.store import networks, queries, tables
from occi_bridge.store.rows import Compute, Interface, Network, Row, Storage
from wnodes_lrms.addresses import fault6
from wnodes_lrms.tunnel import USERS_VNIS

_HOSTNAME = "occi.compute.hostname"


def make(tx: Transaction, model: Model, new: New) -> Entity:
    """Make an entity, with its inline links. Raises OcciError 400, 403, 404, 409."""
    if new.kind == schema.COMPUTE:
        return _compute(tx, model, new)
    if new.kind == schema.NETWORK:
        return tx.entity(_network(tx, new))
    if new.kind == schema.STORAGE:
        return tx.entity(_storage(tx, new))
    with named_in(schema.SOURCE):
        source = tx.find(str(new.attributes[schema.SOURCE]))
    if not isinstance(source, Compute):
        raise OcciError(400, f"{schema.SOURCE}: a VM is needed")
    return tx.entity(make_link(tx, source, new))


def check_quota(tx: Transaction, owner: str, asked: Amount) -> None:
    """Raises OcciError 403 where this is more than the owner may have.

    It is counted and made under a lock: nobody else does so for this owner meanwhile.
    """
    tx.db.lock(tx.link, f"owner {owner}")
    fault = excess(tx.user.grant, tx.used(owner), asked)
    if fault:
        raise OcciError(403, fault)


def check_image(tx: Transaction, tag: str, memory: int) -> None:
    """Raises OcciError 400 where an image needs more memory (MiB) than that."""
    image = tx.site.image(tag)
    if image and memory < image.min_memory:
        raise OcciError(
            400, f"{schema.MEMORY}: image {tag} needs {image.min_memory / 1024:g} GiB at least"
        )


def hostname(asked: Value | None, uid: str) -> str:
    """A host name near to what the user called the VM (RFC 1123, one label)."""
    text = re.sub(r"[^a-z0-9]+", "-", str(asked or "").partition(".")[0].lower()).strip("-")
    return text[:63].strip("-") or f"vm-{uid[:8]}"


def _compute(tx: Transaction, model: Model, new: New) -> Entity:
    cores = int(new.attributes.get(schema.CORES) or tx.site.size.cores)
    gib = float(new.attributes.get(schema.MEMORY) or tx.site.size.memory / 1024)
    memory = round(gib * 1024)
    image = _image(tx, model, new, memory)
    if not image.saved:
        check_image(tx, image.value, memory)
    check_quota(tx, tx.user.key, Amount(machines=1, cores=cores, memory=memory))
    own = columns(tx, new)
    uid = str(own["uid"])
    grant = tx.user.grant
    row = Compute(
        **own,  # type: ignore[arg-type]
        fqan=tx.user.group,
        account=tx.user.account,
        lrms_account=grant.lrms_account,
        partition=grant.partition,
        walltime=grant.walltime,
        image=image.value,
        saved=image.saved,
        hostname=hostname(new.attributes.get(_HOSTNAME), uid),
        cores=cores,
        memory=memory,
        disk=_disk(tx, new),
    )
    if image.id not in row.mixins:
        row.mixins.append(image.id)
    queries.insert(tx.link, row, user_data=str(new.attributes.get(schema.USERDATA, "")))
    links = [make_link(tx, row, link) for link in new.links]
    if not any(link.kind == schema.NETWORKINTERFACE for link in new.links):
        named = tx.user.grant.network
        nets = tx.site.granted(tx.user.grant)
        default = [net for net in nets if net.name == named or (named is None and net.public)]
        links += [
            interface(tx, row, net, New(schema.NETWORKINTERFACE), cards=()) for net in default[:1]
        ]
    _name_by_address(tx, row, new, links)
    return tx.machine_with(row, links)


def _name_by_address(tx: Transaction, row: Compute, new: New, links: Sequence[Row]) -> None:
    """A VM whose user gives no name has that which the site's DNS has for its first address."""
    if _HOSTNAME in new.attributes:
        return
    for card in links:
        net = tx.site.nets.get(card.network) if isinstance(card, Interface) else None
        if net and isinstance(card, Interface) and (host := net.host(card.assigned)):
            queries.change(tx.link, row, hostname=host.name.partition(".")[0])
            return


def _disk(tx: Transaction, new: New) -> int:
    """GiB of the root disk: what the size says, the site's usual one where none is named."""
    sized = schema.CORES in new.attributes or schema.MEMORY in new.attributes
    return int(new.attributes.get(schema.DISK_SIZE) or (0 if sized else tx.site.size.disk))


def _image(tx: Transaction, model: Model, new: New, memory: int) -> Mixin:
    """The os_tpl that is asked for, or the first that runs in this memory (MiB).

    Raises OcciError 400 for one of another architecture than asked for, 409 where there is none.
    """
    all_there = [
        mixin for mixin in model.mixins.values() if mixin.parent == schema.OS_TPL and not mixin.user
    ]
    asked = new.attributes.get(schema.ARCHITECTURE)
    for mixin in all_there:
        if mixin.id in new.mixins:
            own = architecture(mixin.value)
            if asked not in (None, own):
                said = f"the image {mixin.value} is {own or 'neither x86 nor x64'}; leave it out"
                raise OcciError(400, f"{schema.ARCHITECTURE}: {said}")
            return mixin
    for mixin in all_there:
        image = tx.site.image(mixin.value)
        fits = asked in (None, architecture(mixin.value))
        if image and image.min_memory <= memory and fits:
            return mixin
    raise OcciError(409, "no image that you may use fits: choose an os_tpl")


def _network(tx: Transaction, new: New) -> Network:
    if str(new.attributes.get(schema.ID, "")) in tx.site.nets:
        raise OcciError(409, f"{schema.ID}: {new.attributes[schema.ID]} is taken")
    tx.db.lock(tx.link, f"owner {tx.user.key}")
    mine = (tables.entity.c.owner == tx.user.key, tables.entity.c.kind == tables.network.name)
    used = tx.count(tables.entity, *mine, queries.THERE)
    fault = full("networks", used, tx.user.grant.machines)
    if fault:
        raise OcciError(403, fault)
    own = columns(tx, new)
    subnet, subnet6 = _ranges(new)
    gateway = str(new.attributes.get("occi.network.gateway", "")).partition("/")[0]
    if gateway:
        name = "occi.network.gateway"
        if not subnet or ip_of(name, gateway) not in subnet:
            raise OcciError(400, f"{name}: {gateway} is not in the network's address range")
    allocation = new.attributes.get("occi.network.allocation")
    if allocation == "dynamic" or (allocation and not (subnet or subnet6)):
        said = "addresses in a network of yours are static, and need occi.network.address"
        raise OcciError(400, f"occi.network.allocation: {said}")
    row = Network(
        **own,  # type: ignore[arg-type]
        name=networks.own_name(str(own["uid"])),
        vni=_vni(tx),
        subnet=str(subnet or ""),
        gateway=gateway,
        subnet6=str(subnet6 or ""),
    )
    queries.insert(tx.link, row)
    return row


def _vni(tx: Transaction) -> int:
    """A number that no network has: by it nodes tell their packets apart."""
    column = tables.network.c.vni
    while True:
        vni = secrets.choice(USERS_VNIS)
        if not tx.link.execute(sa.select(column).where(column == vni)).first():
            return vni


def _ranges(new: New) -> tuple[ipaddress.IPv4Network | None, ipaddress.IPv6Network | None]:
    """The addresses that a network of theirs is to have, by IPv4 and by IPv6. Raises OcciError
    400."""
    given: dict[int, ipaddress.IPv4Network | ipaddress.IPv6Network] = {}
    for name in (schema.NETWORK_ADDRESS, schema.NETWORK_ADDRESS6):
        if asked := new.attributes.get(name):
            subnet = _subnet(name, str(asked))
            first = given.setdefault(subnet.version, subnet)
            if first != subnet:
                raise OcciError(400, f"{name}: {subnet}, but {first} is asked for already")
    return given.get(4), given.get(6)  # type: ignore[return-value]


def _subnet(name: str, asked: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        subnet = ipaddress.ip_network(asked, strict=False)
    except ValueError as error:
        raise OcciError(400, f"{name}: {error}") from error
    if subnet.version == 4 and not 8 <= subnet.prefixlen <= 30:
        raise OcciError(400, f"{name}: a range from /8 to /30 is needed")
    if subnet.version == 6 and (fault := fault6(subnet)):
        raise OcciError(400, f"{name}: {subnet}: {fault}")
    return subnet


def whole_gib(size: Value) -> int:
    """The size of a volume: what is asked for, rounded up. The conformance suite asks for 0.1."""
    return math.ceil(float(size))


def copy_volume(tx: Transaction, source: Storage, title: str) -> Storage:
    """A new volume that becomes what another is. Raises OcciError 403, 409, 503."""
    if not source.made or source.has < source.size:
        raise OcciError(409, f"/storage/{source.id} is just being made, or grown: try again later")
    check_quota(tx, tx.user.key, Amount(storage=source.size))
    if tx.held(source).size != source.size:  # others come in until it is held
        raise OcciError(409, f"/storage/{source.id} has just been changed: try again")
    of = source.attributes.get("occi.core.title", source.id)
    new = New(schema.STORAGE, (), {"occi.core.title": title or f"copy of {of}"[:1024]})
    row = Storage(
        **columns(tx, new),  # type: ignore[arg-type]
        size=source.size,
        source=source.uid,
        origin=f"/storage/{source.id}",
    )
    queries.insert(tx.link, row)
    return row


def _storage(tx: Transaction, new: New) -> Storage:
    size = whole_gib(new.attributes["occi.storage.size"])
    check_quota(tx, tx.user.key, Amount(storage=size))
    row = Storage(**columns(tx, new), size=size)  # type: ignore[arg-type]
    queries.insert(tx.link, row)
    return row
