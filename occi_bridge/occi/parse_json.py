"""OCCI's JSON rendering (GFD.226, application/occi+json) as clients write it."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from occi_bridge.occi.messages import Body, Definition, LinkBody, OcciError, Value
from occi_bridge.occi.parse_common import definition_path, shown


def body(text: str) -> Body:
    """What a document says: a resource, a link, an action, locations, or mixins to be added.

    A resource or a link may also stand alone in a collection. Raises OcciError 400.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise OcciError(400, f"not JSON: {shown(error)}") from error
    if isinstance(document, list):
        document = {"locations": document}
    if not isinstance(document, dict):
        raise OcciError(400, "JSON: an object is needed")
    for collection in ("resources", "links"):
        inner = document.get(collection)
        if "kind" not in document and isinstance(inner, list) and inner:
            if len(inner) > 1:
                raise OcciError(400, f"{collection}: one at a time")
            document = _object(inner[0], collection)
    if "term" in document:
        document = {"mixins": [document]}
    mixins = _list(document, "mixins")
    definitions = tuple(_definition(mixin) for mixin in mixins if isinstance(mixin, dict))
    named = [_text(mixin, "mixins") for mixin in mixins if not isinstance(mixin, dict)]
    categories = [*_texts(document, "kind"), *named, *(mixin.id for mixin in definitions)]
    action = _texts(document, "action")
    attributes, second = _attributes(document)
    return Body(
        categories=tuple(dict.fromkeys([*categories, *action])),
        attributes=attributes,
        second=second,
        links=tuple(_link(link) for link in _list(document, "links")),
        locations=tuple(_text(place, "locations") for place in _list(document, "locations")),
        definitions=definitions,
        action=action[0] if action else None,
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose names has two values: programs differ in which one they take."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise OcciError(400, f"{shown(name)}: given twice, with different values")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OcciError(400, f"{where}: an object is needed")
    return value


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise OcciError(400, f"{key}: a list is needed")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise OcciError(400, f"{where}: «{shown(value)}»: text is needed")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise OcciError(400, f"{where}: «{shown(value)}» is not Unicode text") from error
    return value


def _texts(document: Mapping[str, Any], key: str) -> list[str]:
    """The text at a key, or nothing."""
    value = document.get(key)
    return [] if value is None else [_text(value, key)]


def _attributes(document: Mapping[str, Any]) -> tuple[dict[str, Value], dict[str, Value]]:
    """The attributes, flat or in members of their own; and those members that say otherwise."""
    attributes = {
        _text(name, "attributes"): _value(name, value)
        for name, value in _object(document.get("attributes") or {}, "attributes").items()
    }
    members = {f"occi.core.{key}": _texts(document, key) for key in ("id", "title", "summary")}
    members |= {f"occi.core.{key}": _end(document, key) for key in ("source", "target")}
    found: dict[str, Value] = {name: value for name, values in members.items() for value in values}
    second = {n: value for n, value in found.items() if attributes.setdefault(n, value) != value}
    return attributes, second


def _value(name: str, value: object) -> Value:
    if isinstance(value, str):
        return _text(value, shown(name))
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, int) and abs(value) < 10**18:  # true and false are int too
        return value
    raise OcciError(
        400, f"{shown(name)}: «{shown(value)}»: text, a number, true or false is needed"
    )


def _end(document: Mapping[str, Any], key: str, member: str = "location") -> list[str]:
    """A member of a link's source or target, which may also be just a location."""
    value = document.get(key)
    if isinstance(value, dict):
        return _texts(value, member)
    return _texts(document, key) if member == "location" else []


def _link(value: object) -> LinkBody:
    link = _object(value, "links")
    given, second = _attributes(link)
    attributes = dict(Body(attributes=given, second=second).settled({}).attributes)
    target = attributes.pop("occi.core.target", "")
    attributes.pop("occi.core.source", None)
    mixins = [_text(mixin, "mixins") for mixin in _list(link, "mixins")]
    return LinkBody(
        target=str(target),
        rel="".join(_end(link, "target", "kind")),
        category=(*_texts(link, "kind"), *mixins),
        attributes=attributes,
    )


def _definition(value: dict[str, Any]) -> Definition:
    term, scheme, title, location, parent = (
        "".join(_texts(value, key)) for key in ("term", "scheme", "title", "location", "parent")
    )
    depends = [_text(category, "depends") for category in _list(value, "depends")]
    return Definition(
        term, scheme, title, definition_path(location), parent or "".join(depends[:1])
    )
