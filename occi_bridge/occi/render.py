"""Answers: what they say, in the media type that was negotiated. Pure."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from occi_bridge.occi import render_json, render_text
from occi_bridge.occi.messages import Entity, OcciError
from occi_bridge.occi.model import Category, Model
from occi_bridge.occi.negotiate import JSON, OCCI, PLAIN, URIS
from wnodes_lrms.version import VERSION

Headers = tuple[tuple[bytes, bytes], ...]

SERVER = f"wnodes-lrms/{VERSION} OCCI/1.2 OCCI/1.1"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as HTTP has it; names of headers in lower case, Content-Length among them."""

    status: int
    headers: Headers
    body: bytes


def ok(media: str) -> Answer:
    """It is done, and there is nothing to be said."""
    if media == JSON:
        return _json({})
    return _answer(media, text="OK\n" if media == OCCI else "")


def entity(media: str, found: Entity, model: Model) -> Answer:
    """One entity, whole."""
    if media == JSON:
        return _json(render_json.entity(found, model))
    return _fields(media, render_text.entity(found, model))


def entities(found: Iterable[Entity], model: Model) -> Answer:
    """Several entities, whole: in JSON only."""
    return _json(render_json.collection(found, model))


def locations(media: str, paths: Sequence[str], base: str) -> Answer:
    """Where entities are. `base` is the service as the client calls it, as https://host:port."""
    if media == URIS:
        return _answer(media, text="".join([f"{base}{path}\n" for path in paths]))
    if media == PLAIN:
        start = f"X-OCCI-Location: {base}"
        return _answer(media, text="".join([f"{start}{path}\n" for path in paths]))
    return _fields(media, (render_text.location(base + path) for path in paths))


def created(media: str, found: Entity, model: Model, base: str, *, shown: bool = True) -> Answer:
    """An entity has been made. `shown` is whether the user may see more of it than where it is."""
    url = base + found.path
    if media == JSON and not shown:
        answer = ok(media)
    elif media == JSON:
        answer = entity(media, found, model)
    elif media == OCCI:
        answer = ok(media)
    else:
        answer = locations(media, [found.path], base)
    where = ((b"location", url.encode()), (b"x-occi-location", url.encode()))
    return Answer(201, (*answer.headers, *where), answer.body)


def categories(media: str, found: Iterable[Category]) -> Answer:
    """Categories of the model."""
    if media == JSON:
        return _json(render_json.model(found))
    return _fields(media, map(render_text.category, found))


def error(media: str, fault: OcciError, more: Headers = ()) -> Answer:
    """What went wrong: the sentence, in JSON with its code."""
    if fault.retry_after is not None:
        more = (*more, (b"retry-after", str(fault.retry_after).encode()))
    if media == JSON:
        said = _json({"code": fault.status, "message": fault.message})
    else:
        said = _answer(PLAIN, text=f"{fault.message}\n")
    return Answer(fault.status, (*said.headers, *more), said.body)


def _fields(media: str, fields: Iterable[render_text.Field]) -> Answer:
    if media == PLAIN:
        return _answer(media, text=render_text.plain(fields))
    lines = render_text.headers(fields)
    more = tuple((name.lower().encode(), value.encode()) for name, value in lines)
    return _answer(media, text="OK\n", more=more)


def _json(document: dict[str, Any]) -> Answer:
    return _answer(JSON, text=json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def _answer(media: str, text: str, more: Headers = ()) -> Answer:
    body = text.encode(errors="replace")
    kind = f"{media}; charset=utf-8" if media == PLAIN else media
    headers = (
        (b"server", SERVER.encode()),
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
    )
    return Answer(200, (*headers, *more), body)
