"""Who may do what: matching of names and groups (FQANs). Pure.

FQANs are compared by segments, so that /vo/prod is not /vo/production.
"""

import re
from collections.abc import Iterable, Sequence

from occi_bridge.identity.fqans import fqan
from wnodes_lrms.config.load import Grant
from wnodes_lrms.tls.oneline import normal

_SUBJECT = re.compile(r"https://[!-\"$-~]+#[!#-\[\]-~]{1,255}")  # issuer#subject: claims.py


def is_dn(pattern: str) -> bool:
    """Whether it is a DN: its first part has an =, as in /C=IT, which no VO's name has.

    One that does not begin with a slash is a DN written as CN=Someone,C=IT.
    """
    return "=" in pattern.removeprefix("/").split("/")[0]


def pattern(text: str) -> str:
    """What can be matched: "*", a DN, a token's subject, an FQAN, or an FQAN and /* for it and all
    below.

    In the form that `fits` compares. Raises ValueError if it is none of these.
    """
    if text == "*":
        return text
    if text.startswith("https://"):
        said = ascii(text)[1:-1]
        if not _SUBJECT.fullmatch(text):
            raise ValueError(f"«{said}» is not of the form https://issuer#subject")
        if "*" in text:
            raise ValueError(f"«{said}» has a *: users who come with tokens are named one by one")
        return text
    if is_dn(text):
        return normal(text)
    group, wild, rest = text.partition("/*")
    if rest:
        raise ValueError(f"«{ascii(text)[1:-1]}» has a * that is not at its end, after a /")
    return fqan(group) + wild


def fits(pattern: str, name: str, fqans: Sequence[str]) -> bool:
    """Whether a user is meant by a pattern."""
    if pattern in ("*", name):
        return True
    if pattern.endswith("/*") and not is_dn(pattern):
        group = pattern.removesuffix("/*")
        return any(each == group or each.startswith(group + "/") for each in fqans)
    return pattern in fqans


def granted(grants: Iterable[Grant], names: Sequence[str], fqans: Sequence[str]) -> Grant | None:
    """The first grant that fits the user, by any of their names; None: they have none.

    Raises ValueError for a grant whose `match` is malformed.
    """
    patterns = ((grant, pattern(grant.match)) for grant in grants)
    return next((g for g, p in patterns if any(fits(p, name, fqans) for name in names)), None)
