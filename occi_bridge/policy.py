"""Who may do what: matching of names and VOMS attributes (FQANs). Pure.

An FQAN is /vo/group/Role=role; it is compared by segments, so that /vo/prod is not /vo/production.
"""

import re
from collections.abc import Iterable, Sequence

from wnodes_lrms.config import Grant
from wnodes_lrms.oneline import normal

_FQAN = re.compile(r"(/[A-Za-z0-9_.-]+)+(/Role=[A-Za-z0-9_.-]+)?(/Capability=[A-Za-z0-9_.-]+)?")
_EMPTY = re.compile(r"/(Role|Capability)=NULL(?=/|$)")


def is_dn(pattern: str) -> bool:
    """Whether it is a DN: its first part has an =, as in /C=IT, which no VO's name has.

    One that does not begin with a slash is a DN written as CN=Someone,C=IT.
    """
    return "=" in pattern.removeprefix("/").split("/")[0]


def fqan(text: str) -> str:
    """An FQAN without /Role=NULL and /Capability=NULL. Raises ValueError if it is none."""
    bare = _EMPTY.sub("", text)
    if not _FQAN.fullmatch(bare) or is_dn(bare):
        raise ValueError(f"«{ascii(text)[1:-1]}» is no DN, and not of the form /vo/group/Role=role")
    return bare


def of_vo(vo: str, fqans: Iterable[str]) -> tuple[str, ...]:
    """The FQANs that a VO's server gave, none twice. Raises ValueError for any of another VO."""
    bare = [fqan(each) for each in fqans]
    for each in bare:
        if not (each == f"/{vo}" or each.startswith(f"/{vo}/")):
            raise ValueError(f"«{each}» is not of the VO {vo}, whose server signed it")
    return tuple(dict.fromkeys(bare))


def pattern(text: str) -> str:
    """What can be matched: "*", a DN, an FQAN, or an FQAN and /* for it and all below.

    In the form that `fits` compares. Raises ValueError if it is none of these.
    """
    if text == "*":
        return text
    if is_dn(text):
        return normal(text)
    group, wild, rest = text.partition("/*")
    if rest:
        raise ValueError(f"«{ascii(text)[1:-1]}» has a * that is not at its end, after a /")
    return fqan(group) + wild


def fits(pattern: str, dn: str, fqans: Sequence[str]) -> bool:
    """Whether a user is meant by a pattern."""
    if pattern in ("*", dn):
        return True
    if pattern.endswith("/*") and not is_dn(pattern):
        group = pattern.removesuffix("/*")
        return any(each == group or each.startswith(group + "/") for each in fqans)
    return pattern in fqans


def granted(grants: Iterable[Grant], dn: str, fqans: Sequence[str]) -> Grant | None:
    """The first grant that fits the user; None: he has none.

    Raises ValueError for a grant whose `match` is malformed.
    """
    return next((grant for grant in grants if fits(pattern(grant.match), dn, fqans)), None)
