"""Requests into Bodies: what a request says, by the media type it says it in. Pure."""

from collections.abc import Iterable

from occi_bridge.occi import parse_json, parse_text
from occi_bridge.occi.messages import Body, OcciError
from occi_bridge.occi.negotiate import JSON, OCCI, PLAIN, URIS, charset, content_type
from occi_bridge.occi.parse_common import shown

Headers = Iterable[tuple[bytes, bytes]]

# Of the charsets that a body may be in, those that all software reads in one way.
_CHARSETS = {
    "utf-8": "utf-8-sig",
    "utf8": "utf-8-sig",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
}


def request(headers: Headers, content: bytes) -> Body:
    """What a request says: in its body, or in its headers if its type is text/occi or it has no
    body. Headers have names in lower case. Raises OcciError 400, 415."""
    headers = list(headers)
    declared = _all_of(headers, b"content-type")
    media = content_type(declared)
    if media == OCCI or not content.strip():
        return parse_text.body(fields(headers))
    if declared and not media:
        raise OcciError(
            415, f"Content-Type «{shown(declared)}»: {PLAIN}, {OCCI}, {JSON} or {URIS} is needed"
        )
    text = _decoded(content, charset(declared), _all_of(headers, b"content-encoding"))
    if media == JSON:
        return parse_json.body(text)
    if media == URIS:
        places = (line.strip() for line in text.splitlines())
        return Body(locations=tuple(place for place in places if place and place[0] != "#"))
    return parse_text.body(parse_text.lines(text))


def fields(headers: Headers) -> list[tuple[str, str]]:
    """OCCI's fields among the headers of a request. Raises OcciError 400."""
    wanted = {name.encode(): name for name in parse_text.FIELDS}
    return [(wanted[name], _text(value)) for name, value in headers if name in wanted]


def _all_of(headers: Headers, wanted: bytes) -> str:
    return _text(b",".join(value for name, value in headers if name == wanted))


def _decoded(content: bytes, charset: str, encoding: str) -> str:
    """A body's text, without the byte-order mark that some editors put before it.

    Raises OcciError 400, 415.
    """
    if encoding.strip().lower() not in {"", "identity"}:
        raise OcciError(415, f"Content-Encoding «{shown(encoding)}»: send the body as it is")
    codec = _CHARSETS.get(charset)
    if not codec:
        raise OcciError(415, f"charset «{shown(charset)}»: UTF-8 is needed")
    return _text(content, codec, charset.upper())


def _text(content: bytes, codec: str = "utf-8", called: str = "UTF-8") -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        raise OcciError(400, f"byte {error.start} of the request is not {called} text") from error
