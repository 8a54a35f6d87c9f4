"""What the page shows of VMs, volumes and networks: entities as values for the templates. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity
from occi_bridge.occi.model import Model
from occi_bridge.service.standing import Standing

_STATES = {
    "active": "running",
    "suspended": "suspended",
    "error": "failed",
    "inactive": "stopped",
}


@dataclass(frozen=True)
class Link:
    """A VM's card on a network, or a volume in it."""

    id: str
    path: str  # the network's or volume's
    title: str  # of that
    state: str
    message: str
    address: str = ""
    address6: str = ""  # beside it
    hostname: str = ""  # that the site's DNS has for it
    device: str = ""


@dataclass(frozen=True)
class Vm:
    """A VM. `verbs` are the actions that it has now."""

    id: str
    title: str
    state: str
    message: str
    image: str
    cores: int
    memory: str
    address: str
    standing: Standing | None
    verbs: frozenset[str]
    cards: Sequence[Link]
    volumes: Sequence[Link]

    @property
    def name(self) -> str:
        """What its user calls it."""
        return self.title or self.id


@dataclass(frozen=True)
class Step:
    """One on a VM's way. `at`: when it came to pass; None: `now` it goes on, or it is to come."""

    words: str
    at: float | None
    now: bool = False
    why: str = ""  # it takes so long
    expected: float | None = None  # its end, by the batch system


@dataclass(frozen=True)
class Named:
    """A VM, as others refer to it."""

    id: str
    title: str


@dataclass(frozen=True)
class Belonging:
    """A volume or a network, and the user's VMs that it is in, or that are on it."""

    id: str
    title: str
    state: str
    message: str
    size: str
    address: str
    own: bool  # the site's can't be changed
    verbs: frozenset[str]  # the actions that it has now
    vms: Sequence[Named]


def titles(entities: Iterable[Entity]) -> dict[str, str]:
    """What the user calls each of these, by its path."""
    return {each.path: titled(each) for each in entities}


def vm(found: Entity, standing: Standing | None, model: Model, called: Mapping[str, str]) -> Vm:
    """A VM as it is now; `called` are the titles of networks and volumes, by their paths."""
    has = found.attributes
    state = _STATES.get(str(has.get("occi.compute.state")), "stopped")
    if state == "stopped" and standing and standing.wanted:
        state = "waiting"
    images = [m for name in found.mixins if (m := model.find(name)) and is_of(m, schema.OS_TPL)]
    verbs = {name.rpartition("#")[2] for name in found.actions}
    if state == "waiting":
        verbs.discard("start")  # it would change nothing
    cards = [_card(link, called) for link in found.links if link.kind == schema.NETWORKINTERFACE]
    return Vm(
        id=found.id,
        title=str(has.get("occi.core.title", "")),
        state=state,
        message=str(has.get("occi.compute.state.message", "")),
        image=getattr(images[0], "title", "") if images else "",
        cores=int(has.get(schema.CORES, 0)),
        memory=f"{float(has.get(schema.MEMORY, 0)):g} GiB",
        address=next((card.address for card in cards if card.address), ""),
        standing=standing,
        verbs=frozenset(verbs),
        cards=cards,
        volumes=[_disk(link, called) for link in found.links if link.kind == schema.STORAGELINK],
    )


def steps(vm: Vm) -> list[Step]:
    """How far a VM is: what has come to pass, what goes on, and what is still to come."""
    has = vm.standing
    if has is None:
        return []
    asked, on = Step("Asked for", has.asked), f" on {has.node}" if has.node else ""
    if not (has.wanted or has.queued):
        there = [Step(f"{vm.state.capitalize()}{on}", has.since)] if has.since else []
        return [asked, *there]
    up = has.since if vm.state in ("running", "suspended") else None
    way = [
        ("Its lease was ordered", "Ordering its lease", has.queued),
        (f"The batch system has placed it{on}", "In the batch system's queue", has.began),
        (f"Built, and {vm.state}{on}", "Being built on its node", up),
    ]
    reached = next((place for place, (*_, at) in enumerate(way) if not at), len(way))
    found = [Step(done, at) for done, _, at in way[:reached]]
    for place, (_, doing, _at) in enumerate(way[reached:]):
        found.append(Step(doing, None, now=place == 0, why="" if place else vm.message))
    if has.queued and not has.began:
        found[1] = replace(found[1], expected=has.expected)
    return [asked, *found]


def belonging(found: Entity, vms: Iterable[Entity]) -> Belonging:
    """A volume or a network."""
    has, kind = found.attributes, found.kind.rpartition("#")[2]
    linked = [
        vm for vm in vms if found.path in {link.attributes[schema.TARGET] for link in vm.links}
    ]
    return Belonging(
        id=found.id,
        title=titled(found),
        state=str(has.get(f"occi.{kind}.state", "")),
        message=str(has.get(f"occi.{kind}.state.message", "")),
        size=str(has.get("occi.storage.size", "")),
        address=", ".join(
            dict.fromkeys(
                str(has[name])
                for name in (schema.NETWORK_ADDRESS, schema.NETWORK_ADDRESS6)
                if name in has
            )
        ),
        own=bool(found.actions),
        verbs=frozenset(name.rpartition("#")[2] for name in found.actions),
        vms=[Named(vm.id, titled(vm)) for vm in linked],
    )


def titled(found: Entity) -> str:
    """What its user calls it."""
    return str(found.attributes.get("occi.core.title") or found.id)


def is_of(category: object, parent: str) -> bool:
    """Whether a mixin is one of those that depend on `parent`, such as images."""
    return getattr(category, "parent", "") == parent


def _card(link: Entity, called: Mapping[str, str]) -> Link:
    has = link.attributes
    address, address6 = (str(has.get(name, "")) for name in (schema.ADDRESS, schema.ADDRESS6))
    return Link(
        link.id,
        *_end(has, called),
        str(has.get("occi.networkinterface.state", "")),
        str(has.get("occi.networkinterface.state.message", "")),
        address=address.partition("/")[0],
        address6=address6 if address6 != address else "",
        hostname=str(has.get(schema.HOSTNAME, "")),
    )


def _disk(link: Entity, called: Mapping[str, str]) -> Link:
    has = link.attributes
    return Link(
        link.id,
        *_end(has, called),
        str(has.get("occi.storagelink.state", "")),
        str(has.get("occi.storagelink.state.message", "")),
        device=str(has.get("occi.storagelink.deviceid", "")),
    )


def _end(has: Mapping[str, object], called: Mapping[str, str]) -> tuple[str, str]:
    """The path of a link's end, and what that is called; its id where nobody knows that."""
    path = str(has[schema.TARGET])
    return path, called.get(path, path.rpartition("/")[2])
