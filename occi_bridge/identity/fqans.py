"""Names of VOs, of their servers and of what they grant (FQANs): types, made here alone. Pure.

An FQAN is /vo/group/Role=role/Capability=what. The grammar is narrower than VOMS's in one point: no
part begins or ends with a dot, or has two in a row, so that none is a step in a path of files.
"""

import re
from collections.abc import Iterable
from typing import NewType

Vo = NewType("Vo", str)
Host = NewType("Host", str)
Fqan = NewType("Fqan", str)

LONGEST = 255  # characters of any of them
_WORD = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_VO = re.compile(_WORD)
_HOST = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_FQAN = re.compile(rf"(?:/{_WORD})+(?:/Role={_WORD})?(?:/Capability={_WORD})?")
_EMPTY = re.compile(r"/(Role|Capability)=NULL(?=/|$)")


def vo(text: str) -> Vo:
    """A VO's name. Raises ValueError if it is none."""
    return Vo(_matched(_VO, text, "the name of a VO"))


def host(text: str) -> Host:
    """The name of a VO's server. Raises ValueError if it is none."""
    return Host(_matched(_HOST, text, "the name of a host"))


def fqan(text: str) -> Fqan:
    """An FQAN without /Role=NULL and /Capability=NULL. Raises ValueError if it is none."""
    bare = _EMPTY.sub("", text)
    return Fqan(_matched(_FQAN, bare, "of the form /vo/group/Role=role", text))


def of_vo(vo: Vo, fqans: Iterable[str]) -> tuple[Fqan, ...]:
    """The FQANs that a VO's server gave, none twice. Raises ValueError for any of another VO."""
    bare = [fqan(each) for each in fqans]
    for each in bare:
        if each.split("/")[1] != vo:
            raise ValueError(f"«{each}» is not of the VO {vo}, whose server signed it")
    return tuple(dict.fromkeys(bare))


def _matched(form: re.Pattern[str], text: str, what: str, whole: str | None = None) -> str:
    if len(text) > LONGEST or not form.fullmatch(text):
        said = ascii((whole or text)[:80])[1:-1]
        raise ValueError(f"«{said}» is not {what}")
    return text
