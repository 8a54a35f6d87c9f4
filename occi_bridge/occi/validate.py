"""Requests checked against the model. Pure: what comes out can be carried out as it stands."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replace_

from occi_bridge.occi import schema
from occi_bridge.occi.attributes import checked, same
from occi_bridge.occi.messages import Body, Entity, LinkBody, OcciError, Value
from occi_bridge.occi.model import Kind, Mixin, Model
from occi_bridge.occi.parse_common import path_of, shown
from occi_bridge.occi.resolve import (
    Asked,
    asked,
    check_mixins,
    definition,
    definitions,
    template,
    with_sizes,
)


@dataclass(frozen=True, slots=True)
class New:
    """An entity that a client wants, checked: to be made, or to take another's place (PUT).

    `kind` and `mixins` are ids that the model has; other spellings of a mixin have become the one
    meant. There is at most one os_tpl and one resource_tpl among them. `attributes` are only those
    that a client may set, of the right type and form; a resource_tpl's sizes are in them. Among
    them may be
    - occi.core.id: what the client chose: 1 to 64 letters, digits, ".", "_" or "-". It needn't be a
      UUID; the entity is to be found under it, and bears it,
    - occi.core.source and occi.core.target on a link: paths, of the right kind, but nobody has
      looked whether anything is there. An inline link (in `links` of its resource) has no source,
    - occi.compute.hostname: any text (clients put the title there), not a host name yet,
    - occi.credentials.ssh.publickey: an OpenSSH public key of good form, on one line,
    - occi.compute.userdata: base64 without white space, at most 49,152 characters.
    Nothing has a default here except what a template sets: sizes not named are the service's.
    Of what takes another's place, `mixins` are all that it is to have, `attributes` all that it is
    to have of those that can change; its sizes are always among them.
    """

    kind: str
    mixins: tuple[str, ...] = ()
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple["New", ...] = ()


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


def create(model: Model, body: Body) -> New:
    """What a request to create asks for. Raises OcciError 400."""
    request = asked(model, body)
    if not request.kind:
        raise OcciError(400, "the kind is missing, as in Category: compute; scheme=…")
    return _new(model, request.kind, request, body.links, inline=False)


def create_at(model: Model, body: Body, kind: Kind, path: str) -> New:
    """What a request to create asks for at a path that the client chose (PUT where nothing is).

    Raises OcciError 400.
    """
    new = create(model, body)
    name = path.rpartition("/")[2]
    if new.kind != kind.id:
        raise OcciError(400, f"{path} is for a {kind.term}, not for {new.kind}")
    if new.attributes.get(schema.ID, name) != name:
        raise OcciError(400, f"{schema.ID}: {new.attributes[schema.ID]} is not that of {path}")
    own = definition(model, definitions(kind, ()), kind, schema.ID)
    return replace_(new, attributes={**new.attributes, schema.ID: checked(own, name)})


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
        links=_inline(model, kind, body.links, entity),
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
        links=_inline(model, kind, body.links, entity),
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


def _new(
    model: Model, kind: Kind, request: Asked, links: Iterable[LinkBody], *, inline: bool
) -> New:
    if kind.abstract:
        raise OcciError(400, f"nothing can be made of the kind {kind.term} itself")
    mixins = [mixin for mixin in request.mixins if mixin.set_by != "service"]
    check_mixins(kind, mixins)
    known = definitions(kind, mixins)
    attributes: dict[str, Value] = {}
    for name, value in request.attributes.items():
        attribute = definition(model, known, kind, name)
        if attribute.set_by == "service":
            raise OcciError(400, f"{name}: is set by the service alone")
        new = checked(attribute, value)
        if new != "":
            attributes[name] = new
    attributes = with_sizes(attributes, mixins)
    for attribute in known.values():
        left_out = inline and attribute.name == schema.SOURCE
        if attribute.required and attribute.name not in attributes and not left_out:
            raise OcciError(400, f"{attribute.name}: is missing")
    for name, end in ((schema.SOURCE, kind.source), (schema.TARGET, kind.target)):
        if name in attributes:
            _check_end(model, kind, name, str(attributes[name]), end)
    return New(
        kind=kind.id,
        mixins=tuple(mixin.id for mixin in mixins),
        attributes=attributes,
        links=_inline(model, kind, links, None),
    )


def _check_end(model: Model, kind: Kind, name: str, path: str, wanted: str) -> None:
    there = model.kind_of(path)
    if not there:
        raise OcciError(400, f"{name}: there is nothing at {path}")
    if there.id != wanted:
        raise OcciError(
            400, f"{name}: a {kind.term} needs a {model.kinds[wanted].term} there, not {path}"
        )


def _inline(
    model: Model, kind: Kind, links: Iterable[LinkBody], entity: Entity | None
) -> tuple[New, ...]:
    """The links that are to be made with a resource: those of Link headers that are neither
    actions nor links which the entity has already."""
    there = {link.path for link in entity.links} if entity else set()
    identities = {link.id for link in entity.links} if entity else set()
    result = []
    for link in links:
        if "?action=" in link.target or (
            entity and (link.itself in there or link.attributes.get(schema.ID) in identities)
        ):
            continue
        if kind.target:
            raise OcciError(400, "Link: a link has no links of its own")
        result.append(_inline_one(model, kind, link))
    return tuple(result)


def _inline_one(model: Model, kind: Kind, link: LinkBody) -> New:
    target = path_of(link.target, "Link")
    there = model.kind_of(target)
    if not there:
        raise OcciError(400, f"Link: there is nothing at {target}")
    if link.rel in model.kinds and link.rel not in {there.id, schema.RESOURCE}:
        raise OcciError(400, f"Link: {target} is a {there.term}, but rel says «{shown(link.rel)}»")
    ends = {schema.SOURCE, schema.TARGET}
    given = {name: value for name, value in link.attributes.items() if name not in ends}
    request = asked(model, Body(link.category, given))
    fitting = [own for own in model.kinds.values() if own.target == there.id]
    chosen = request.kind or next(iter(fitting), None)
    if not chosen or chosen.source != kind.id:
        raise OcciError(400, f"Link: a {kind.term} can't have a link to {target} like this")
    request.attributes[schema.TARGET] = target
    return _new(model, chosen, request, (), inline=True)
