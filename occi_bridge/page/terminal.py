"""Typing into a VM's serial console: a permit that is good once, and the WebSocket that it opens.

Who has opened it is judged anew every few seconds, as with each request: a logout, a ban or the end
of the VM ends it. What is typed is passed on, and neither kept nor logged.
"""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from occi_bridge.identity.user import Capability, DeniedError, User
from occi_bridge.occi.messages import OcciError
from occi_bridge.page.exchange import LOG_IN, PLAIN, Ask, Fault, Reply, Visitor
from occi_bridge.page.login import Login
from occi_bridge.page.terminal_socket import (
    PROTOCOL,
    SAID,
    Browser,
    Ended,
    Line,
    shown,
    typed,
)
from occi_bridge.service.service import BridgeService
from occi_bridge.store.sessions import Session, Sessions
from wnodes_lrms.config.load import Page
from wnodes_lrms.console import End, first_of
from wnodes_lrms.errors import AbsentError, ConflictError, UnknownError, WnodesError

_PERMIT = re.compile(r"[A-Za-z0-9_-]{43}")
_NOWHERE = "the VM is on no node now, so it has no console"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one worker lets consoles have."""

    each: int = 4  # consoles of one user
    all: int = 64
    idle: float = 1800.0  # seconds without a key
    look: float = 3.0  # seconds between two looks whether it may go on
    doubt: float = 30.0  # seconds for which it goes on while nobody can tell


# A bait's URL, a VM's name there, its owner.
Opener = Callable[[str, str, str], AbstractAsyncContextManager[Line]]


class Terminals:
    """The consoles that are typed into, of one worker."""

    def __init__(
        self,
        page: Page,
        service: BridgeService,
        login: Login,
        sessions: Sessions,
        opener: Opener,
        limits: Limits,
    ) -> None:
        self._origin = page.url.removesuffix(":443").encode()
        self._service = service
        self._login = login
        self._sessions = sessions
        self._opener = opener
        self._limits = limits
        self._open: Counter[str] = Counter()  # by owner

    async def permit(self, ask: Ask) -> Reply:
        """A word with which this session opens the console of this VM, once and soon."""
        visitor = ask.known
        await self._place(ask, visitor.user)
        self._check_room(visitor.user)
        session = Session(visitor.user.subject, time.time())
        word = await run_in_threadpool(self._sessions.ticket, session, self._bound(ask, visitor))
        return Reply(word.encode(), media=PLAIN)

    async def admit(self, ask: Ask, scope: Scope) -> Ask:
        """The request for a WebSocket with who it is from. Its permit is used up by this.

        Raises Fault and DeniedError.
        """
        origins = [value for name, value in ask.headers if name == b"origin"]
        if [each.removesuffix(b":443") for each in origins] != [self._origin]:
            raise Fault(403, "a page of another site may not open a console")
        visitor = await self._login.visitor(ask)
        if visitor is None:
            raise Fault(401, LOG_IN)
        words = [word for word in scope["subprotocols"] if word != PROTOCOL]
        if len(words) != 1 or not _PERMIT.fullmatch(words[0]):
            raise Fault(403, "a permit is needed: open the console on the page")
        bound = self._bound(ask, visitor)
        if not await run_in_threadpool(self._sessions.redeem, words[0], bound):
            raise Fault(403, "this permit was used, or is too old: open the console again")
        return replace(ask, visitor=visitor)

    async def carry(self, ask: Ask, receive: Receive, send: Send) -> None:
        """Connect the browser with the console until either ends, and say why."""
        user, browser = ask.known.user, Browser(receive, send)
        what = f"console of {ask.names['id']} for {user.subject}"
        try:
            with self._slot(user):
                place = await self._place(ask, user)
                async with self._opener(*place, user.key) as line:
                    await browser.accept()
                    log.info("%s: open", what)
                    ended = await first_of(
                        typed(browser, line), shown(browser, line), self._watch(ask, place, browser)
                    )
        except (Fault, DeniedError, OcciError, WnodesError) as error:
            ended = End.REFUSED, _said(error)
            log.info("%s: %s", what, error)
        await browser.close(*ended)
        log.info("%s: closed: %s", what, ended[1])

    async def _watch(self, ask: Ask, place: tuple[str, str], browser: Browser) -> Ended:
        """Until it may not go on: judged as each request is."""
        limits, sure = self._limits, time.monotonic()
        while browser.idle() < limits.idle:
            await asyncio.sleep(limits.look)
            try:
                visitor = await self._login.visitor(ask)
                if visitor is None or visitor.user.key != ask.known.user.key:
                    return End.REFUSED, "you are logged out"
                if await self._place(ask, visitor.user) != place:
                    return End.STOPPED, SAID[End.STOPPED]
                sure = time.monotonic()
            except UnknownError:
                if time.monotonic() - sure > limits.doubt:
                    raise
        return End.REFUSED, f"nothing was typed for {limits.idle / 60:.0f} minutes"

    async def _place(self, ask: Ask, user: User) -> tuple[str, str]:
        """Where the VM's bait is, and its name there, if this user may type into its console.

        Raises Fault, DeniedError and OcciError.
        """
        user.require(Capability.MODIFY)
        path = f"/compute/{ask.names['id']}"
        place = await run_in_threadpool(lambda: self._service.place(user, path, own=True))
        if place is None:
            raise Fault(409, _NOWHERE)
        return place

    @contextmanager
    def _slot(self, user: User) -> Iterator[None]:
        self._check_room(user)
        self._open[user.key] += 1
        try:
            yield
        finally:
            self._open -= Counter([user.key])  # and forget who has none

    def _check_room(self, user: User) -> None:
        """Raises Fault."""
        if self._open[user.key] >= self._limits.each:
            raise Fault(429, f"you have {self._limits.each} consoles open: close one first")
        if self._open.total() >= self._limits.all:
            raise Fault(503, "too many consoles are open at present: try again later")

    def _bound(self, ask: Ask, visitor: Visitor) -> str:
        """What a permit is for: the database has no more of it than a SHA-256."""
        return f"console {visitor.secret} {ask.names['id']} {self._origin.decode()}"


def _said(error: Exception) -> str:
    """Why a console was not opened, or goes on no more, in a sentence for its user."""
    if isinstance(error, Fault):
        return error.said
    if isinstance(error, DeniedError):
        return error.reason
    if isinstance(error, OcciError):
        return error.message
    if isinstance(error, AbsentError):
        return _NOWHERE
    if isinstance(error, ConflictError):
        return str(error)
    return "the VM's node does not answer now"
