"""Logging in and out: at an issuer, or by certificate at the OCCI service.

However somebody has logged in, each request is judged as one to OCCI is: by the same files, grants
and links, as they are then.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.identity.logins import Attempt
from occi_bridge.identity.user import DeniedError, User
from occi_bridge.page import cookies, templates
from occi_bridge.page.exchange import Ask, Fault, Reply, Visitor, see
from occi_bridge.store.sessions import Session, Sessions
from wnodes_lrms.config.load import Page
from wnodes_lrms.errors import RejectedError, UnknownError

CERTIFICATE = "certificate"  # the way that leads through the OCCI service
AT_SERVICE = "/login/certificate"  # there
_SETTLED = 10.0  # seconds for which connections may go on by files that have changed
_CODE = re.compile(r"[!-~]{1,2048}")

log = logging.getLogger(__name__)


class Login:
    """Who comes is made known here."""

    def __init__(
        self,
        page: Page,
        authenticator: Authenticator,
        sessions: Sessions,
        trusted_since: Callable[[], float],
    ) -> None:
        """`trusted_since`: when CAs and CRLs changed last (epoch seconds); it may block."""
        self._page = page
        self._authenticator = authenticator
        self._sessions = sessions
        self._trusted_since = trusted_since

    async def visitor(self, ask: Ask) -> Visitor | None:
        """Who has logged in with this browser; None for nobody.

        Raises DeniedError for somebody who may do nothing here, or no more.
        """
        secret = cookies.session(ask.headers)
        if not secret:
            return None
        # Most requests are polls of a session that is known: a thread for them costs as much again.
        session = self._sessions.remembered(secret) or await run_in_threadpool(
            self._sessions.find, secret
        )
        if not session:
            return None
        if session.chain and session.created - _SETTLED < await run_in_threadpool(
            self._trusted_since
        ):
            return None  # as with connections: who was trusted by the old files comes again
        return Visitor(secret, await self._user(session, ask.address))

    async def show(self, ask: Ask) -> Reply:
        """The ways to log in."""
        del ask
        ways = self._authenticator.logins.ways
        return templates.page("login", ways=ways, by_certificate=self._page.certificate_login)

    async def begin(self, ask: Ask) -> Reply:
        """Send the browser to an issuer, or to the OCCI service."""
        way = ask.names["way"]
        attempt = Attempt(secrets.token_urlsafe(32))
        if way == CERTIFICATE and self._page.certificate_login:
            place = f"{self._page.certificate_login}{AT_SERVICE}?state={attempt.state}"
        else:
            try:
                place = await self._authenticator.logins.place(way, attempt, self._back(way))
            except (RejectedError, UnknownError) as error:
                raise _failed(error) from error
        return see(place, cookies.begun(way, attempt.secret))

    async def finish(self, ask: Ask) -> Reply:
        """They come back: a new session, if this browser has begun this very login."""
        way, asked = ask.names["way"], ask.asked
        secret = cookies.attempt(ask.headers, way)
        attempt = Attempt(secret) if secret else None
        if not attempt or not secrets.compare_digest(
            asked.one("state").encode(), attempt.state.encode()
        ):
            said = "this login was not begun in this browser, or ten minutes ago: begin again"
            raise Fault(400, said, login=True)
        if asked.one("error"):
            log.info("login: %s said %s", way, ascii(asked.one("error"))[:200])
            raise Fault(403, "you were not logged in there: begin again", login=True)
        if not _CODE.fullmatch(asked.one("code")):
            raise Fault(400, "you came back without a code: begin again", login=True)
        session = await self._proven(ask, way, attempt)
        user = await self._user(session, ask.address)
        before = cookies.session(ask.headers)
        opened = await run_in_threadpool(self._sessions.open, session, before)
        log.info('logged in: who="%s" address=%s way=%s', user.subject, ask.address, way)
        return see("/", cookies.opened(opened), cookies.gone(cookies.LOGIN))

    async def leave(self, ask: Ask) -> Reply:
        """Log out; also somebody who has been banned meanwhile."""
        if secret := cookies.session(ask.headers):
            await run_in_threadpool(self._sessions.end, secret)
            log.info("logged out: address=%s", ask.address)
        return see("/login", cookies.gone(cookies.SESSION))

    async def _proven(self, ask: Ask, way: str, attempt: Attempt) -> Session:
        asked = ask.asked
        now = time.time()
        if way == CERTIFICATE:
            found = await run_in_threadpool(self._sessions.redeem, asked.one("code"), attempt.state)
            if not found:
                raise Fault(400, "that took too long, or was used before: begin again", login=True)
            return Session(found.subject, found.created, found.chain)  # when TLS verified it
        try:
            identity = await self._authenticator.logins.identity(
                way, attempt, asked.one("code"), self._back(way), asked.one("iss") or None
            )
        except (RejectedError, UnknownError) as error:
            raise _failed(error) from error
        return Session(identity.subject, now, groups=identity.groups)

    async def _user(self, session: Session, address: str) -> User:
        if session.chain:
            return await self._authenticator.user(session.chain, address)
        known = self._authenticator.logins.identity_now(session.subject, session.groups)
        if known is None:
            raise DeniedError(401, "nobody logs in at that issuer any more: log in anew")
        return await self._authenticator.known(known, address)

    def _back(self, way: str) -> str:
        return f"{self._page.url}{back(way)}"


def back(way: str) -> str:
    """The path at which users come back from a way to log in."""
    return f"/login/{way}/back"


def refused(error: DeniedError) -> Fault:
    """What somebody is told who may do nothing here."""
    return Fault(error.status, error.reason, login=error.status == 401)


def _failed(error: RejectedError | UnknownError) -> Fault:
    log.warning("login: %s", error)
    if isinstance(error, UnknownError):
        return Fault(503, "the issuer does not answer as it should: try again later", login=True)
    return Fault(403, f"you are not logged in: {error}", login=True)
