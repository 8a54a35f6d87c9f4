"""What all parsers of requests share."""

import re
from urllib.parse import urlsplit

from occi_bridge.occi.messages import OcciError

_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*[A-Za-z0-9._~-]*")
_SHOWN = 80  # characters of the user's own text in a sentence


def shown(text: object) -> str:
    """A user's text as it may stand in a one-line error: short, and nothing unprintable."""
    start = str(text)[: _SHOWN + 1]
    line = "".join(char if char.isprintable() else "?" for char in start).strip()
    return line if len(start) <= _SHOWN else f"{line[:_SHOWN]}…"


def path_of(location: str, where: str) -> str:
    """The path of an entity or collection, of which `location` is the path or an absolute URL.

    The host is not looked at: a client may know the service by another name than its own. Raises
    OcciError 400, which begins with `where`.
    """
    try:
        path = urlsplit(location.strip()).path
    except ValueError:
        path = ""
    if not _PATH.fullmatch(path):
        raise OcciError(400, f"{where}: «{shown(location)}» is not a path or URL of this service")
    return path


def definition_path(location: str) -> str:
    """A mixin's location as a path that ends in "/", or "" for none. Raises OcciError 400."""
    if not location:
        return ""
    path = path_of(location, "location")
    return path if path.endswith("/") else f"{path}/"
