"""Sessions of the page: who has logged in, and how that was proven.

The browser has a secret, and the database its SHA-256: who reads the database can't go on with
anybody's session. Nothing that an issuer gave is kept, but who somebody is and their groups; of a
certificate its chain, which is judged anew with each request.
"""

import base64
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import tables
from occi_bridge.store.database import Database

LIFE = 8 * 3600.0  # seconds from logging in
TICKET = 60.0  # seconds from being known by certificate to the page
_SECRET = 32  # bytes
_MOST = 20  # sessions of one user, and as many that are not opened yet: the oldest goes
_KNOWN = 10_000  # that are remembered between two changes of the database


@dataclass(frozen=True)
class Session:
    """Who has logged in when (seconds since the epoch), and what proves it.

    Either a `chain` of certificates (DER, leaf first), or `groups`, as an issuer told them.
    """

    subject: str
    created: float
    chain: tuple[bytes, ...] = ()
    groups: tuple[str, ...] = ()


class Sessions:
    """All sessions. Safe to use from many threads."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, Session | None] = {}
        self._revision: int | None = None
        self._lock = threading.Lock()

    def open(self, session: Session, before: str | None) -> str:
        """Begin a session; the secret for the browser. The one that it had `before` ends.

        Raises UnknownError.
        """
        secret = secrets.token_urlsafe(_SECRET)

        def work(link: Connection) -> None:
            if before:
                _delete(link, tables.session.c.id == _digest(before))
            _add(link, session, secret, opened=True)

        self._db.write(work)
        return secret

    def ticket(self, session: Session, state: str) -> str:
        """A code with which the page can open a session, once and soon, with this `state`.

        Raises UnknownError.
        """
        code = secrets.token_urlsafe(_SECRET)
        self._db.write(
            lambda link: _add(link, session, f"{code}.{state}", opened=False), seen=False
        )
        return code

    def redeem(self, code: str, state: str) -> Session | None:
        """Whose code that is; it is worth nothing any more. Raises UnknownError."""
        table = tables.session.c
        digest = _digest(f"{code}.{state}")

        def work(link: Connection) -> Session | None:
            found = _read(link, digest, TICKET, opened=False)
            gone = link.execute(
                sa.delete(tables.session).where(table.id == digest, table.opened.is_(False))
            )
            return found if gone.rowcount else None

        return self._db.write(work, seen=False)

    def find(self, secret: str) -> Session | None:
        """The session of a browser. Raises UnknownError.

        It blocks for a query, but where nothing in the database has changed since the last one:
        each session that begins or ends moves its revision on.
        """
        digest = _digest(secret)
        revision, known = self._remembered()
        if digest in known:
            return _still(known[digest], LIFE)
        with self._db.reading() as link:
            found = _read(link, digest, LIFE, opened=True)
        if self._db.revision() == revision:
            known[digest] = found
        return found

    def remembered(self, secret: str) -> Session | None:
        """The same, without a wait: None for one that has to be looked for."""
        if not self._db.sqlite:
            return None  # whether anything has changed is a question to another process
        _, known = self._remembered()
        return _still(known.get(_digest(secret)), LIFE)

    def _remembered(self) -> tuple[int, dict[str, Session | None]]:
        """What has been found in the database as it is now, by digest; and its revision."""
        revision = self._db.revision()
        with self._lock:
            if revision != self._revision or len(self._known) > _KNOWN:
                self._known, self._revision = {}, revision
            return revision, self._known

    def end(self, secret: str) -> None:
        """End a session. Raises UnknownError."""
        if self.find(secret) is None:
            return  # a stranger's word writes nothing, and makes no answers forgotten
        self._db.write(lambda link: _delete(link, tables.session.c.id == _digest(secret)))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _still(session: Session | None, life: float) -> Session | None:
    return session if session and time.time() - session.created <= life else None


def _add(link: Connection, session: Session, secret: str, *, opened: bool) -> None:
    table = tables.session.c
    now = time.time()
    old = sa.or_(
        table.created < now - LIFE, sa.and_(table.opened.is_(False), table.created < now - TICKET)
    )
    _delete(link, old)
    mine = (table.subject == session.subject, table.opened.is_(opened))
    latest = sa.select(table.id).where(*mine).order_by(table.created.desc()).offset(_MOST - 1)
    _delete(link, table.id.in_(list(link.execute(latest).scalars())))
    proof = {
        "chain": [base64.b64encode(each).decode() for each in session.chain],
        "groups": list(session.groups),
    }
    values = {"subject": session.subject, "proof": proof, "opened": opened}
    values |= {"id": _digest(secret), "created": session.created}
    link.execute(sa.insert(tables.session).values(**values))


def _delete(link: Connection, where: sa.ColumnElement[bool]) -> None:
    link.execute(sa.delete(tables.session).where(where))


def _read(link: Connection, digest: str, life: float, *, opened: bool) -> Session | None:
    table = tables.session
    row = link.execute(
        sa.select(table).where(table.c.id == digest, table.c.opened.is_(opened))
    ).one_or_none()
    if row is None:
        return None
    chain = tuple(base64.b64decode(each) for each in row.proof["chain"])
    found = Session(row.subject, row.created, chain, tuple(row.proof["groups"]))
    return _still(found, life)
