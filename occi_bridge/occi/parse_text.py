"""OCCI's text rendering as clients write it: header fields, whether as headers or lines of a body.

From GFD.229 (OCCI 1.2, text) and GFD.185 (1.1); lenient where real clients differ: values without
quotes, a `;` at the end, several items joined by commas or in fields of their own, any line end.
Each pattern matches in linear time whatever the input.
"""

import math
import re
from collections.abc import Iterable

from occi_bridge.occi.messages import Body, Definition, LinkBody, OcciError, Value
from occi_bridge.occi.parse_common import definition_path, shown

CATEGORY = "category"
ATTRIBUTE = "x-occi-attribute"
LINK = "link"
LOCATION = "x-occi-location"
FIELDS = frozenset({CATEGORY, ATTRIBUTE, LINK, LOCATION})

_PIECE = re.compile(r'"(?:[^"\\]++|\\.)*+"|<[^<>"]*+>|[^",;<>]++|[,;<>]', re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LINES = re.compile(r"[\r\n]+")


def lines(text: str) -> Iterable[tuple[str, str]]:
    """The fields of a text/plain body: names in lower case, values. Raises OcciError 400."""
    for number, line in enumerate(_LINES.split(text), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or name not in FIELDS:
            raise OcciError(
                400,
                f"line {number}: «{shown(line)}»: a line begins with Category:, "
                "X-OCCI-Attribute:, Link: or X-OCCI-Location:",
            )
        yield name, value


def body(fields: Iterable[tuple[str, str]]) -> Body:
    """All that these fields say; those of other names are passed over. Raises OcciError 400."""
    categories: list[str] = []
    definitions: list[Definition] = []
    attributes: dict[str, Value] = {}
    links: list[LinkBody] = []
    locations: list[str] = []
    for name, value in fields:
        if name == CATEGORY:
            for parts in _items(value, "Category"):
                identity, definition = _category(parts)
                categories.append(identity)
                if definition:
                    definitions.append(definition)
        elif name == ATTRIBUTE:
            for parts in _items(value, "X-OCCI-Attribute"):
                for part in parts:
                    _put(attributes, *_pair(part, "X-OCCI-Attribute"))
        elif name == LINK:
            links += (_link(parts) for parts in _items(value, "Link"))
        elif name == LOCATION:
            locations += (part.strip() for part in value.split(",") if part.strip())
    return Body(
        categories=tuple(dict.fromkeys(categories)),
        attributes=attributes,
        links=tuple(links),
        locations=tuple(locations),
        definitions=tuple(definitions),
    )


def _items(value: str, where: str) -> list[list[str]]:
    """A field's items, which commas part, each in the parts that semicolons part."""
    items: list[list[str]] = []
    parts: list[str] = []
    part = ""
    at = 0
    while at < len(value):
        piece = _PIECE.match(value, at)
        if not piece:
            raise OcciError(400, f"{where}: a quote is open: «{shown(value[at:])}»")
        at = piece.end()
        text = piece[0]
        if text not in {",", ";"}:
            part += text
            continue
        if part.strip():
            parts.append(part.strip())
        part = ""
        if text == "," and parts:
            items.append(parts)
            parts = []
    if part.strip():
        parts.append(part.strip())
    return [*items, parts] if parts else items


def _pair(part: str, where: str) -> tuple[str, Value]:
    name, sign, value = part.partition("=")
    name = name.strip()
    if not sign or not _NAME.fullmatch(name):
        raise OcciError(400, f'{where}: «{shown(part)}» is not of the form name="value"')
    return name, _value(name, value.strip())


def _value(name: str, text: str) -> Value:
    if text[:1] == '"':
        return _unquoted(name, text)
    if text in {"true", "false"}:
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if len(text) <= 64 and _DECIMAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise OcciError(
        400, f"{name}: «{shown(text)}» is neither a number, true or false, nor text in quotes"
    )


def _unquoted(name: str, text: str) -> str:
    piece = _PIECE.match(text)
    if not piece or piece.end() != len(text):
        raise OcciError(400, f"{name}: «{shown(text)}»: something follows the closing quote")
    return _ESCAPED.sub(r"\1", text[1:-1])


def _put(attributes: dict[str, Value], name: str, value: Value) -> None:
    if name in attributes and attributes[name] != value:
        raise OcciError(400, f"{name}: given twice, with different values")
    attributes[name] = value


def _keys(parts: list[str], where: str) -> dict[str, str]:
    """The texts of key="text" parts; a value without quotes stands for itself.

    The keys are literals of OCCI's grammar (ABNF), in which case does not count (RFC 5234, 2.3).
    """
    keys: dict[str, str] = {}
    for part in parts:
        name, sign, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not sign or not _NAME.fullmatch(name):
            raise OcciError(400, f'{where}: «{shown(part)}» is not of the form key="value"')
        text = _unquoted(name, value) if value[:1] == '"' else value
        if keys.setdefault(name, text) != text:
            raise OcciError(400, f"{where}: {name}: given twice, with different values")
    return keys


def _category(parts: list[str]) -> tuple[str, Definition | None]:
    """A category's id, and what it says beyond that if it may be a mixin to be added."""
    term = parts[0]
    if not _NAME.fullmatch(term):
        raise OcciError(
            400, f'Category: «{shown(term)}»: first comes the term, as in compute; scheme="…#"'
        )
    keys = _keys(parts[1:], f"Category {term}")
    scheme = keys.get("scheme", "")
    if not scheme:
        raise OcciError(400, f"Category {term}: the scheme is missing")
    if keys.get("class", "mixin").lower() != "mixin":
        return scheme + term, None
    return scheme + term, Definition(
        term=term,
        scheme=scheme,
        title=keys.get("title", ""),
        location=definition_path(keys.get("location", "")),
        rel=keys.get("rel", ""),
    )


def _link(parts: list[str]) -> LinkBody:
    target = parts[0]
    if not (target.startswith("<") and target.endswith(">") and len(target) > 2):
        raise OcciError(400, f"Link: «{shown(target)}»: first comes the target, as in </network/x>")
    attributes: dict[str, Value] = {}
    own: list[str] = []
    for part in parts[1:]:
        if part.partition("=")[0].strip().lower() in {"rel", "self", "category"}:
            own.append(part)
        else:
            _put(attributes, *_pair(part, "Link"))
    keys = _keys(own, "Link")
    return LinkBody(
        target=target[1:-1].strip(),
        rel=keys.get("rel", ""),
        category=tuple(keys.get("category", "").split()),
        attributes=attributes,
        itself=keys.get("self", ""),
    )
