"""The page's templates (Jinja2), and its files that are the same for everybody."""

import datetime
import functools
import hashlib
from pathlib import Path

import jinja2

from occi_bridge.page.exchange import Fault, Reply
from wnodes_lrms import resources

_LAST = 253_402_300_799.0  # the last second that has a date: a lease may be without end
_MEDIA = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["utc"] = utc
    made.filters["instant"] = instant
    made.globals["static"] = _static_path
    return made


def page(template: str, **values: object) -> Reply:
    """A page, or a part of one."""
    text = _environment().get_template(f"{template}.html.j2").render(**values)
    return Reply(text.encode())


def static(name: str) -> Reply:
    """A file of the page's. Raises Fault."""
    found = _files().get(name)
    if found is None:
        raise Fault(404, "there is no such file")
    return Reply(found, media=_MEDIA[Path(name).suffix])


def utc(seconds: float) -> str:
    """A time for people who have no scripts."""
    return _time(seconds).strftime("%Y-%m-%d %H:%M UTC")


def instant(seconds: float) -> str:
    """A time for programs."""
    return _time(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(min(max(seconds, 0.0), _LAST), datetime.UTC)


def _folder() -> Path:
    return resources.folder("templates") / "page"


@functools.cache
def _files() -> dict[str, bytes]:
    """All of them, each by a name that it has no more once it is another: see _static_path."""
    return {
        _stamped(path): path.read_bytes()
        for path in (_folder() / "static").iterdir()
        if path.suffix in _MEDIA
    }


def _stamped(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return f"{path.stem}-{digest}{path.suffix}"


@functools.cache
def _static_path(name: str) -> str:
    return f"/static/{_stamped(_folder() / 'static' / name)}"
