"""The operations on collections: all entities, those of a kind, those that have a mixin."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from occi_bridge.identity.user import Capability
from occi_bridge.occi import render, schema, validate_changes, validate_new
from occi_bridge.occi.attributes import same
from occi_bridge.occi.messages import Body, Entity, OcciError, named_in
from occi_bridge.occi.model import Category, Kind, Mixin, Model
from occi_bridge.occi.negotiate import COLLECTION, JSON
from occi_bridge.occi.parse_common import path_of, shown
from occi_bridge.occi.render import Answer
from occi_bridge.occi.resolve import action
from occi_bridge.web.interfaces import Service
from occi_bridge.web.request import Call


def root(service: Service, call: Call, model: Model) -> Answer:
    """All entities: list, create."""
    media = call.media(COLLECTION)
    return call.choose(
        {
            "GET": lambda: _list(service, call, model, None, media),
            "POST": lambda: _create(service, call, model, None, media),
        }
    )


def of_kind(service: Service, call: Call, model: Model, kind: Kind) -> Answer:
    """All entities of a kind: list, create, act on, delete."""
    media = call.media(COLLECTION)

    def post() -> Answer:
        if "action" in call.query:
            return _act(service, call, model, kind, media)
        return _create(service, call, model, kind, media)

    def delete() -> Answer:
        call.user.require(Capability.CANCEL)
        body = call.body
        paths = _paths(service, call, model, kind, body)
        if body.locations:
            named = {path_of(place, "X-OCCI-Location") for place in body.locations}
            paths = [path for path in paths if path in named]
        else:
            fixed = service.fixed(call.user)
            paths = [path for path in paths if path not in fixed]
        service.delete_all(call.user, paths)
        return render.ok(media)

    return call.choose(
        {
            "GET": lambda: _list(service, call, model, kind, media),
            "POST": post,
            "DELETE": delete,
        }
    )


def of_mixin(service: Service, call: Call, model: Model, mixin: Mixin) -> Answer:
    """All entities that have a mixin: list, act on, add, take out, set."""
    mixin = model.mixins[mixin.alias] if mixin.alias else mixin
    media = call.media(COLLECTION)

    def change(how: Literal["add", "remove", "set"]) -> Answer:
        places = call.body.locations
        if not places:
            raise OcciError(400, "which entities? An X-OCCI-Location is needed")
        paths = list(dict.fromkeys(path_of(place, "X-OCCI-Location") for place in places))
        if mixin.user:
            with named_in("X-OCCI-Location"):
                service.tag(call.user, mixin.id, paths, how)
        elif how == "add":
            _add(service, call, model, mixin, paths)
        else:
            raise OcciError(403, f"{mixin.id} is not a mixin of yours: it can't be taken off")
        return render.ok(media)

    def post() -> Answer:
        if "action" in call.query:
            return _act(service, call, model, mixin, media)
        return change("add")

    return call.choose(
        {
            "GET": lambda: _list(service, call, model, mixin, media),
            "POST": post,
            "PUT": lambda: change("set"),
            "DELETE": lambda: change("remove"),
        }
    )


def known(model: Model, name: str) -> Category:
    """The category of an id. Raises OcciError 400."""
    found = model.find(name)
    if not found:
        raise OcciError(400, f"category «{shown(name)}» is not known here")
    return found


def _list(
    service: Service, call: Call, model: Model, category: Kind | Mixin | None, media: str
) -> Answer:
    if media == JSON:
        entities = _entities(service, call, model, category, call.filters)
        return render.entities(call.page(entities), model)
    paths = _paths(service, call, model, category, call.filters)
    return render.locations(media, call.page(paths), call.base)


def _paths(
    service: Service, call: Call, model: Model, category: Kind | Mixin | None, filters: Body
) -> Sequence[str]:
    """The paths of a collection's members that the filters leave."""
    if filters.categories or filters.attributes:
        found = _entities(service, call, model, category, filters)
        return [entity.path for entity in found]
    paths = service.locations(call.user, _asked(category))
    if isinstance(category, Kind) and category.abstract:
        kinds = {kind.id for kind in model.kinds.values() if _is(model, kind.id, category.id)}
        return [path for path in paths if (kind := model.kind_of(path)) and kind.id in kinds]
    return paths


def _entities(
    service: Service, call: Call, model: Model, category: Kind | Mixin | None, filters: Body
) -> list[Entity]:
    """The members of a collection that the filters leave. Raises OcciError 400."""
    wanted = [known(model, model.canonical(name)).id for name in filters.categories]
    if isinstance(category, Kind) and category.abstract:
        wanted.append(category.id)
    return [
        entity
        for entity in service.entities(call.user, _asked(category))
        if all(name in entity.mixins or _is(model, entity.kind, name) for name in wanted)
        and all(
            same(entity.attributes.get(name), value) for name, value in filters.attributes.items()
        )
    ]


def _asked(category: Kind | Mixin | None) -> str | None:
    """What the service is asked for: it knows no abstract kinds."""
    abstract = isinstance(category, Kind) and category.abstract
    return None if category is None or abstract else category.id


def _is(model: Model, kind: str, ancestor: str) -> bool:
    """Whether a kind is another one, or comes from it."""
    while kind and kind != ancestor:
        kind = model.kinds[kind].parent
    return bool(kind)


def _create(service: Service, call: Call, model: Model, kind: Kind | None, media: str) -> Answer:
    call.user.require(Capability.CREATE)
    new = validate_new.create(model, call.body)
    if kind and new.kind != kind.id:
        raise OcciError(400, f"{call.path} is for a {kind.term}, not for {new.kind}")
    found = service.create(call.user, new, model)
    return render.created(media, found, model, call.base, shown=call.shown)


def _act(service: Service, call: Call, model: Model, category: Kind | Mixin, media: str) -> Answer:
    """Do an action to every member, all of which must be of kinds that have it."""
    call.user.require(Capability.MODIFY)
    members = _entities(service, call, model, category, Body())
    kinds = {entity.kind for entity in members}
    if not members:
        kinds = {category.id} if isinstance(category, Kind) else set(category.applies[:1])
    for kind in kinds or {schema.COMPUTE}:
        name, attributes = action(model, model.kinds[kind], call.query["action"], call.body)
    fixed = service.fixed(call.user)
    paths = [entity.path for entity in members if entity.path not in fixed]
    service.act_all(call.user, paths, name, attributes)
    return render.ok(media)


def _add(service: Service, call: Call, model: Model, mixin: Mixin, paths: Iterable[str]) -> None:
    """Put one of the site's mixins on entities; all are checked before the first is changed."""
    call.user.require(Capability.MODIFY)
    body = Body(categories=(mixin.id,))
    with named_in("X-OCCI-Location"):
        there = {path: service.entity(call.user, path) for path in paths}
    changes = {path: validate_changes.update(model, body, entity) for path, entity in there.items()}
    _each(changes, lambda path: service.update(call.user, path, changes[path]))


def _each(paths: Iterable[str], do: Callable[[str], object]) -> None:
    """Do it to all, whatever happens to some. Raises OcciError with the first fault."""
    faults = []
    for path in paths:
        try:
            do(path)
        except OcciError as fault:
            faults.append((path, fault))
    if faults:
        path, first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise OcciError(first.status, f"{path}: {first.message}{more}", first.retry_after)
