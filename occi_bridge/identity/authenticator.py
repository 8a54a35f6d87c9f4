"""Who a client is and may do: from their chain of certificates to a user with a grant."""

import asyncio
import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from occi_bridge.identity import grants, pools, proxies
from occi_bridge.identity.gridfiles import Bans, Mapping, Maps
from occi_bridge.identity.signing_policy import SigningPolicies
from occi_bridge.identity.voms_client import Verifier
from wnodes_lrms.config.load import Bridge, Grant
from wnodes_lrms.errors import ConfigError, RejectedError, UnknownError
from wnodes_lrms.tls import names
from wnodes_lrms.tls.context import stamp, stamp_of

_VERDICT = 300.0  # seconds that a verdict on a chain holds at most
_VERDICTS = 10_000
_LOOK = 1.0  # seconds between two looks at the files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class User:
    """A user of the service, known and granted something."""

    dn: str  # of their own certificate, in one line, never a proxy's
    fqans: tuple[str, ...]  # verified, the primary one first
    account: str  # the local user that their leases run as
    grant: Grant

    @property
    def key(self) -> str:
        """The owner of what the user makes."""
        return self.dn

    @property
    def group(self) -> str:
        """Their group: the primary FQAN; empty without VOMS."""
        return self.fqans[0] if self.fqans else ""


class DeniedError(Exception):
    """The client may not use the service, with the HTTP status and the reason in a sentence.

    401: nobody can tell who it is; 403: it is known, and has no right; 503: it can't be told now.
    `dn` and `fqans` are what is known of them.
    """

    def __init__(self, status: int, reason: str, dn: str = "", fqans: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.dn = dn
        self.fqans = fqans

    def again(self) -> "DeniedError":
        """The same, to be raised once more: an exception collects where it has been."""
        return DeniedError(self.status, self.reason, self.dn, self.fqans)


@dataclass
class _Verdict:
    """What was decided about a chain, until when (epoch seconds), and to which addresses."""

    outcome: User | DeniedError
    until: float
    told: set[str] = field(default_factory=set)


class Authenticator:
    """Knows users by their chains. For one event loop, with a verifier process of its own."""

    def __init__(self, bridge: Bridge) -> None:
        """Raises ConfigError for a grant that is malformed."""
        try:
            for grant in bridge.grant:
                grants.pattern(grant.match)
        except ValueError as error:
            raise ConfigError("bridge.grant", [f"match: {error}"]) from error
        self._bridge = bridge
        self._bans = Bans(bridge.ban_file)
        self._by_dn = Maps(bridge.grid_mapfile)
        self._by_fqan = Maps(bridge.voms_mapfile)
        self._policies = SigningPolicies(bridge.ca_dir)
        for each in (self._bans, self._by_dn, self._by_fqan):
            each.look()  # what is wrong with them is to be in the log before anybody comes
        self._policies.renew()
        self._verifier = Verifier(bridge.voms_dir, bridge.ca_dir)
        self._files = threading.Lock()
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._stamp: object = None
        self._looked = float("-inf")
        self._looking = asyncio.Lock()

    async def user(self, chain: tuple[bytes, ...], address: str) -> User:
        """The user of a verified chain (DER, leaf first; () for none) calling from an address.

        Raises DeniedError. A decision holds until a file changes, for five minutes at most, and
        is logged once for each address.
        """
        if not chain:
            denied = DeniedError(401, "a client certificate or proxy is needed")
            _tell(denied, address)
            raise denied
        await self._look()
        digest = hashlib.sha256(b"".join(chain)).digest()
        verdicts = self._verdicts  # another one, if a file changes while this is judged
        verdict = verdicts.get(digest)
        if verdict is None or time.time() >= verdict.until:
            verdict = await self._judge(chain)
            verdicts[digest] = verdict
            verdicts.move_to_end(digest)
            if len(verdicts) > _VERDICTS:
                verdicts.popitem(last=False)
        if address not in verdict.told:
            verdict.told.add(address)
            _tell(verdict.outcome, address)
        if isinstance(verdict.outcome, DeniedError):
            raise verdict.outcome.again()
        return verdict.outcome

    async def close(self) -> None:
        """End the verifier."""
        await self._verifier.end()

    async def _look(self) -> None:
        """Begin anew if any file on which decisions rest has changed."""
        if time.monotonic() - self._looked < _LOOK:
            return
        async with self._looking:
            if time.monotonic() - self._looked < _LOOK:
                return
            stamp = await asyncio.to_thread(self._now)
            if stamp != self._stamp:
                await asyncio.to_thread(self._policies.renew)
                await self._verifier.end()  # another one sees what is there now
                self._verdicts = OrderedDict()
                self._stamp = stamp
            self._looked = time.monotonic()

    def _now(self) -> object:
        bridge = self._bridge
        folders = [bridge.ca_dir, bridge.voms_dir, *_folders(bridge.voms_dir)]
        files = (bridge.ban_file, bridge.grid_mapfile, bridge.voms_mapfile)
        return [stamp_of(folder) for folder in folders], [stamp(file) for file in files]

    async def _judge(self, chain: tuple[bytes, ...]) -> _Verdict:
        now = time.time()
        dn, until = _claimed(chain), now + _VERDICT
        fqans: tuple[str, ...] = ()
        try:
            credential = proxies.judge(chain, self._policies)
            until = min(until, credential.expires)
            if until <= now:  # the connection is older
                raise RejectedError("the certificate or proxy has expired")
            if credential.attributes:
                attributes = await self._verifier.ask(chain)
                fqans, until = attributes.fqans, min(until, attributes.until)
            user = await asyncio.to_thread(self._authorize, dn, fqans)
        except UnknownError as error:
            if error.told:
                log.error("%s", error)
            return _Verdict(DeniedError(503, error.told or str(error), dn, fqans), now)
        except RejectedError as error:
            return _Verdict(DeniedError(403, str(error), dn, fqans), max(until, now + 1))
        return _Verdict(user, until)

    def _authorize(self, dn: str, fqans: tuple[str, ...]) -> User:
        """Ban file, then grants, then maps. Raises RejectedError, UnknownError."""
        with self._files:
            banned = self._bans.refusal(dn, fqans)
            if banned:
                raise RejectedError(banned)
            grant = grants.granted(self._bridge.grant, dn, fqans)
            if not grant:
                raise RejectedError("no [[bridge.grant]] is for this user")
            mapping = self._by_fqan.account("", fqans) or self._by_dn.account(dn, ())
            if not mapping:
                files = f"{self._by_dn.path}, {self._by_fqan.path}"
                raise RejectedError(f"no local account for this user in {files}")
            account = self._account(mapping, dn)
        return User(dn, fqans, account, grant)

    def _account(self, mapping: Mapping, dn: str) -> str:
        if not mapping.account:
            raise RejectedError(f"{mapping.where} is broken")
        if not mapping.account.startswith("."):
            return mapping.account
        pool = mapping.account.removeprefix(".")
        return pools.account(self._bridge.pool_dir, pool, dn, by_vo=mapping.who != dn)


def _folders(voms_dir: str) -> list[str]:
    """Those of the VOs."""
    try:
        with os.scandir(voms_dir) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())
    except OSError:
        return []


def _claimed(chain: tuple[bytes, ...]) -> str:
    """The name of whom the chain is about, for the log, also where it will be refused."""
    try:
        return names.dn_of(names.end_entity(chain))
    except RejectedError:
        return ""


def _tell(outcome: User | DeniedError, address: str) -> None:
    fqans = ",".join(outcome.fqans)
    if isinstance(outcome, DeniedError):
        text = 'refused: dn="%s" fqans="%s" address=%s status=%d reason="%s"'
        log.warning(text, outcome.dn, fqans, address, outcome.status, outcome.reason)
    else:
        text = 'allowed: dn="%s" fqans="%s" address=%s account=%s grant="%s"'
        log.info(text, outcome.dn, fqans, address, outcome.account, outcome.grant.match)
