"""`[[bridge.issuer]]`: who signs the tokens that cloud users may come with."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from wnodes_lrms.config.values import PathText, Section

_URL = r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
_VO = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"

_Host = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+(:[0-9]{1,5})?$")]
_Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


def _one_way(url: str) -> str:
    if any(part in {".", ".."} for part in url.split("/")):
        raise ValueError("has . or .. as a part of its path")
    return url


class Issuer(Section):
    """One whose tokens are taken. Without any, users come with certificates alone."""

    url: Annotated[str, StringConstraints(pattern=_URL), AfterValidator(_one_way)] = Field(
        description="the issuer, exactly as its tokens have it in `iss`"
    )
    audiences: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        min_length=1,
        description="what a token must be for (`aud`): one of these; `*` takes any and none, and"
        " only with `aarc`",
    )
    profile: Literal["wlcg", "aarc", "scitokens"] = Field(
        description="how its tokens say what somebody may do: wlcg: WLCG 1.x; aarc: entitlements"
        " (AARC-G069), as of EGI Check-in; scitokens: SciTokens 2.0"
    )
    vos: tuple[Annotated[str, StringConstraints(pattern=_VO)], ...] = Field(
        min_length=1,
        description="the VOs that it speaks for; its groups of others mean nothing here."
        " Just one with `wlcg` and `scitokens`",
    )
    namespace: str = Field(
        "",
        pattern=r"^([Uu][Rr][Nn]:[!-~]+)?$",
        description="what its entitlements begin with, before `:group:`, as `urn:mace:egi.eu`;"
        " needed with `aarc`",
    )
    groups_from: Literal["claims", "userinfo", "introspection"] = Field(
        "claims",
        description="where groups or entitlements are: in the token; at the issuer's UserInfo"
        " endpoint; at its introspection endpoint, which needs a client of its own",
    )
    login: str = Field(
        "",
        max_length=40,
        description="what the page calls it, as `EGI Check-in`: with that, users log into the page"
        " there, which needs a client; not with `scitokens`",
    )
    scopes: tuple[Annotated[str, StringConstraints(pattern=r"^[!#-\[\]-~]+$")], ...] = Field(
        (),
        description="what the page asks for besides `openid`, so that groups are told; without them"
        " `wlcg.groups` with `wlcg`, `entitlements` with `aarc`",
    )
    client_id: str = Field(
        "", description="the bridge's client at the issuer, for introspection and for the page"
    )
    client_secret: PathText | None = Field(
        None, description="file with that client's secret, for the bridge's user alone"
    )
    hosts: tuple[_Host, ...] = Field(
        (),
        description="other hosts (host, or host:port) where its keys and endpoints may be; none but"
        " these and its own is ever contacted",
    )
    algorithms: tuple[_Algorithm, ...] = Field(
        ("RS256", "ES256"), min_length=1, description="signatures that are taken"
    )
    ca_dir: PathText | None = Field(
        None, description="folder of the CAs of its web server; without it the system's own"
    )

    @model_validator(mode="after")
    def _fits_its_profile(self) -> "Issuer":
        if "*" in self.audiences and (self.profile != "aarc" or len(self.audiences) > 1):
            raise ValueError("audiences: `*` is for the profile aarc, and alone")
        if self.profile != "aarc" and len(self.vos) != 1:
            raise ValueError(f"vos: an issuer of {self.profile} tokens is one VO's")
        if (self.profile == "aarc") != bool(self.namespace):
            raise ValueError("namespace: is needed with the profile aarc, and only there")
        if re.search(r":group(:|$)", self.namespace, re.IGNORECASE):
            raise ValueError("namespace: is what comes before :group:")
        if self.login and self.profile == "scitokens":
            raise ValueError("login: SciTokens know no users who log in")
        if self.scopes and not self.login:
            raise ValueError("scopes: are for `login`")
        needed = self.groups_from == "introspection" or bool(self.login)
        if needed != bool(self.client_id and self.client_secret):
            raise ValueError(
                "client_id, client_secret: both are needed for introspection and for login, only"
            )
        return self


def each_url_once(issuers: tuple[Issuer, ...]) -> tuple[Issuer, ...]:
    """Raises ValueError where one is there twice."""
    urls = [issuer.url for issuer in issuers]
    twice = sorted({url for url in urls if urls.count(url) > 1})
    if twice:
        raise ValueError(f"the url {', '.join(twice)} is there more than once")
    return issuers
