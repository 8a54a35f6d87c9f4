"""What each method does at each place: the operations of OCCI, over a Service.

From GFD.223 (OCCI 1.2, HTTP). Runs in a thread: a Service may block.
"""

import dataclasses
from collections.abc import Sequence

from occi_bridge.identity.user import Capability
from occi_bridge.occi import render, user_mixins, validate_changes, validate_new
from occi_bridge.occi.messages import Entity, OcciError
from occi_bridge.occi.model import Category, Kind, Model
from occi_bridge.occi.negotiate import INSTANCE
from occi_bridge.occi.render import Answer
from occi_bridge.occi.resolve import action
from occi_bridge.web import collections
from occi_bridge.web.interfaces import Service
from occi_bridge.web.request import Call

_QUERY = frozenset({"/-/", "/-", "/.well-known/org/ogf/occi/-/", "/.well-known/org/ogf/occi/-"})


def answer(service: Service, call: Call) -> Answer:
    """The answer to a request. Raises OcciError."""
    model = service.model(call.user)
    if call.path in _QUERY:
        return _query_interface(service, call, model)
    if call.path in {"/", ""}:
        return collections.root(service, call, model)
    category = model.at(call.path)
    if isinstance(category, Kind):
        return collections.of_kind(service, call, model, category)
    if category:
        return collections.of_mixin(service, call, model, category)
    return _instance(service, call, model)


def _query_interface(service: Service, call: Call, model: Model) -> Answer:
    media = call.media(INSTANCE)

    def show() -> Answer:
        return render.categories(media, _shown(model, call.filters.categories))

    def add() -> Answer:
        for definition in user_mixins.added(model, call.body):
            service.add_mixin(call.user, definition)
        return render.ok(media)

    def remove() -> Answer:
        for mixin in user_mixins.removed(model, call.body):
            service.remove_mixin(call.user, mixin)
        return render.ok(media)

    return call.choose({"GET": show, "POST": add, "DELETE": remove})


def _shown(model: Model, names: Sequence[str]) -> Sequence[Category]:
    """The categories of these ids, or all."""
    if not names:
        return [*model.kinds.values(), *model.mixins.values(), *model.actions.values()]
    return [collections.known(model, name) for name in names]


def _instance(service: Service, call: Call, model: Model) -> Answer:
    path = call.path.rstrip("/")
    kind = model.kind_of(path)
    if not kind:
        raise OcciError(404, f"there is nothing at {call.path}")
    if call.method == "POST" and "action" in call.query:
        return _act(service, call, model, path)
    media = call.media(INSTANCE)
    user = call.user

    def get() -> Answer:
        return render.entity(media, service.entity(user, path), model)

    def changed(found: Entity) -> Answer:
        return render.entity(media, found, model) if call.shown else render.ok(media)

    def update() -> Answer:
        user.require(Capability.MODIFY)
        changes = validate_changes.update(model, call.body, service.entity(user, path))
        return changed(service.update(user, path, changes))

    def replace() -> Answer:
        if Capability.CREATE not in user.identity.may:
            user.require(Capability.MODIFY)
        try:
            old = service.entity(user, path)
        except OcciError as fault:
            if fault.status != 404:
                raise
            user.require(Capability.CREATE)
            new = validate_new.create_at(model, call.body, kind, path)
            found = service.create(user, new, model)
            return render.created(media, found, model, call.base, shown=call.shown)
        user.require(Capability.MODIFY)
        new = validate_changes.replace(model, call.body, old)
        return changed(service.replace(user, path, new))

    def delete() -> Answer:
        service.delete(user, path)
        return render.ok(media)

    return call.choose({"GET": get, "POST": update, "PUT": replace, "DELETE": delete})


def _act(service: Service, call: Call, model: Model, path: str) -> Answer:
    media = call.media(INSTANCE)
    call.user.require(Capability.MODIFY)
    kind = model.kinds[service.entity(call.user, path).kind]
    name, attributes = action(model, kind, call.query["action"], call.body)
    found = service.act(call.user, path, name, attributes)
    if found.path != path:  # made by the action, which is 200 all the same
        made = render.created(media, found, model, call.base, shown=call.shown)
        return dataclasses.replace(made, status=200)
    return render.ok(media)
