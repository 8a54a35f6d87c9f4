"""What a request to change or replace an entity asks for, checked against both. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from occi_bridge.occi import schema
from occi_bridge.occi.attributes import checked, same
from occi_bridge.occi.messages import Body, Entity, OcciError, Value
from occi_bridge.occi.model import Kind, Mixin, Model
from occi_bridge.occi.resolve import (
    Asked,
    asked,
    check_mixins,
    definition,
    definitions,
    template,
    with_sizes,
)
from occi_bridge.occi.validate_new import New, inline_links


@dataclass(frozen=True, slots=True)
class Changes:
    """What a client wants changed on an entity that is there (POST on it), checked against it.

    `attributes` are those that get a new value, "" to have none; what the entity has already is
    not among them. `added` and `removed` are mixins: a template that replaces another of its group
    has the old one in `removed`, and the sizes it sets in `attributes`; sizes that differ from a
    template's take it off. `links` are inline links to be made as in New. All empty: nothing is to
    be changed.
    """

    attributes: Mapping[str, Value] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    links: tuple[New, ...] = ()


def update(model: Model, body: Body, entity: Entity) -> Changes:
    """What a request to change an entity asks for (POST: what is not named stays).

    Raises OcciError 400, also for what is immutable, and for a mixin that only its maker can give.
    """
    kind, request, has = _of(model, body, entity)
    added = [mixin for mixin in request.mixins if mixin.id not in entity.mixins]
    added = [mixin for mixin in added if mixin.set_by != "service"]
    _check_added(added)
    groups = {mixin.parent for mixin in added if template(mixin)}
    removed = [old for old in has if template(old) and old.parent in groups]
    kept = [mixin for mixin in has if mixin not in removed]
    check_mixins(kind, [*kept, *added])
    known = definitions(kind, [*kept, *added])
    changed: dict[str, Value] = {}
    for name, value in request.attributes.items():
        attribute = definition(model, known, kind, name)
        new = checked(attribute, value)
        if same(entity.attributes.get(name), new):
            continue
        if attribute.immutable:
            raise OcciError(400, f"{name}: can't be changed")
        changed[name] = new
    sizes = with_sizes({name: changed[name] for name in changed}, added)
    changed |= {
        name: value for name, value in sizes.items() if entity.attributes.get(name) != value
    }
    removed += [old for old in kept if any(name in changed for name in old.sets)]
    return Changes(
        attributes=changed,
        added=tuple(mixin.id for mixin in added),
        removed=tuple(mixin.id for mixin in removed),
        links=inline_links(model, kind, body.links, entity),
    )


def replace(model: Model, body: Body, entity: Entity) -> New:
    """What a request to replace an entity asks for (PUT). What only the service sets is passed
    over, so that a rendering can be changed and sent back.

    The mixins that only its maker could give stay, and so do its sizes where none are named.
    Raises OcciError 400.
    """
    kind, request, has = _of(model, body, entity)
    added = [mixin for mixin in request.mixins if mixin.id not in entity.mixins]
    _check_added(mixin for mixin in added if mixin.set_by != "service")
    stay = [mixin for mixin in has if mixin.set_by != "client" or mixin in request.mixins]
    mixins = [*stay, *(mixin for mixin in added if mixin.set_by == "client")]
    known = definitions(kind, [*stay, *has, *added])
    attributes: dict[str, Value] = {}
    for name, value in request.attributes.items():
        attribute = definition(model, known, kind, name)
        new = checked(attribute, value)
        if attribute.set_by == "client":
            attributes[name] = new
        elif attribute.set_by == "creator" and not same(entity.attributes.get(name), new):
            raise OcciError(400, f"{name}: can't be changed")
    if not any(mixin.sets for mixin in mixins):
        mixins += [old for old in has if old.sets and not _differs(old.sets, attributes)]
        sizes = {name: entity.attributes.get(name) for name in (schema.CORES, schema.MEMORY)}
        attributes = {
            name: value for name, value in sizes.items() if value is not None
        } | attributes
    check_mixins(kind, mixins)
    attributes = with_sizes(attributes, mixins)
    gone = [name for name in entity.mixins if name not in model.mixins]  # an image withdrawn
    return New(
        kind=kind.id,
        mixins=(*gone, *(mixin.id for mixin in mixins)),
        attributes={name: value for name, value in attributes.items() if value != ""},
        links=inline_links(model, kind, body.links, entity),
    )


def _of(model: Model, body: Body, entity: Entity) -> tuple[Kind, Asked, list[Mixin]]:
    """An entity's kind, what is asked of it, and the mixins that it has."""
    request = asked(model, body, entity.mixins, entity.attributes)
    kind = model.kinds[entity.kind]
    if request.kind and request.kind.id != kind.id:
        raise OcciError(400, f"{entity.path} is a {kind.term}, not a {request.kind.term}")
    return kind, request, [model.mixins[name] for name in entity.mixins if name in model.mixins]


def _check_added(mixins: Iterable[Mixin]) -> None:
    for mixin in mixins:
        if mixin.set_by == "creator":
            raise OcciError(400, f"the mixin {mixin.id} can only be given when it is created")


def _differs(sets: Mapping[str, Value], attributes: Mapping[str, Value]) -> bool:
    return any(attributes.get(name, value) != value for name, value in sets.items())
