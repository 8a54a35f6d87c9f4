"""VMs and their links as users see them: OCCI entities. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, Value
from occi_bridge.service.entities import entity, instant, own
from occi_bridge.service.standing import standing
from occi_bridge.store.networks import Net
from occi_bridge.store.rows import Attachment, Compute, Interface, Row
from wnodes_lrms.rates import MOST
from wnodes_lrms.volumes import serial

_ACTION = f"{schema.INFRA}/compute/action#"
_DETACHING = "detaching: "  # before the reason why it takes its time


@dataclass(frozen=True)
class Heard:
    """A node's bait: when it answered last, and whether that is long ago."""

    seen: float
    silent: bool


@dataclass(frozen=True)
class Around:
    """What an entity's rendering needs beside its row.

    `ids` are what users call the ends of links, by uid; a network of the site has its name.
    `nets` are the networks, by their names.
    """

    ids: Mapping[str, str] = field(default_factory=dict)
    nets: Mapping[str, Net] = field(default_factory=dict)
    nodes: Mapping[str, Heard] = field(default_factory=dict)


def state(row: Compute) -> str:
    """A VM's state in OCCI's words."""
    if row.fault or row.state == "crashed":
        return "error"
    if row.state in ("running", "stopping"):
        return "active"
    return "suspended" if row.state == "suspended" else "inactive"


def gib(row: Compute) -> Value:
    """The memory as its user gave it, as long as it is that: a VM has whole MiB."""
    given = row.attributes.get(schema.MEMORY)
    same = isinstance(given, int | float) and round(given * 1024) == row.memory
    return given if given is not None and same else row.memory / 1024


def architecture(tag: str) -> str:
    """OCCI's word for the architecture of an image `<name>_<os>_<arch>`; it has but two."""
    own = tag.split("_", 2)[-1]
    return "x64" if own == "x86_64" else "x86" if re.fullmatch("i[3-6]86", own) else ""


def _architecture(row: Compute) -> dict[str, Value]:
    word = architecture(row.image)
    return {schema.ARCHITECTURE: word} if word else {}


def compute(
    row: Compute, cards: Sequence[Interface], volumes: Sequence[Attachment], around: Around
) -> Entity:
    """A VM with its links."""
    now = state(row)
    heard = around.nodes.get(row.node) if row.state else None
    attributes: dict[str, Value] = {
        **own(row),
        **_architecture(row),
        schema.CORES: row.cores,
        schema.MEMORY: gib(row),
        **({schema.DISK_SIZE: row.disk} if row.disk else {}),
        "occi.compute.hostname": row.hostname,
        "occi.compute.state": now,
    }
    text = _message(row, now)
    if heard:
        when = instant(heard.seen)
        attributes[schema.OBSERVED_TIME] = when
        if heard.silent:
            text += f"{'; ' if text else ''}as of {when}: {row.node} has not answered since"
    if text:
        attributes["occi.compute.state.message"] = text
    lease = _lease(row)
    observed = (*((schema.OBSERVED,) if heard else ()), *((schema.LEASE,) if lease else ()))
    links = [interface(card, row, around, n) for n, card in enumerate(cards)]
    links += [attachment(volume, row, around) for volume in volumes]
    return entity(
        row,
        attributes | lease,
        mixins=observed,
        actions=tuple(_ACTION + action for action in _applicable(row, now)),
        links=tuple(links),
    )


def _lease(row: Compute) -> dict[str, Value]:
    """When its lease is to begin, as far as the batch system says so, or is over."""
    has = standing(row)
    times = {schema.LEASE_EXPECTED: has.expected, schema.LEASE_END: has.ends}
    return {name: instant(at) for name, at in times.items() if at}


def _applicable(row: Compute, now: str) -> Iterable[str]:
    if now == "active":
        yield from ("stop", "restart", "suspend", "save")
    elif row.state == "crashed":
        yield from ("start", "stop", "restart")
    else:
        yield "start"
        if row.lease or row.desired == "active":
            yield "stop"
        if row.ran and row.state == "stopped":
            yield "save"


def _message(row: Compute, now: str) -> str:
    if now in ("error", "active") or row.desired != "active":
        going = {"inactive": "shutting down", "suspended": "being suspended"}
        text = row.reason
        if now == "inactive" and row.lease and row.desired == "inactive":
            text = text or "giving its lease back"
        if now == "active" or row.state == "crashed":
            text = "restarting" if row.restart else going.get(row.desired, "") or row.reason
        return text or ("it failed" if now == "error" else "")
    if row.state in ("requested", "building"):
        return f"being made on {row.node}"
    if row.lease_state == "running":
        return f"its lease has begun on {row.node}".removesuffix(" on ")
    if row.lease_state == "pending":
        return "waiting for the batch system" + (f": {row.reason}" if row.reason else "")
    return row.reason or "waiting for a lease"


def interface(card: Interface, row: Compute, around: Around, number: int) -> Entity:
    """A VM's link to a network; `number` counts its cards."""
    on = f"/network/{around.ids.get(card.owned, card.owned) if card.owned else card.network}"
    address = card.assigned or card.address or ""  # a bait's word does not change what was given
    attributes: dict[str, Value] = {
        **_link(card, row, on),
        "occi.networkinterface.interface": f"eth{number}",
        "occi.networkinterface.mac": card.seen_mac or card.mac,
        **_link_state("occi.networkinterface", card, row),
    }
    mixins = [schema.THROUGHPUT]
    for name, way in ((schema.INBOUND, "inbound"), (schema.OUTBOUND, "outbound")):
        attributes |= _carried(name, way, card, up=card.attached and state(row) == "active")
    net = around.nets.get(card.network)
    address6 = net.address6(card) if net else None
    if address6:
        mixins.insert(0, schema.IPV6NETWORKINTERFACE)
        attributes[schema.ADDRESS6] = address6.partition("/")[0]
    if host := net.host(card.assigned) if net else None:
        mixins.insert(0, schema.REGISTERED)
        attributes[schema.HOSTNAME] = host.name
    if shown := address or address6:  # OCCI has one attribute for an address of either kind
        mixins.insert(0, schema.IPNETWORKINTERFACE)
        attributes[schema.ADDRESS] = shown.partition("/")[0]
        if card.gateway:
            attributes["occi.networkinterface.gateway"] = card.gateway
        given = card.assigned or not address
        attributes["occi.networkinterface.allocation"] = "static" if given else "dynamic"
    return entity(card, attributes, mixins=mixins)


def _carried(name: str, way: str, card: Interface, *, up: bool) -> dict[str, Value]:
    """What a card may carry one way, and carries while its VM runs; nothing without a limit."""
    limit, seen = getattr(card.rates, way), card.flows if up else {}
    in_force = seen.get(f"{way}.limit")
    found: dict[str, Value] = {}
    if limit or in_force:
        found[name] = int(min(limit or MOST, in_force or MOST))
    for what in ("measured", "dropped"):
        if f"{way}.{what}" in seen:
            found[f"{name}.{what}"] = seen[f"{way}.{what}"]
    return found


def attachment(link: Attachment, row: Compute, around: Around) -> Entity:
    """A VM's link to a volume. One that its owner has deleted is there, under its uid, until the
    guest has let go."""
    on = f"/storage/{around.ids.get(link.storage, link.storage)}"
    attributes: dict[str, Value] = {
        **_link(link, row, on),
        **_link_state("occi.storagelink", link, row),
    }
    if link.device:
        attributes["occi.storagelink.deviceid"] = f"/dev/{link.device}"
    if link.gone:
        attributes |= {
            "occi.storagelink.state": "inactive",
            "occi.storagelink.state.message": _DETACHING + (link.reason or "the guest is asked"),
        }
    attributes[schema.SERIAL] = serial(link.storage)
    return entity(link, attributes, mixins=(schema.DISK,))


def _link(link: Row, row: Compute, target: str) -> dict[str, Value]:
    source = f"/compute/{row.id or row.uid}"
    return {**own(link), schema.SOURCE: source, schema.TARGET: target}


def _link_state(prefix: str, link: Interface | Attachment, row: Compute) -> dict[str, Value]:
    up = link.attached and state(row) == "active"
    now = "error" if link.reason else "active" if up else "inactive"
    message: dict[str, Value] = {f"{prefix}.state.message": link.reason} if link.reason else {}
    return {f"{prefix}.state": now, **message}
