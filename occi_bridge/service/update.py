"""Change, delete and act on entities: their rows get the desired state, in one transaction."""

import itertools
import re
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from occi_bridge.occi import schema
from occi_bridge.occi.messages import OcciError, Value
from occi_bridge.occi.validate_new import New
from occi_bridge.service import throughput
from occi_bridge.service.create import (
    check_image,
    check_quota,
    copy_volume,
    hostname,
    whole_gib,
)
from occi_bridge.service.links import check_counted, check_tags, make_link, net_of, stored
from occi_bridge.service.quota import FAILED, Amount, full
from occi_bridge.service.transaction import Transaction
from occi_bridge.service.vm_entities import state
from occi_bridge.store import queries, tables
from occi_bridge.store.networks import Net
from occi_bridge.store.rows import Attachment, Compute, Interface, Network, Row, Storage
from occi_bridge.store.states import asked_to_end

_HOSTNAME = "occi.compute.hostname"
_SIZE = "occi.storage.size"
_AT_REST = ("stopped", "failed")  # of a VM that a lease can't start again
# Of a card that is to carry something else: its bait is told, whatever came of what was asked last.
_AT_ONCE: Mapping[str, Any] = {"flows": {}, "tries": 0, "again": 0.0}


def change(
    tx: Transaction,
    row: Row,
    attributes: Mapping[str, Value],
    mixins: list[str],
    links: Iterable[New],
    *,
    whole: bool,
) -> None:
    """Give a row other attributes and these mixins, and more links. Raises OcciError.

    `whole`: the attributes are all that a user can change; otherwise those not named stay, and ""
    takes one away.
    """
    if isinstance(row, Compute):
        _resize(tx, row, attributes)
        _follow_size(tx, row, mixins)
    elif isinstance(row, Storage):
        _grow(tx, row, whole_gib(attributes.get(_SIZE, row.size)))
    kept = {
        name: value
        for name, value in row.attributes.items()
        if not whole or name == schema.PUBLIC_KEY
    }
    if len(mixins) > len(row.mixins):
        check_tags(mixins)
    new = {name: value for name, value in (kept | stored(attributes)).items() if value != ""}
    if isinstance(row, Interface):
        new |= _throughput(tx, row, new)
    queries.change(tx.link, row, attributes=new, mixins=mixins)
    for link in links:
        if not isinstance(row, Compute):
            raise OcciError(400, "Link: only a VM has links")
        make_link(tx, row, link)


def _throughput(tx: Transaction, row: Interface, asked: Mapping[str, Value]) -> dict[str, Value]:
    """What a card is to carry after this change. Raises OcciError 403, 409."""
    net = net_of(tx, row)
    if net is None or all(asked.get(name) == row.attributes.get(name) for name in throughput.WAYS):
        return {}
    vm = tx.machine(row.compute)
    new = throughput.settled(net, tx.user.grant, asked, tx.site.throughput_of(vm.mixins))
    _check_counted(tx, net, vm, row.attributes, new)
    queries.change(tx.link, row, **_AT_ONCE)
    return new


def _follow_size(tx: Transaction, row: Compute, mixins: Collection[str]) -> None:
    """Cards that carry what the VM's size gives them are to carry what its new one does."""
    sizes = (tx.site.throughput_of(row.mixins), tx.site.throughput_of(mixins))
    for card in tx.links_of([row])[0] if sizes[0] != sizes[1] else ():
        if net := net_of(tx, card):
            old, new = (throughput.settled(net, tx.user.grant, {}, size) for size in sizes)
            has = card.attributes
            same = [name for name in throughput.WAYS if has.get(name) == old.get(name)]
            kept = {name: value for name, value in has.items() if name not in same}
            now = kept | {name: new[name] for name in same if name in new}
            if now != has:
                _check_counted(tx, net, row, has, now)
                queries.change(tx.link, card, attributes=now, **_AT_ONCE)


def _check_counted(
    tx: Transaction, net: Net, vm: Compute, has: Mapping[str, Value], to_have: Mapping[str, Value]
) -> None:
    sends, to_send = (int(of.get(schema.OUTBOUND, 0)) for of in (has, to_have))
    check_counted(tx, net, vm, sends, to_send)


def _resize(tx: Transaction, row: Compute, attributes: Mapping[str, Value]) -> None:
    cores = int(attributes.get(schema.CORES) or row.cores)
    memory = round(float(attributes.get(schema.MEMORY) or row.memory / 1024) * 1024)
    disk = max(int(attributes.get(schema.DISK_SIZE) or 0), row.disk)  # a disk never shrinks
    name = hostname(attributes[_HOSTNAME], row.uid) if _HOSTNAME in attributes else row.hostname
    if (cores, memory, disk, name) == (row.cores, row.memory, row.disk, row.hostname):
        return
    if row.desired != "inactive":
        raise OcciError(409, "its size and host name can only be changed while it is stopped")
    if row.lease and row.state not in _AT_REST:  # a new start may still go into it
        raise OcciError(409, "its lease is still being given back: try again in a moment")
    if not row.saved:
        check_image(tx, row.image, memory)
    check_quota(tx, row.owner, Amount(cores=cores - row.cores, memory=memory - row.memory))
    if tx.held(row).wish != row.wish:  # others come in until it is held
        raise OcciError(409, f"/compute/{row.id} has just been changed: try again")
    size = {"cores": cores, "memory": memory, "disk": disk}
    queries.change(tx.link, row, **size, hostname=name, wish=row.wish + 1)


def _grow(tx: Transaction, row: Storage, size: int) -> None:
    if size < row.size:
        raise OcciError(400, f"{_SIZE}: it has {row.size} GiB, and a volume never shrinks")
    if size > row.size:
        check_quota(tx, row.owner, Amount(storage=size - row.size))
        if tx.held(row).size != row.size:  # others come in until it is held
            raise OcciError(409, f"/storage/{row.id} has just been changed: try again")
        _check_not_copied(tx, row)
        queries.change(tx.link, row, size=size, reason="", tries=0, again=0.0)


def delete(tx: Transaction, row: Row) -> None:
    """Delete an entity for its user at once; the driver sees to the rest. Raises OcciError 409."""
    if isinstance(row, Compute):
        row = tx.held(row)
        for link in itertools.chain(*tx.links_of([row])):
            queries.change(tx.link, link, id=None)
        queries.change(tx.link, row, wish=row.wish + 1)
    elif isinstance(row, Interface | Attachment):
        if row.gone:
            return  # the guest has been asked to let go
        if tx.machine(row.compute).state == "suspended":
            raise OcciError(409, "the VM is suspended: start it before its links are changed")
        queries.change(tx.link, row, reason="", tries=0, again=0.0)
    elif isinstance(row, Network | Storage):
        _check_unlinked(tx, tx.held(row))
        if isinstance(row, Storage):
            _check_not_copied(tx, row)
    queries.change(tx.link, row, id=None)


def _check_unlinked(tx: Transaction, row: Row) -> None:
    """Raises OcciError 409 while a VM is linked to this network or volume."""
    if isinstance(row, Network):
        if queries.existing(tx.link, Interface, tables.interface.c.owned == row.uid):
            raise OcciError(409, f"/network/{row.id} has VMs on it: unlink them first")
    elif queries.existing(tx.link, Attachment, tables.attachment.c.storage == row.uid):
        raise OcciError(409, f"/storage/{row.id} is linked to a VM: unlink it first")


def _check_not_copied(tx: Transaction, row: Row) -> None:
    """Raises OcciError 409 while a copy of this volume is being made.

    Somebody else's that has failed, or waits for its turn behind other copies of theirs, does not
    keep its owner from what they want.
    """
    table = tables.storage.c
    copies = (table.source == row.uid, sa.not_(table.made))
    begun = sa.and_(table.act != "", table.reason == "")
    for copy in queries.existing(
        tx.link, Storage, *copies, sa.or_(begun, tables.entity.c.owner == row.owner)
    ):
        said = f"/storage/{copy.id} is being made as a copy of it: try again later, or delete that"
        raise OcciError(409, said)


def act(
    tx: Transaction, row: Row | Net, action: str, attributes: Mapping[str, Value]
) -> Row | None:
    """Carry out an action (its id); what it has made, if anything. What is so already is success.

    Raises OcciError.
    """
    verb = action.rpartition("#")[2]
    if isinstance(row, Net):
        raise OcciError(403, f"network {row.name} is the site's")
    if isinstance(row, Storage) and action in schema.COPIES:
        return copy_volume(tx, row, str(attributes.get("name", "")))
    if isinstance(row, Compute):
        row = tx.held(row)  # others come in until it is held
        method = str(attributes.get("method", ""))
        if verb == "save":
            _save(tx, row, str(attributes.get("name", "")))
        else:
            _ACTIONS[verb](tx, row, method)
    elif isinstance(row, Storage) and verb == "resize":
        if "size" not in attributes:
            raise OcciError(400, "size: the action resize needs it, in GiB")
        _grow(tx, row, whole_gib(attributes["size"]))
    elif isinstance(row, Network | Storage):
        if verb in ("down", "offline"):
            _check_unlinked(tx, tx.held(row))
        now = {"up": verb == "up"} if isinstance(row, Network) else {"online": verb == "online"}
        queries.change(tx.link, row, **now)
    return None


def _request(tx: Transaction, row: Compute, **values: object) -> None:
    """Requests are counted: the driver does not write over one what followed from the last."""
    queries.change(tx.link, row, wish=row.wish + 1, tries=0, again=0.0, **values)


def _start(tx: Transaction, row: Compute, _method: str) -> None:
    if row.desired == "active" and row.state == "crashed":  # in the lease that it has
        _request(tx, row, restart=row.restart or "warm")
        return
    if row.desired == "active" and not row.fault and row.state != "stopping":
        return
    grant = tx.user.grant
    own: dict[str, object] = {}
    if row.owner == tx.user.key:  # what they may have today, not when they made it
        own = {
            "account": tx.user.account,
            "lrms_account": grant.lrms_account,
            "partition": grant.partition,
            "walltime": grant.walltime,
        }
        for card in tx.links_of([row])[0]:
            net = net_of(tx, card)
            limits = throughput.allowed(net, grant, card.attributes) if net else {}
            queries.change(tx.link, card, attributes=card.attributes | limits)
    if row.state == "stopping" and not asked_to_end(row.act):
        own["act"] = "stop"  # nobody asked, but it goes down: once it has, this request counts
    _request(tx, row, desired="active", fault=False, reason="", restart="", **own)


def _stop(tx: Transaction, row: Compute, method: str) -> None:
    if row.desired == "inactive" and not row.lease:
        return
    if row.state == "suspended" and not row.lease:
        raise OcciError(409, "the VM is hibernated: its lease is free; start it first")
    _request(tx, row, desired="inactive", method=method, restart="")


def _restart(tx: Transaction, row: Compute, method: str) -> None:
    if (state(row) != "active" and row.state != "crashed") or row.desired != "active":
        raise OcciError(409, "the VM does not run: only an active one can be restarted")
    _request(tx, row, restart=method)


def _suspend(tx: Transaction, row: Compute, method: str) -> None:
    if row.desired == "suspended" or (row.state == "suspended" and row.desired != "active"):
        if method == "hibernate" and row.state == "suspended" and row.lease:
            raise OcciError(409, "the VM is suspended, in its lease: start it first")
        return
    if state(row) != "active" or row.desired != "active":
        raise OcciError(409, "the VM does not run: only an active one can be suspended")
    _request(tx, row, desired="suspended", method=method, restart="")


def _save(tx: Transaction, row: Compute, title: str) -> None:
    if not row.node or row.state not in ("running", "stopped"):
        raise OcciError(409, "only a VM that runs, or has run and is stopped, can be saved")
    saved = tables.saved.c
    tx.db.lock(tx.link, f"owner {tx.user.key}")
    count = tx.count(tables.saved, saved.owner == tx.user.key, saved.state != "failed")
    fault = full("saved images", count, tx.user.grant.machines)
    if fault:
        raise OcciError(403, fault)
    _forget_failed(tx)
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "image"
    now = time.time()
    architecture = row.image.split("_", 2)[2]  # of <name>_<os>_<arch>
    tag = f"{name}-{int(now * 1000):x}_saved_{architecture}"
    values = {
        "tag": tag,
        "owner": tx.user.key,
        "shared": tx.shared,
        "title": title or tag,
        "machine": row.uid,
        "node": row.node,
        "state": "wanted",
        "created": now,
    }
    tx.link.execute(sa.insert(tables.saved).values(**values))


def _forget_failed(tx: Transaction) -> None:
    """Of the images of this user that failed only the latest are remembered."""
    saved = tables.saved.c
    mine = (saved.owner == tx.user.key, saved.state == "failed")
    latest = sa.select(saved.tag).where(*mine).order_by(saved.created.desc()).offset(FAILED)
    old = list(tx.link.execute(latest).scalars())
    if old:
        tx.link.execute(sa.delete(tables.saved).where(saved.tag.in_(old)))


_ACTIONS = {"start": _start, "stop": _stop, "restart": _restart, "suspend": _suspend}
