"""What a request to create asks for, checked against the model. Pure.

What comes out can be carried out as it stands.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from occi_bridge.occi import schema
from occi_bridge.occi.attributes import checked
from occi_bridge.occi.messages import Body, Entity, LinkBody, OcciError, Value
from occi_bridge.occi.model import Kind, Model
from occi_bridge.occi.parse_common import path_of, shown
from occi_bridge.occi.resolve import Asked, asked, check_mixins, definition, definitions, with_sizes


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
    return replace(new, attributes={**new.attributes, schema.ID: checked(own, name)})


def inline_links(
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
        links=inline_links(model, kind, links, None),
    )


def _check_end(model: Model, kind: Kind, name: str, path: str, wanted: str) -> None:
    there = model.kind_of(path)
    if not there:
        raise OcciError(400, f"{name}: there is nothing at {path}")
    if there.id != wanted:
        raise OcciError(
            400, f"{name}: a {kind.term} needs a {model.kinds[wanted].term} there, not {path}"
        )


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
