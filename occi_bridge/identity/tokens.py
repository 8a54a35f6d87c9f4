"""Bearer tokens: whose they are, judged by the keys of the issuers that are configured.

An issuer that is not configured is told from its name alone, and never asked anything.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jwt
from pydantic import ValidationError

from occi_bridge.identity import claims as profile
from occi_bridge.identity import jws
from occi_bridge.identity.claims import Claims, Groups
from occi_bridge.identity.issuer_client import IssuerClient
from occi_bridge.identity.issuer_keys import IssuerKeys
from occi_bridge.identity.jws import Unverified
from occi_bridge.identity.user import Identity, Kind
from wnodes_lrms.config.load import Issuer
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.validation import first_fault

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proof:
    """Whom a good token is about, and its times (seconds since the epoch)."""

    identity: Identity
    issued: float
    expires: float


class BadTokenError(Exception):
    """A token that is not taken, with the reason in a sentence.

    `identity` is there once the signature was good; `passing` where it may be taken a little later.
    """

    def __init__(self, reason: str, identity: Identity | None, *, passing: bool) -> None:
        super().__init__(reason)
        self.identity = identity
        self.passing = passing


class KnownIssuer:
    """One that is configured."""

    def __init__(self, issuer: Issuer, folder: str) -> None:
        self.told = issuer
        self.client = IssuerClient(issuer)
        self.keys = IssuerKeys(issuer, self.client, folder)


class Tokens:
    """Judges tokens. For one event loop."""

    def __init__(self, issuers: Iterable[Issuer], folder: str) -> None:
        """`folder` is where keys are kept. Raises ConfigError if a `ca_dir` can't be read."""
        self._issuers: Mapping[str, KnownIssuer] = {
            issuer.url: KnownIssuer(issuer, folder) for issuer in issuers
        }

    def __bool__(self) -> bool:
        """Whether any tokens are taken."""
        return bool(self._issuers)

    @property
    def issuers(self) -> Iterable[KnownIssuer]:
        """All that are configured."""
        return self._issuers.values()

    async def proof(self, token: bytes) -> Proof:
        """Whom the token is about. Raises BadTokenError."""
        known = None
        try:
            read = jws.read(token)
            issuer = self._issuers.get(read.issuer)
            if not issuer:
                raise RejectedError("the token's issuer is not one whose tokens are taken here")
            claims = await verified(issuer, read)
            known = Identity(Kind.TOKEN, claims.subject)
            profile.require_valid(issuer.told, claims, time.time())
            told = await groups(issuer, claims, token.decode())
            known = profile.identity(issuer.told, claims, told)
        except UnknownError as error:
            if error.told:
                log.error("%s", error)
            raise BadTokenError(error.told or str(error), known, passing=True) from error
        except RejectedError as error:
            raise BadTokenError(str(error), known, passing=False) from error
        return Proof(known, claims.iat, claims.exp)

    async def close(self) -> None:
        """Let all connections go."""
        for issuer in self._issuers.values():
            await issuer.keys.close()
            await issuer.client.close()


async def verified(issuer: KnownIssuer, read: Unverified) -> Claims:
    """The claims, once the signature is that of a key of the issuer's.

    Raises RejectedError, UnknownError.
    """
    if read.algorithm not in issuer.told.algorithms:
        taken = ", ".join(issuer.told.algorithms)
        raise RejectedError(f"the token's algorithm is not one of those taken here: {taken}")
    key = await issuer.keys.key(read.key, read.algorithm)
    try:
        # The signature alone: what the claims have to be is said in claims.py, once.
        jwt.api_jws.decode(read.text, key.public, algorithms=[read.algorithm])
        return Claims.model_validate_json(read.payload)
    except ValidationError as error:
        raise RejectedError(f"the token's claims: {first_fault(error)}") from error
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise RejectedError("the token's signature is wrong") from error


async def groups(issuer: KnownIssuer, claims: Claims, token: str) -> Groups:
    """The claims that tell groups, from where this issuer has them; asked with an access token.

    Raises RejectedError, UnknownError.
    """
    told, source = issuer.told, issuer.told.groups_from
    if source == "claims":
        return claims
    known = await issuer.keys.known()
    if source == "userinfo":
        bearer = {"Authorization": f"Bearer {token}"}
        answer = await issuer.client.ask("GET", known.endpoint("userinfo_endpoint"), headers=bearer)
    else:
        secret = await asyncio.to_thread(secret_of, told)
        answer = await issuer.client.ask(
            "POST",
            known.endpoint("introspection_endpoint"),
            data={"token": token, "token_type_hint": "access_token"},
            auth=(told.client_id, secret),
        )
        if answer.get("active") is not True:
            raise RejectedError("the token is not active any more, says its issuer")
    try:
        found = Groups.model_validate(answer)
    except ValidationError as error:
        raise UnknownError(f"issuer {told.url}: its answer: {first_fault(error)}") from error
    if found.sub != claims.sub:
        raise RejectedError("the token's issuer tells another user's groups")
    return found


def secret_of(issuer: Issuer) -> str:
    """The secret of the bridge's client there. Raises UnknownError."""
    try:
        return Path(issuer.client_secret or "").read_text().strip()
    except (OSError, ValueError) as error:
        said = f"{issuer.client_secret}: can't be read"
        raise UnknownError(said, told="the service can't ask the token's issuer now") from error
