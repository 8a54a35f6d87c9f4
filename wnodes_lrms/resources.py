"""Where the files that are not Python modules live: templates and hooks."""

import shlex
from collections.abc import Iterable
from pathlib import Path

import jinja2

_HERE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `templates` or `hooks`: in an installed package, or beside it in a checkout."""
    packaged = _HERE / "data" / name
    return packaged if packaged.is_dir() else _HERE.parent / name


def sources(names: Iterable[str]) -> dict[str, bytes]:
    """The content of files in the folder `hooks`."""
    return {name: (folder("hooks") / name).read_bytes() for name in names}


def share_server() -> Path:
    """The program that libvirt starts to serve shared folders: hooks/virtiofsd.py.

    The packages have it in /usr/sbin, too: Debian's AppArmor lets libvirt start programs from
    there, and from none of our folders.
    """
    packaged = Path("/usr/sbin/wnodes-virtiofsd")
    return packaged if _HERE.is_relative_to("/usr/lib/wnodes") else folder("hooks") / "virtiofsd.py"


def render(template: str, *, xml: bool = False, **values: object) -> str:
    """The text of a Jinja2 template with these values; `xml` escapes each of them.

    Raises jinja2.UndefinedError if the template asks for a value that is not given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder("templates")),
        undefined=jinja2.StrictUndefined,
        autoescape=xml,  # noqa: S701 (the others are shell, Python and TOML)
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["sh"] = shlex_quote
    environment.filters["py"] = lambda value: repr(str(value))
    return environment.get_template(template).render(**values)


def shlex_quote(value: object) -> str:
    """One word of a POSIX shell that means just this value."""
    return shlex.quote(str(value))
