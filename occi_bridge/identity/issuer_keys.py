"""The keys of one issuer, in memory and on disk, with what else of its metadata is needed.

They are got anew when they are 6 hours old, and good for 2 days while the issuer does not answer
(WLCG Common JWT Profile 1.3). An id that is not among them has them got again, but no more than
once a minute, for all processes of this host together: they share the files, under a lock.
"""

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occi_bridge.identity import jwks, jws
from occi_bridge.identity.issuer_client import IssuerClient
from occi_bridge.identity.jwks import Key
from wnodes_lrms.config.load import Issuer
from wnodes_lrms.errors import RejectedError, UnknownError

# Of the issuer's metadata, what is kept beside its keys.
_NAMES = (
    *("jwks_uri", "userinfo_endpoint", "introspection_endpoint"),
    *("authorization_endpoint", "token_endpoint"),
)
REFRESH = 6 * 3600.0  # seconds after which keys are got anew
EXPIRY = 2 * 86400.0  # seconds that they are good for without the issuer
PAUSE = 60.0  # seconds between two questions at least

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What an issuer said of itself, and when (seconds since the epoch)."""

    fetched: float
    document: Mapping[str, Any]  # as it is on disk
    keys: Mapping[str, Key]

    def endpoint(self, name: str) -> object:
        """A URL out of the metadata; not checked yet."""
        return self.document.get(name)

    def age(self, now: float) -> float:
        """Seconds; of one that is from the future, as after a clock was set back, without end."""
        return now - self.fetched if self.fetched <= now + PAUSE else float("inf")


class IssuerKeys:
    """Keeps the keys of an issuer. For one event loop."""

    def __init__(self, issuer: Issuer, client: IssuerClient, folder: str) -> None:
        """`folder` is made if it can be; without it each process keeps keys for itself."""
        self._url = issuer.url
        self._client = client
        self._file = Path(folder) / f"{hashlib.sha256(issuer.url.encode()).hexdigest()}.json"
        self._known: Known | None = None
        self._read: object = None  # the file that was read last
        self._tried = float("-inf")  # on the monotonic clock
        self._asking = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None

    async def key(self, kid: str, algorithm: str) -> Key:
        """The key of an id, for signatures of this kind.

        Raises RejectedError if the issuer has none, UnknownError if its keys can't be had.
        """
        known = await self.known(kid)
        key = known.keys.get(kid)
        if not key:
            raise RejectedError(f"the token is signed with a key that {self._url} does not have")
        if algorithm not in key.algorithms:
            raise RejectedError("the token's algorithm is not that of its key")
        return key

    async def known(self, kid: str | None = None) -> Known:
        """What is known of the issuer, got now if need be. Raises UnknownError."""
        if self._lacks(kid):
            await self._ask(kid)
        if self._age() > REFRESH and not self._renewing and self._due():
            self._renewing = asyncio.create_task(self._ask(None))
            self._renewing.add_done_callback(self._renewed)
        if not self._known or self._age() > EXPIRY:
            raise UnknownError(f"the keys of {self._url} can't be had now; try again in a minute")
        return self._known

    async def close(self) -> None:
        """Ask no more."""
        if self._renewing:
            self._renewing.cancel()

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._renewing = None
        if not task.cancelled() and task.exception():
            log.error("issuer %s: internal fault", self._url, exc_info=task.exception())

    def _age(self) -> float:
        """Seconds; where nothing is known, without end."""
        return self._known.age(time.time()) if self._known else float("inf")

    def _lacks(self, kid: str | None) -> bool:
        """Whether there is no way without asking."""
        known = self._known.keys if self._known else {}
        return self._age() > EXPIRY or (kid is not None and kid not in known)

    def _due(self) -> bool:
        return time.monotonic() - self._tried >= PAUSE

    async def _ask(self, kid: str | None) -> None:
        """Take what another process has got, or ask the issuer if that may be done again."""
        async with self._asking:
            if not self._due() and self._stamp() == self._read:
                return
            lock = await asyncio.to_thread(self._locked)
            try:
                self._load()
                wanted = self._lacks(kid) or self._age() > REFRESH
                if wanted and self._due() and self._claim(lock):
                    await self._get()
            finally:
                if lock is not None:
                    os.close(lock)

    async def _get(self) -> None:
        began = time.time()
        try:
            metadata = await self._client.metadata()
            document = {name: metadata.get(name) for name in _NAMES}
            found = await self._client.ask("GET", document["jwks_uri"])
            document |= {"issuer": self._url, "fetched": began, "keys": found.get("keys")}
            known = Known(began, document, jwks.keys(document))
        except (UnknownError, RejectedError) as error:
            kept = self._age() <= EXPIRY
            log.warning("%s%s", error, "; going on with the keys of before" if kept else "")
            return
        self._known = known
        self._save(document)
        log.info("issuer %s: %d keys", self._url, len(known.keys))

    def _locked(self) -> int | None:
        """A lock among the processes of this host; None where there can be none."""
        try:
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            log.error("%s: %s: keys are not kept on disk", self._file.parent, error.strerror)
            return None
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def _claim(self, lock: int | None) -> bool:
        """Whether this process may ask now: the lock's file has the time of the last question."""
        if lock is not None:
            ago = time.time() - os.fstat(lock).st_mtime
            if os.fstat(lock).st_size and 0 <= ago < PAUSE:
                # Another process asked, and what came of it has been read.
                self._tried = time.monotonic() - ago
                return False
            os.pwrite(lock, b"asked\n", 0)
        self._tried = time.monotonic()
        return True

    def _stamp(self) -> object:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _load(self) -> None:
        """What is on disk, if it is newer."""
        stamp = self._stamp()
        if stamp is None or stamp == self._read:
            return
        self._read = stamp
        try:
            document = jws.once(self._file.read_bytes(), str(self._file))
            if document.get("issuer") != self._url:
                raise RejectedError(f"{self._file} is another issuer's")
            if not document.keys() >= {*_NAMES}:
                return  # an earlier release's: it is got anew
            known = Known(float(document.get("fetched", 0)), document, jwks.keys(document))
        except (OSError, RejectedError, ValueError, TypeError) as error:
            log.error("%s: can't be used: %s", self._file, error)
            return
        if not self._known or known.fetched > self._known.fetched:
            self._known = known

    def _save(self, document: Mapping[str, Any]) -> None:
        fresh = self._file.with_suffix(".new")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
                json.dump(document, f)
            fresh.replace(self._file)
            self._read = self._stamp()
        except OSError as error:
            log.error("%s: %s: keys are not kept on disk", self._file, error.strerror)
