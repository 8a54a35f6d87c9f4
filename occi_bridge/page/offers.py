"""What the page offers a user: images, sizes, networks, free volumes, and what is left of their
quotas. Values for the templates. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from occi_bridge.identity.user import User
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity
from occi_bridge.occi.model import Mixin, Model
from occi_bridge.page.views import is_of, titled
from occi_bridge.service.quota import Amount, excess
from wnodes_lrms.model import Room

_LIMITS = {"machines": ("VMs", ""), "cores": ("Cores", ""), "memory": ("Memory", "MiB")}
_LIMITS |= {"storage": ("Volumes", "GiB")}


@dataclass(frozen=True)
class Quota:
    """Something that is limited."""

    title: str
    used: int
    allowed: int
    unit: str


@dataclass(frozen=True)
class Offer:
    """An image or a size. `why_not`: why the user can't have it now, in a sentence; `now`: whether
    there is room for it now, in words.
    """

    id: str
    title: str
    name: str
    why_not: str = ""
    now: str = ""


def quotas(user: User, used: Amount) -> list[Quota]:
    """What the user has, of what they may have."""
    return [
        Quota(title, asdict(used)[name], getattr(user.grant, name), unit)
        for name, (title, unit) in _LIMITS.items()
    ]


def images(model: Model) -> list[Offer]:
    """The images that the user may have, those that they saved last."""
    found = [m for m in model.mixins.values() if is_of(m, schema.OS_TPL) and not m.user]
    return [Offer(m.id, m.title, _about(m)) for m in found]


def sizes(model: Model, user: User, used: Amount, rooms: Sequence[Room] = ()) -> list[Offer]:
    """The sizes, each with whether it still fits the quota, and what is free of the nodes."""
    found = []
    for mixin in model.mixins.values():
        if is_of(mixin, schema.RESOURCE_TPL) and not mixin.user:
            memory = round(float(mixin.sets.get(schema.MEMORY, 0)) * 1024)
            asked = Amount(1, int(mixin.sets.get(schema.CORES, 0)), memory)
            why = excess(user.grant, used, asked) or ""
            now = "" if why else _room(rooms, asked)
            found.append(Offer(mixin.id, mixin.title, mixin.term, why, now))
    return found


def _room(rooms: Sequence[Room], asked: Amount) -> str:
    """How many nodes have room, in words; "" where none has told."""
    if not rooms:
        return ""
    fits = sum(
        room.cores >= asked.cores and (room.memory is None or room.memory >= asked.memory)
        for room in rooms
    )
    if not fits:
        return "no node has room for it now: it would wait"
    return f"there is room for it now on {fits} node{'' if fits == 1 else 's'}"


def free_volumes(entities: Iterable[Entity]) -> list[Offer]:
    """The volumes that are in no VM."""
    found = list(entities)
    taken = {link.attributes[schema.TARGET] for each in found for link in each.links}
    return [
        Offer(each.path, titled(each), f"{each.attributes.get('occi.storage.size')} GiB")
        for each in found
        if each.kind == schema.STORAGE and each.path not in taken
    ]


def networks(entities: Iterable[Entity]) -> list[Offer]:
    """The networks that there are for the user."""
    return [
        Offer(each.path, titled(each), "yours" if each.actions else "the site's")
        for each in entities
        if each.kind == schema.NETWORK
    ]


def _about(image: Mixin) -> str:
    """What is said beside an image's title."""
    if image.saved:
        return "saved"
    return image.value if image.value != image.title else ""
