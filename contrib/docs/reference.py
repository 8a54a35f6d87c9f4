#!/usr/bin/env python3
"""Writes the configuration reference, docs/configuration.md and docs/man/wnodes.toml.5, and the
file that packages install, contrib/packages/files/wnodes.toml, from wnodes_lrms/config/load.py and
the tables it is made of (node.py, cloud.py, bridge.py beside it): their docstrings, descriptions,
defaults and limits are the reference.

usage: contrib/docs/reference.py, with the project's own interpreter (.venv/bin/python)
"""

import json
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

import annotated_types
import jinja2
from pydantic.fields import FieldInfo

from wnodes_lrms.config import load as config
from wnodes_lrms.config.load import Config, Section

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGES = {
    "configuration.md.j2": "docs/configuration.md",
    "wnodes.toml.5.j2": "docs/man/wnodes.toml.5",
    "wnodes.toml.j2": "contrib/packages/files/wnodes.toml",
}
_CHECKED = {  # what our own validators ask of a text
    get_args(config.PathText)[1]: "absolute path",
    get_args(config.Tag)[1]: "tag of an image",
}
_WORDS = {
    int: "whole number",
    str: "text",
    bool: "true or false",
    IPv4Network: "IPv4 network",
    IPv4Address: "IPv4 address",
    IPv6Network: "IPv6 network",
    IPv6Address: "IPv6 address",
    IPv4Network | IPv6Network: "IPv4 or IPv6 network",
}
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Key:
    """A setting: what it may be, and its default as it would stand in the file. One that is
    `needed` has none: whoever writes its table has to set it."""

    name: str
    kind: str
    default: str
    needed: bool
    meaning: str


@dataclass(frozen=True)
class Table:
    """A table of the file; the header is empty for the keys above all tables. One that is `extra`
    means something by being there, even if it is empty."""

    header: str
    about: str
    extra: bool
    keys: tuple[Key, ...]


def tables() -> list[Table]:
    """All tables of the configuration, in the order of the model, inner ones after their outer."""
    return [_table("", Config, False), *_inner(Config, "", False)]


def _inner(model: type[Section], prefix: str, extra: bool) -> Iterator[Table]:
    for name, field in model.model_fields.items():
        several = _is_list(field.annotation)
        section = _item(field.annotation) if several else _set(field.annotation)
        if _is_section(section):
            path = prefix + name
            here = extra or several or field.default is None
            yield _table(f"[[{path}]]" if several else f"[{path}]", section, here)
            yield from _inner(section, path + ".", here)


def _table(header: str, model: type[Section], extra: bool) -> Table:
    keys = (
        Key(
            name,
            kind(field.annotation, field.metadata),
            _default(field),
            field.is_required(),
            field.description or "",
        )
        for name, field in model.model_fields.items()
        if not _is_section(_set(field.annotation)) and not _is_section(_item(field.annotation))
    )
    return Table(header, " ".join((model.__doc__ or "").split()), extra, tuple(keys))


def kind(annotation: Any, metadata: list[Any]) -> str:
    """In words what a setting may be, from its type and the limits on it."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return kind(inner, more)
    if _is_list(annotation):
        return f"list, each: {kind(_item(annotation), [])}"
    if get_origin(annotation) is dict:
        return f"table, for each node: {kind(get_args(annotation)[1], [])}"
    if annotation not in _WORDS and _set(annotation) is not annotation:
        return kind(_set(annotation), metadata)
    if get_origin(annotation) is Literal:
        return " or ".join(_toml(value) for value in get_args(annotation))
    words = _WORDS[annotation]
    for limit in metadata:
        if limit in _CHECKED:
            words = _CHECKED[limit]
        elif isinstance(limit, annotated_types.Ge):
            words += f", {limit.ge} or more"
        elif isinstance(limit, annotated_types.Gt):
            words += f", above {limit.gt}"
        elif isinstance(limit, annotated_types.Le):
            words += f", at most {limit.le}"
        elif pattern := getattr(limit, "pattern", None):
            words += f" of the form `{pattern}`"
    return words


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    return "" if field.default is None else _toml(field.default)


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value if isinstance(value, int | dict) else str(value))


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def _item(annotation: Any) -> Any:
    return get_args(annotation)[0] if _is_list(annotation) else None


def _set(annotation: Any) -> Any:
    """What a setting is where it is set: the type beside None, if it may be left out."""
    optional = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation)[0] if optional else annotation


def _is_section(annotation: Any) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def roff(text: str) -> str:
    """Text as mdoc(7) takes it; what stands in backticks becomes bold."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha")
    safe = _CODE.sub(r"\\fB\1\\fR", safe).replace("[", r"\(lB").replace("]", r"\(rB")
    return "\\&" + safe if safe.startswith((".", "'")) else safe


def prose(text: str) -> str:
    """Text of several sentences for mdoc(7), which wants each on lines of its own."""
    lines = (line for sentence in text.split(". ") for line in textwrap.wrap(sentence + ".", 78))
    return "\n".join(roff(line) for line in lines).replace("..", ".")


def cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table, and is no HTML outside backticks."""
    pieces = text.replace("|", "\\|").split("`")
    return "`".join(p if code % 2 else p.replace("<", "\\<") for code, p in enumerate(pieces))


def comment(text: str) -> str:
    """Text as comments of a file, in lines of at most 100 characters."""
    return textwrap.fill(text.replace("`", ""), 100, initial_indent="# ", subsequent_indent="# ")


def pages() -> dict[Path, str]:
    """The text of each page, by its file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 (neither page is HTML)
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"roff": roff, "prose": prose, "cell": cell, "comment": comment}
    found = tables()
    return {
        ROOT / page: environment.get_template(template).render(tables=found)
        for template, page in PAGES.items()
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(path.relative_to(ROOT))
