"""What a request asks for, in terms of the model: kind, mixins, attributes by their right names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from occi_bridge.occi import schema
from occi_bridge.occi.attributes import checked, renamed
from occi_bridge.occi.messages import Attributes, Body, OcciError, Value
from occi_bridge.occi.model import Action, Attribute, Kind, Mixin, Model
from occi_bridge.occi.parse_common import shown

_GROUPS = (schema.OS_TPL, schema.RESOURCE_TPL)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's kind (None if it names none), mixins as meant, attributes as meant."""

    kind: Kind | None
    mixins: tuple[Mixin, ...]
    attributes: dict[str, Value]


def asked(
    model: Model, body: Body, has: Iterable[str] = (), before: Attributes | None = None
) -> Asked:
    """What a body asks for, of an entity that has these mixins (ids) and attributes already.

    Raises OcciError 400: an unknown category, more than one kind, an action.
    """
    body = body.settled(before or {})
    kinds: dict[str, Kind] = {}
    mixins: dict[str, Mixin] = {}
    for name in body.categories:
        category = model.find(model.canonical(name))
        if isinstance(category, Kind):
            kinds[name] = category
        elif isinstance(category, Mixin):
            mixins[category.id] = category
        elif isinstance(category, Action):
            raise OcciError(400, f"the action {category.term} needs ?action={category.term}")
        else:
            raise OcciError(400, f"category «{shown(name)}» is not known here")
    if len(kinds) > 1:
        raise OcciError(400, f"more than one kind: {', '.join(kinds)}")
    relevant = {*mixins, *has}
    renames = {
        name: meant
        for mixin in model.mixins.values()
        if (mixin.alias or mixin.id) in relevant
        for name, meant in mixin.renames.items()
    }
    return Asked(
        next(iter(kinds.values()), None),
        tuple(mixins.values()),
        renamed(body.attributes, renames),
    )


def check_mixins(kind: Kind, mixins: Iterable[Mixin]) -> None:
    """Raises OcciError 400: a mixin is not for this kind, or two templates are of one group."""
    groups: dict[str, str] = {}
    for mixin in mixins:
        if mixin.applies and kind.id not in mixin.applies:
            raise OcciError(400, f"the mixin {mixin.id} is not for a {kind.term}")
        if template(mixin):
            other = groups.setdefault(mixin.parent, mixin.id)
            if other != mixin.id:
                group = mixin.parent.rpartition("#")[2]
                raise OcciError(400, f"two {group}: {other} and {mixin.id}; one can be given")


def template(mixin: Mixin) -> bool:
    """Whether it is one of the site's templates, of which an entity has one a group at most."""
    return mixin.parent in _GROUPS and not mixin.user


def definitions(kind: Kind, mixins: Iterable[Mixin]) -> dict[str, Attribute]:
    """The attributes, by their names, of an entity of this kind with these mixins."""
    categories = (kind, *mixins)
    return {own.name: own for category in categories for own in category.attributes}


def definition(model: Model, known: Mapping[str, Attribute], kind: Kind, name: str) -> Attribute:
    """The definition of an attribute. Raises OcciError 400, with a hint where it belongs."""
    if name in known:
        if known[name].set_by == "nobody":
            raise OcciError(400, f"{name}: this service has nothing of the kind; leave it out")
        return known[name]
    for mixin in model.mixins.values():
        own = {attribute.name for attribute in mixin.attributes} | set(mixin.renames)
        if name in own and kind.id in mixin.applies and mixin.set_by != "service":
            raise OcciError(400, f"{name}: needs the mixin {mixin.id}")
    raise OcciError(400, f"{shown(name)}: a {kind.term} has no such attribute")


def with_sizes(attributes: Attributes, mixins: Iterable[Mixin]) -> dict[str, Value]:
    """The attributes with those that templates set. Raises OcciError 400 where they differ."""
    result = dict(attributes)
    for mixin in mixins:
        for name, value in mixin.sets.items():
            if result.setdefault(name, value) != value:
                raise OcciError(
                    400,
                    f"{name}: {result[name]} is asked for, but {mixin.term} has {value}; "
                    "leave one of them out",
                )
    return result


def action(model: Model, kind: Kind, term: str, body: Body) -> tuple[str, dict[str, Value]]:
    """The id of the action that a request on an entity of this kind triggers, and its parameters
    with their defaults. `term` is what the URL says. Raises OcciError 400."""
    names = [body.action] if body.action else list(body.categories)
    if len(names) != 1:
        raise OcciError(
            400, f"?action={shown(term)}: the body names {len(names)} categories, not 1"
        )
    found = model.actions.get(names[0])
    if not found or found.id not in kind.actions:
        raise OcciError(400, f"«{shown(names[0])}» is not an action of a {kind.term}")
    if found.term != term:
        raise OcciError(400, f"the URL says ?action={shown(term)}, the body {found.term}")
    known = {attribute.name: attribute for attribute in found.attributes}
    given: dict[str, Value] = {
        name: attribute.default
        for name, attribute in known.items()
        if attribute.default is not None
    }
    for name, value in body.attributes.items():
        if name not in known:
            raise OcciError(400, f"{shown(name)}: the action {found.term} has no such attribute")
        given[name] = checked(known[name], value)
    return found.id, given
