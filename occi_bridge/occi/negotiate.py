"""Which media type a request is in, which one its answer gets (RFC 9110, 12.5.1), which OCCI."""

import re
from collections.abc import Sequence

from occi_bridge.occi.messages import OcciError
from occi_bridge.occi.parse_common import shown

PLAIN = "text/plain"
OCCI = "text/occi"
URIS = "text/uri-list"
JSON = "application/occi+json"

INSTANCE = (PLAIN, OCCI, JSON)  # an entity, or the model
COLLECTION = (PLAIN, OCCI, URIS, JSON)
NEWEST = (1, 2)

_AGENT = re.compile(r"(?<![A-Za-z])OCCI/([0-9]{1,4})\.([0-9]{1,4})")
_CHARSET = re.compile(r";[ \t]*charset[ \t]*=[ \t]*\"?([^\s\",;]*)", re.IGNORECASE)
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def accepted(header: str | None, offers: Sequence[str]) -> str:
    """The offer that fits an Accept header best; without one, or with any equal, the first.

    Of two that the client likes equally well, it is the one named first. Raises OcciError 406.
    """
    ranges = _ranges(header or "")
    if not ranges:
        return offers[0]
    best = max(((_liking(ranges, offer), offer) for offer in offers), key=lambda pair: pair[0])
    if best[0][0] <= 0:
        raise OcciError(406, f"Accept «{shown(header)}»: there is only {', '.join(offers)} here")
    return best[1]


def _ranges(header: str) -> list[tuple[str, float]]:
    """Media ranges with their quality; what is not of the form of one is passed over."""
    ranges = []
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if "/" not in name:
            continue
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = float(value) if _QUALITY.fullmatch(value.strip()) else 0.0
        ranges.append((name, quality))
    return ranges


def _liking(ranges: list[tuple[str, float]], offer: str) -> tuple[float, int, int]:
    """Quality, how exactly it is named, how early: of the range that names it most exactly."""
    family = f"{offer.partition('/')[0]}/*"
    for exactness, name in ((2, offer), (1, family), (0, "*/*")):
        for place, (given, quality) in enumerate(ranges):
            if given == name:
                return quality, exactness, -place
    return 0.0, 0, 0


def content_type(header: str) -> str:
    """The first media type of a Content-Type that is ours, without its parameters; "" if none.

    Some clients name several, as in text/plain,text/occi.
    """
    for item in header.split(","):
        name = item.partition(";")[0].strip().lower()
        if name in COLLECTION:
            return name
    return ""


def charset(header: str) -> str:
    """The charset that a Content-Type names, in lower case; UTF-8 if it names none."""
    found = _CHARSET.search(header)
    return found[1].lower() if found else "utf-8"


def check_agent(header: str) -> None:
    """Refuse a User-Agent that speaks only a later OCCI than this one. Raises OcciError 501."""
    asked = [(int(major), int(minor)) for major, minor in _AGENT.findall(header)]
    if asked and min(asked) > NEWEST:
        raise OcciError(
            501,
            f"OCCI/{'.'.join(map(str, min(asked)))} is not spoken here, but OCCI/1.2 and 1.1 are",
        )
