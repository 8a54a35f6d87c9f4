"""What the claims of a verified token say: who somebody is, and what they may do. Pure.

From the WLCG Common JWT Profile 1.3, AARC-G069 (entitlements) and SciTokens 2.0. Groups of all of
them take the form of FQANs: /vo/group for `wlcg.groups`, /vo/group/Role=role for
`urn:…:group:vo:group:role=role#authority`. So grants, maps and bans need no second kind of line.
"""

import hmac
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from occi_bridge.identity import fqans
from occi_bridge.identity.user import ALL, Identity, Kind
from wnodes_lrms.config.load import Issuer
from wnodes_lrms.errors import RejectedError

_SKEW = 60.0  # seconds that an issuer's clock may be ahead
_LONGEST = 255  # characters of a name: accounting takes no more
_MOST = 1000  # groups or entitlements
_VERSIONS = {"wlcg": re.compile(r"1\.[0-9]+"), "scitokens": re.compile("scitokens?:2.0")}
# A token that has any of these is limited by its scopes (WLCG 2.2.3). One that only resembles a
# capability is among them: whoever asked for it wanted a token that may less.
_CAPABILITY = r"(compute|storage)([.:].*)?"
_SCOPES = {
    "wlcg": re.compile(rf"{_CAPABILITY}|host\.auth(:.*)?", re.IGNORECASE),
    "aarc": re.compile(_CAPABILITY, re.IGNORECASE),
    "scitokens": re.compile(r".*"),
}
# An audience that every service takes: WLCG Common JWT Profile 1.3, 2.2.1.
_ANY = "https://wlcg.cern.ch/jwt/v1/any"
# Issuers of one VO alone: whom one knows at all is a member. A proxy such as Check-in knows others.
_OF_ONE_VO = frozenset({"wlcg", "scitokens"})


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_Time = Annotated[float, Field(strict=True, ge=0, le=1e11, allow_inf_nan=False)]
_Texts = Annotated[tuple[str, ...], BeforeValidator(_several), Field(max_length=_MOST)]
# None has a space, a quote, or the * of patterns: the site's files could not name it.
_Subject = Annotated[str, StringConstraints(pattern=r"^[!#-)+-\[\]-~]{1,255}$")]


class Groups(BaseModel):
    """Claims that tell groups, in a token or in what an endpoint of the issuer's answers."""

    model_config = ConfigDict(frozen=True)

    sub: _Subject | Literal[""] = ""
    wlcg: tuple[str, ...] = Field((), alias="wlcg.groups", max_length=_MOST)
    entitlements: _Texts = ()
    eduperson_entitlement: _Texts = ()


class Claims(Groups):
    """The claims of a token that are looked at."""

    iss: str
    sub: _Subject
    exp: _Time
    iat: _Time
    nbf: _Time = 0.0
    aud: _Texts = ()
    scope: str = ""
    typ: str = "Bearer"  # Keycloak's: its other tokens are no access tokens
    wlcg_version: str = Field("", alias="wlcg.ver")
    ver: str = ""
    nonce: str = ""  # of an ID token, as the next
    azp: str = ""

    @property
    def subject(self) -> str:
        """Whom it is about, among those of all issuers."""
        return f"{self.iss}#{self.sub}"


def require_valid(issuer: Issuer, claims: Claims, now: float) -> None:
    """Raises RejectedError for a token that is not for here and now."""
    if claims.iss != issuer.url:
        raise RejectedError("the token is another issuer's")
    if claims.exp <= now:
        raise RejectedError(f"the token expired at {_utc(claims.exp)}")
    if max(claims.nbf, claims.iat) > now + _SKEW:
        raise RejectedError(f"the token is not valid before {_utc(max(claims.nbf, claims.iat))}")
    if issuer.audiences != ("*",) and not set(claims.aud) & set(issuer.audiences):
        raise RejectedError(f"the token is not for this service (aud): {issuer.audiences[0]}")
    version = claims.wlcg_version if issuer.profile == "wlcg" else claims.ver
    form = _VERSIONS.get(issuer.profile)
    if form and not form.fullmatch(version):
        raise RejectedError(f"the token has no version of the profile {issuer.profile} known here")
    if claims.typ.lower() != "bearer":
        raise RejectedError("the token is no access token (typ)")
    if len(claims.subject) > _LONGEST:
        raise RejectedError(f"the token's issuer and subject have more than {_LONGEST} characters")


def require_login(issuer: Issuer, claims: Claims, nonce: str, now: float) -> None:
    """Raises RejectedError for what is no ID token of this very login.

    OpenID Connect Core 1.0, 3.1.3.7.
    """
    if claims.iss != issuer.url:
        raise RejectedError("the login is another issuer's")
    if issuer.client_id not in claims.aud or (len(claims.aud) > 1 and not claims.azp):
        raise RejectedError("the login is for another service (aud)")
    if claims.azp and claims.azp != issuer.client_id:
        raise RejectedError("the login is for another service (azp)")
    if not hmac.compare_digest(claims.nonce.encode(), nonce.encode()):
        raise RejectedError("the login is another one than was begun here (nonce)")
    if claims.exp <= now or max(claims.nbf, claims.iat) > now + _SKEW:
        raise RejectedError("the login has expired, or is not valid yet")
    if claims.typ.lower() not in ("bearer", "id"):  # Keycloak says ID; others nothing
        raise RejectedError("the login's token is none of a login (typ)")
    if len(claims.subject) > _LONGEST:
        raise RejectedError(f"the issuer's and your own name have more than {_LONGEST} characters")


def for_us_alone(issuer: Issuer, claims: Claims) -> bool:
    """Whether no other service was ever to see the token: each of its audiences names this one."""
    return bool(claims.aud) and set(claims.aud) <= set(issuer.audiences) - {"*", _ANY}


def identity(issuer: Issuer, claims: Claims, told: Groups) -> Identity:
    """Who somebody is; `told` has their groups, and `claims` their scopes."""
    found = _identity(issuer, claims, told)
    return replace(found, for_us_alone=for_us_alone(issuer, claims))


def _identity(issuer: Issuer, claims: Claims, told: Groups) -> Identity:
    form = _SCOPES[issuer.profile]
    limited = any(form.fullmatch(scope) for scope in claims.scope.split())
    told_groups = groups(issuer, told)
    if not limited and issuer.profile != "scitokens":  # which has no groups
        return Identity(Kind.TOKEN, claims.subject, told_groups)
    may = frozenset(capability for capability in ALL if capability in claims.scope.split())
    if issuer.profile not in _OF_ONE_VO:
        return Identity(Kind.TOKEN, claims.subject, told_groups, may)
    return Identity(Kind.TOKEN, claims.subject, (f"/{issuer.vos[0]}",), may, told_groups)


def groups(issuer: Issuer, told: Groups) -> tuple[str, ...]:
    """The groups of the issuer's own VOs, none twice, in the token's order."""
    if issuer.profile == "wlcg":
        named: Sequence[str | None] = [group for group in told.wlcg if "=" not in group]
    elif issuer.profile == "aarc":
        both = (*told.entitlements, *told.eduperson_entitlement)
        named = [_of_entitlement(text, issuer.namespace) for text in both]
    else:
        named = ()
    return tuple(dict.fromkeys(own(issuer, named)))


def own(issuer: Issuer, named: Iterable[str | None]) -> Iterable[str]:
    """Those groups that are of the issuer's own VOs, in the form of FQANs."""
    for text in named:
        try:
            group = fqans.fqan(text or "")
        except ValueError:  # a name that none of our files could have
            continue
        if group.split("/")[1] in issuer.vos:
            yield group


def _of_entitlement(text: str, namespace: str) -> str | None:
    """The FQAN of <namespace>:group:<vo>[:<group>…][:role=<role>][#<authority>] (AARC-G069, 2).

    Other entitlements are None. Who vouches for it, the authority, is the issuer's to judge.
    """
    own, _, _authority = text.partition("#")
    parts = own.split(":")
    place = len(namespace.split(":"))
    begin = [part.lower() for part in parts[: place + 1]]
    if begin != [*namespace.lower().split(":"), "group"]:
        return None
    names = [unquote(part) for part in parts[place + 1 :]]
    role = names.pop().partition("=")[2] if names and names[-1].startswith("role=") else None
    if any("/" in name or "=" in name for name in (*names, role or "")):
        return None  # it would look like a group below, or a role
    return "".join(f"/{name}" for name in names) + (f"/Role={role}" if role is not None else "")


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
