"""Logging in at an issuer, in the browser: OpenID Connect's authorization code flow with PKCE.

OpenID Connect Core 1.0, 3.1; RFC 7636 (PKCE, S256); RFC 9700 (what such a client has to do). The
issuers, their keys and addresses are those of tokens, and so are groups: tokens.py.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from occi_bridge.identity import claims as profile
from occi_bridge.identity import jws
from occi_bridge.identity.tokens import KnownIssuer, groups, secret_of, verified
from occi_bridge.identity.user import Identity, Kind
from wnodes_lrms.errors import RejectedError, UnknownError

_SCOPES = {"wlcg": ("wlcg.groups",), "aarc": ("entitlements",)}
# Logins that one issuer is asked about at once: a stranger can have it asked, and there are only so
# many connections, which users with tokens need as well. One that is slow delays its own alone.
_AT_ONCE = 4
_QUEUE = 5.0  # seconds that another one waits for its turn
_TOKEN = re.compile(r"[!-~]{1,16384}")


@dataclass(frozen=True)
class Attempt:
    """A login that was begun: all of it follows from one secret, which its browser alone has."""

    secret: str

    @property
    def state(self) -> str:
        """What comes back with the user, and shows that this browser began it."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """What the ID token has to have in it."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """PKCE's: what makes the code of use to nobody else."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """What the issuer is told of the verifier."""
        return _encoded(hashlib.sha256(self.verifier.encode()).digest())

    def _derived(self, what: str) -> str:
        return _encoded(hmac.digest(self.secret.encode(), what.encode(), "sha256"))


@dataclass(frozen=True)
class Way:
    """An issuer at which users of the page log in. `key` is its name in the page's paths."""

    key: str
    title: str


class Logins:
    """The issuers at which users of the page log in. For one event loop."""

    def __init__(self, issuers: Iterable[KnownIssuer]) -> None:
        self._issuers: Mapping[str, KnownIssuer] = {
            key_of(issuer.told.url): issuer for issuer in issuers if issuer.told.login
        }
        self._places = {key: asyncio.Semaphore(_AT_ONCE) for key in self._issuers}

    @property
    def ways(self) -> list[Way]:
        """All of them."""
        return [Way(key, issuer.told.login) for key, issuer in self._issuers.items()]

    def identity_now(self, subject: str, groups: tuple[str, ...]) -> Identity | None:
        """Who logged in once, with those of their groups that the issuer may tell today.

        None where nobody logs in at that issuer any more.
        """
        issuer = self._issuers.get(key_of(subject.partition("#")[0]))
        if issuer is None:
            return None
        return Identity(Kind.TOKEN, subject, tuple(profile.own(issuer.told, groups)))

    async def place(self, key: str, attempt: Attempt, back: str) -> str:
        """Where the browser is sent to log in; it comes back to `back`.

        Raises RejectedError, UnknownError.
        """
        issuer = self._issuer(key)
        known = await issuer.keys.known()
        there = issuer.client.allowed(known.endpoint("authorization_endpoint"))
        told = issuer.told
        scopes = ("openid", *(told.scopes or _SCOPES[told.profile]))
        asked = {
            "response_type": "code",
            "client_id": told.client_id,
            "redirect_uri": back,
            "scope": " ".join(scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return str(there.copy_merge_params(asked))

    async def identity(
        self, key: str, attempt: Attempt, code: str, back: str, issuer_said: str | None
    ) -> Identity:
        """Who has logged in, by the code that came back. Raises RejectedError, UnknownError.

        `issuer_said` is who sent the user back, where that is said (RFC 9207).
        """
        issuer, places = self._issuer(key), self._places[key]
        try:
            async with asyncio.timeout(_QUEUE):
                await places.acquire()
        except TimeoutError as error:
            said = f"issuer {issuer.told.url}: {_AT_ONCE} logins are being completed: too many"
            raise UnknownError(said) from error
        try:
            return await self._proven(issuer, attempt, code, back, issuer_said)
        finally:
            places.release()

    async def _proven(
        self, issuer: KnownIssuer, attempt: Attempt, code: str, back: str, issuer_said: str | None
    ) -> Identity:
        told = issuer.told
        if issuer_said not in (None, told.url):
            raise RejectedError("another issuer than was asked has sent you back")
        known = await issuer.keys.known()
        secret = await asyncio.to_thread(secret_of, told)
        answer = await issuer.client.ask(
            "POST",
            known.endpoint("token_endpoint"),
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": back,
                "code_verifier": attempt.verifier,
            },
            auth=(quote(told.client_id, safe=""), quote(secret, safe="")),
        )
        login, access = (_text(answer, name) for name in ("id_token", "access_token"))
        claims = await verified(issuer, jws.read(login.encode()))
        profile.require_login(told, claims, attempt.nonce, time.time())
        found = profile.groups(told, await groups(issuer, claims, access))
        return Identity(Kind.TOKEN, claims.subject, found)

    def _issuer(self, key: str) -> KnownIssuer:
        try:
            return self._issuers[key]
        except KeyError as error:
            raise RejectedError("nobody logs in there") from error


def key_of(url: str) -> str:
    """An issuer's name in the page's paths. Each has its own, so that none gets another's codes."""
    return hashlib.sha256(url.encode()).hexdigest()[:12]


def _text(answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise UnknownError(f"the issuer's answer to the login has no {name}")
    return value


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
