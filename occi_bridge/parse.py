"""Requests into Bodies: what a request says, by the media type it says it in. Pure."""

from collections.abc import Iterable

from occi_bridge import parse_json, parse_text
from occi_bridge.negotiate import JSON, OCCI, PLAIN, URIS, content_type
from occi_bridge.parse_common import shown
from occi_bridge.wire import Body, OcciError

Headers = Iterable[tuple[bytes, bytes]]


def request(headers: Headers, content: bytes) -> Body:
    """What a request says: in its body, or in its headers if its type is text/occi or it has no
    body. Headers have names in lower case. Raises OcciError 400, 415."""
    headers = list(headers)
    declared = _text(b",".join(value for name, value in headers if name == b"content-type"))
    media = content_type(declared)
    if media == OCCI or not content.strip():
        return parse_text.body(fields(headers))
    if media == PLAIN or (not media and not declared):
        return parse_text.body(parse_text.lines(_text(content)))
    if media == JSON:
        return parse_json.body(_text(content))
    if media == URIS:
        places = (line.strip() for line in _text(content).splitlines())
        return Body(locations=tuple(place for place in places if place and place[0] != "#"))
    raise OcciError(
        415, f"Content-Type «{shown(declared)}»: {PLAIN}, {OCCI}, {JSON} or {URIS} is needed"
    )


def fields(headers: Headers) -> list[tuple[str, str]]:
    """OCCI's fields among the headers of a request. Raises OcciError 400."""
    wanted = {name.encode(): name for name in parse_text.FIELDS}
    return [(wanted[name], _text(value)) for name, value in headers if name in wanted]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise OcciError(400, f"byte {error.start} of the request is not UTF-8 text") from error
