"""Who a client is and may do: from a chain of certificates, or a token, to a user with a grant."""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping

from occi_bridge.identity import proxies
from occi_bridge.identity.authorization import Authorization
from occi_bridge.identity.logins import Logins
from occi_bridge.identity.signing_policy import SigningPolicies
from occi_bridge.identity.tokens import BadTokenError, Tokens
from occi_bridge.identity.user import DeniedError, Identity, Kind, User
from occi_bridge.identity.verdicts import LIFE, Verdict, Verdicts, log_decision
from occi_bridge.identity.voms_client import Verifier
from wnodes_lrms.config.load import Bridge
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.tls import names
from wnodes_lrms.tls.context import stamp, stamp_of

_LOOK = 1.0  # seconds between two looks at the files
_REFUSED = 60.0  # seconds that a refusal of a token holds, as it may begin to be valid
_PASSING = 5.0  # the same, where its issuer could not be asked

log = logging.getLogger(__name__)


class Authenticator:
    """Knows users by their chains and tokens. For one event loop, with a verifier of its own."""

    def __init__(self, bridge: Bridge, links: Callable[[], Mapping[str, str]] = dict) -> None:
        """`links` tells the DN that a token's subject is linked to, of all that are; it may block.

        Raises ConfigError for a grant that is malformed, or an issuer's `ca_dir`.
        """
        self._bridge = bridge
        self._links = links
        self._linked: Mapping[str, str] = {}
        self._authorization = Authorization(bridge)
        self._policies = SigningPolicies(bridge.ca_dir)
        self._policies.renew()
        self._verifier = Verifier(bridge.voms_dir, bridge.ca_dir)
        self._tokens = Tokens(bridge.issuer, bridge.issuer_dir)
        self._by_chain = Verdicts()
        self._by_token = Verdicts()
        self._by_login = Verdicts()
        self.logins = Logins(self._tokens.issuers)
        self._judging: dict[bytes, asyncio.Future[Verdict]] = {}
        self._stamp: object = None
        self._looked = float("-inf")
        self._looking = asyncio.Lock()

    async def user(
        self, chain: tuple[bytes, ...], address: str, token: bytes | None = None
    ) -> User:
        """The user of a verified chain (DER, leaf first; () for none) calling from an address.

        Or of a bearer token: where there is one it counts, whatever the certificate. Where no
        issuer is configured, tokens are not looked at.

        Raises DeniedError. A decision holds until a file changes, for five minutes at most, and
        is logged once for each address.
        """
        if token is not None and self._tokens:
            return await self._of_token(token, address)
        if not chain:
            also = ", or a bearer token" if self._tokens else ""
            denied = DeniedError(
                401, f"a client certificate or proxy{also} is needed", tokens=bool(self._tokens)
            )
            log_decision(denied, address)
            raise denied
        await self._look()
        digest = hashlib.sha256(b"".join(chain)).digest()
        verdicts = self._by_chain  # others, if a file changes while this is judged
        verdict = verdicts.get(digest)
        if verdict is None:
            verdict = await self._judge(chain)
            verdicts.put(digest, verdict)
        return verdict.tell(address)

    async def known(self, identity: Identity, address: str) -> User:
        """The user of an identity that was proven when they logged in, as things are now.

        Raises DeniedError.
        """
        await self._look()
        digest = hashlib.sha256(repr(identity).encode()).digest()
        verdicts = self._by_login
        verdict = verdicts.get(digest)
        if verdict is None:
            verdict = await self._authorized(identity, time.time() + LIFE)
            verdicts.put(digest, verdict)
        return verdict.tell(address)

    def look_again(self) -> None:
        """Look at files and links before the next decision, and not only a second later."""
        self._looked = float("-inf")

    async def close(self) -> None:
        """End the verifier, and all connections."""
        await self._verifier.end()
        await self._tokens.close()

    async def _of_token(self, token: bytes, address: str) -> User:
        await self._look()
        digest = hashlib.sha256(token).digest()
        verdicts = self._by_token
        verdict = verdicts.get(digest)
        if verdict is None:
            verdict = await self._judged_once(digest, token)
            # What nobody has signed is judged anew: a stranger can't drive others' verdicts out.
            if verdict.outcome.identity:
                verdicts.put(digest, verdict)
        return verdict.tell(address)

    async def _judged_once(self, digest: bytes, token: bytes) -> Verdict:
        """However many come with one token at once, its issuer is asked once about it."""
        judging = self._judging
        running = judging.get(digest)
        if not running:
            running = asyncio.ensure_future(self._judge_token(token))
            judging[digest] = running
            running.add_done_callback(lambda _: judging.pop(digest, None))
        return await asyncio.shield(running)

    async def _look(self) -> None:
        """Begin anew if anything on which decisions rest has changed."""
        if time.monotonic() - self._looked < _LOOK:
            return
        async with self._looking:
            if time.monotonic() - self._looked < _LOOK:
                return
            stamp, linked = await asyncio.to_thread(self._now)
            if stamp != self._stamp:
                await asyncio.to_thread(self._policies.renew)
                await self._verifier.end()  # another one sees what is there now
            if (stamp, linked) != (self._stamp, self._linked):
                self._by_chain, self._by_token = Verdicts(), Verdicts()
                self._by_login = Verdicts()
                self._judging = {}  # what began before rests on what was there before
                self._stamp, self._linked = stamp, linked
            self._looked = time.monotonic()

    def _now(self) -> tuple[object, Mapping[str, str]]:
        bridge = self._bridge
        folders = [bridge.ca_dir, bridge.voms_dir, *_folders(bridge.voms_dir)]
        files = (bridge.ban_file, bridge.grid_mapfile, bridge.voms_mapfile)
        now = [stamp_of(folder) for folder in folders], [stamp(file) for file in files]
        return now, self._links()

    async def _judge(self, chain: tuple[bytes, ...]) -> Verdict:
        now = time.time()
        until = now + LIFE
        known = Identity(Kind.CERTIFICATE, names.owner(chain))
        try:
            credential = proxies.judge(chain, self._policies)
            until = min(until, credential.expires)
            if until <= now:  # the connection is older
                raise RejectedError("the certificate or proxy has expired")
            if credential.attributes:
                attributes = await self._verifier.ask(chain)
                known = Identity(Kind.CERTIFICATE, known.subject, attributes.fqans)
                until = min(until, attributes.until)
        except UnknownError as error:
            return Verdict(_unknown(error, known), now)
        except RejectedError as error:
            return Verdict(DeniedError(403, str(error), known), max(until, now + 1))
        return await self._authorized(known, until)

    async def _judge_token(self, token: bytes) -> Verdict:
        now = time.time()
        try:
            proof = await self._tokens.proof(token)
        except BadTokenError as error:
            denied = DeniedError(401, str(error), error.identity, error="invalid_token")
            return Verdict(denied, now + (_PASSING if error.passing else _REFUSED))
        known = proof.identity
        until = min(now + LIFE, proof.expires)
        if not known.may:
            said = "the token's scopes are for other services: no compute.read, .create, …"
            return Verdict(DeniedError(403, said, known, error="insufficient_scope"), until)
        return await self._authorized(known, until)

    async def _authorized(self, known: Identity, until: float) -> Verdict:
        try:
            user = await asyncio.to_thread(self._authorization.user, known, self._linked)
        except UnknownError as error:
            return Verdict(_unknown(error, known), time.time())
        except RejectedError as error:
            return Verdict(DeniedError(403, str(error), known), max(until, time.time() + 1))
        return Verdict(user, until)


def _unknown(error: UnknownError, known: Identity) -> DeniedError:
    if error.told:
        log.error("%s", error)
    return DeniedError(503, error.told or str(error), known)


def _folders(voms_dir: str) -> list[str]:
    """Those of the VOs."""
    try:
        with os.scandir(voms_dir) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())
    except OSError:
        return []
