"""OCCI's JSON rendering (GFD.226, application/occi+json). Pure."""

from collections.abc import Iterable
from typing import Any

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, Value
from occi_bridge.occi.model import Action, Attribute, Category, Kind, Mixin, Model

_OWN_MEMBERS = {"title": "occi.core.title", "summary": "occi.core.summary"}


def entity(found: Entity, model: Model) -> dict[str, Any]:
    """A resource or a link."""
    shown: dict[str, Any] = {
        "kind": found.kind,
        "mixins": list(found.mixins),
        "attributes": {name: value for name, value in found.attributes.items() if value != ""},
        "actions": list(found.actions),
        "id": found.id,
    }
    for member, name in _OWN_MEMBERS.items():
        if found.attributes.get(name):
            shown[member] = found.attributes[name]
    if model.kinds[found.kind].target:
        shown["source"] = _end(found, schema.SOURCE, model)
        shown["target"] = _end(found, schema.TARGET, model)
    else:
        shown["links"] = [entity(link, model) for link in found.links]
    return shown


def collection(found: Iterable[Entity], model: Model) -> dict[str, Any]:
    """Several entities: resources and links apart; an empty collection is one of resources."""
    members: dict[str, list[Any]] = {}
    for one in found:
        member = "links" if model.kinds[one.kind].target else "resources"
        members.setdefault(member, []).append(entity(one, model))
    return members or {"resources": []}


def model(found: Iterable[Category]) -> dict[str, Any]:
    """Categories, by what they are."""
    members: dict[str, list[Any]] = {"kinds": [], "mixins": [], "actions": []}
    for category in found:
        members[_MEMBER[type(category)]].append(_category(category))
    return members


_MEMBER: dict[type[Category], str] = {Kind: "kinds", Mixin: "mixins", Action: "actions"}


def _category(found: Category) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "term": found.term,
        "scheme": found.scheme,
        "title": found.title,
        "attributes": {own.name: _attribute(own) for own in found.attributes},
    }
    if isinstance(found, Kind):
        shown |= {"actions": list(found.actions), "location": found.location}
        if found.parent:
            shown["parent"] = found.parent
    if isinstance(found, Mixin):
        shown |= {
            "actions": [],
            "depends": [found.parent] if found.parent else [],
            "applies": list(found.applies),
            "location": found.location,
        }
    return shown


def _attribute(own: Attribute) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "mutable": not own.immutable,
        "required": own.required,
        "type": "number" if own.type == "integer" else own.type,
    }
    if own.values:
        shown["pattern"] = f"^({'|'.join(own.values)})$"
    elif own.form:
        shown["pattern"] = f"^{own.form}$"
    if own.default is not None:
        shown["default"] = own.default
    return shown


def _end(link: Entity, name: str, model: Model) -> dict[str, Value]:
    path = str(link.attributes[name])
    kind = model.kind_of(path)
    return {"location": path, "kind": kind.id if kind else schema.RESOURCE}
