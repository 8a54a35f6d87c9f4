"""OCCI's text rendering (GFD.229): what is a header in text/occi and a line in text/plain.

Strict, in the order and with the keys that clients parse. Pure.
"""

import re
from collections.abc import Iterable, Iterator

from occi_bridge.occi import schema
from occi_bridge.occi.messages import Attributes, Entity, Value
from occi_bridge.occi.model import Action, Attribute, Category, Kind, Mixin, Model

Field = tuple[str, str]

# Some clients fill in every attribute so marked, and know how to for these alone.
_MARKED = {schema.ID, "occi.core.title", "occi.storage.size", "occi.storagelink.deviceid"}
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
_UNTITLED = re.compile(r"[;,\"\\\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")


def category(found: Category) -> Field:
    """A category of the model, with all that it has."""
    keys = {"scheme": found.scheme, "class": _class(found), "title": _title(found.title)}
    if isinstance(found, Kind | Mixin):
        keys["rel"] = found.parent
        keys["location"] = found.location
    keys["attributes"] = " ".join(map(_attribute, found.attributes))
    if isinstance(found, Kind):
        keys["actions"] = " ".join(found.actions)
    return "Category", f"{found.term}; {_joined(keys)}"


def entity(found: Entity, model: Model) -> Iterator[Field]:
    """An entity whole: categories, links, actions, attributes."""
    for name in (found.kind, *found.mixins):
        known = model.find(name)
        if known:
            keys = {"scheme": known.scheme, "class": _class(known), "title": _title(known.title)}
            yield "Category", f"{known.term}; {_joined(keys)}"
    for link in found.links:
        yield "Link", _link(link, model)
    for name in found.actions:
        term = name.rpartition("#")[2]
        yield "Link", f'<{found.path}?action={term}>; rel="{name}"'
    for text in _values(found.attributes):
        yield "X-OCCI-Attribute", text


def location(url: str) -> Field:
    """Where an entity is: an absolute URL."""
    return "X-OCCI-Location", url


def plain(fields: Iterable[Field]) -> str:
    """The body of a text/plain message."""
    return "".join(f"{name}: {value}\n" for name, value in fields)


def headers(fields: Iterable[Field]) -> list[Field]:
    """The headers of a text/occi message: one of a name."""
    joined: dict[str, list[str]] = {}
    for name, value in fields:
        joined.setdefault(name, []).append(value)
    return [(name, ", ".join(values)) for name, values in joined.items()]


def quoted(text: str) -> str:
    """A string as the renderings have it; control characters can't stand in a line."""
    text = _UNSEEN.sub(" ", text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _class(found: Category) -> str:
    return {Kind: "kind", Mixin: "mixin", Action: "action"}[type(found)]


def _title(text: str) -> str:
    return _UNTITLED.sub(" ", text).strip()


def _joined(keys: dict[str, str]) -> str:
    return "; ".join(f'{key}="{value}"' for key, value in keys.items() if value)


def _attribute(own: Attribute) -> str:
    marks = ["immutable"] * own.immutable + ["required"] * (own.required and own.name in _MARKED)
    return f"{own.name}{{{' '.join(marks)}}}" if marks else own.name


def _values(attributes: Attributes) -> Iterator[str]:
    for name, value in attributes.items():
        if value != "":
            yield f"{name}={_value(value)}"


def _value(value: Value) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _link(link: Entity, model: Model) -> str:
    target = str(link.attributes[schema.TARGET])
    kind = model.kind_of(target)
    keys = {
        "rel": kind.id if kind else schema.RESOURCE,
        "self": link.path,
        "category": " ".join((link.kind, *link.mixins)),
    }
    return "; ".join([f"<{target}>", _joined(keys), *_values(link.attributes)])
