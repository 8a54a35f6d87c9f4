"""The connection to the database: transactions, the revision, and the one driver among bridges.

SQLite and PostgreSQL behave alike to whoever uses this. A writing transaction is alone on SQLite
(BEGIN IMMEDIATE); on PostgreSQL whoever counts before writing takes a lock by name first. Each
change that users may see moves the revision on, in the same transaction.
"""

import json
import select
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from occi_bridge.store import tables
from wnodes_lrms.errors import UnknownError

Result = TypeVar("Result")

_BUSY = 10.0  # seconds that a writer waits for others
_AWAY = "the service's database does not answer"
_ATTEMPTS = 5
_ROLLED_BACK = "40"  # SQLSTATEs of a transaction that was in another one's way, or a deadlock's
_TRUSTED = 1.0  # seconds for which a connection that was just used is believed to be alive
_LOST = (sqlite3.Error, psycopg.Error, OSError)


def engine(url: str) -> Engine:
    """An engine for a database URL, as all processes of a bridge use it.

    Its errors, which are logged, are without the values of a statement: users' data are among them.
    """
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite":
        made = sa.create_engine(
            address,
            json_deserializer=_from_json,
            hide_parameters=True,
            connect_args={"timeout": _BUSY},
        )
        sa.event.listen(made, "connect", _sqlite_connected)
        sa.event.listen(made, "begin", _sqlite_begins)
        return made
    made = sa.create_engine(
        address,
        json_deserializer=_from_json,
        hide_parameters=True,
        pool_size=8,
        connect_args={"connect_timeout": 5},
    )
    sa.event.listen(made, "checkin", _returned)
    sa.event.listen(made, "checkout", lambda link, record, _: _taken(made.dialect, link, record))
    return made


def _from_json(text: str) -> object:
    """Most columns of this kind are empty, and there are thousands in a list."""
    return {} if text == "{}" else [] if text == "[]" else json.loads(text)


def _returned(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["used"] = time.monotonic()


def _taken(dialect: Dialect, connection: Any, record: ConnectionPoolEntry) -> None:
    """See that it is alive. To ask is a round trip for each request, so one that was just used, and
    has not been told anything since, is not asked. Raises DisconnectionError: the pool makes
    another one."""
    idle = time.monotonic() - record.info.get("used", time.monotonic())
    if idle > _TRUSTED or _told(connection):
        try:
            dialect.do_ping(connection)
        except psycopg.Error as error:
            raise DisconnectionError from error


def _told(connection: Any) -> bool:
    """Whether its server has said something that nobody asked for, such as that it ends."""
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    return bool(look.poll(0))


def _sqlite_connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours: the driver's own comes too late
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # what was answered survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _sqlite_begins(connection: Connection) -> None:
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


class Database:
    """The database as one process uses it. Safe to use from many threads.

    Whatever fails because the database is away is UnknownError.
    """

    def __init__(self, url: str) -> None:
        """Nothing is connected yet."""
        self._url = sa.make_url(url)
        self.sqlite = self._url.get_backend_name() == "sqlite"
        self._engine = engine(url)
        self._counting = threading.Lock()
        self._counter: sqlite3.Connection | psycopg.Connection | None = None
        self._unheard = 0

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database all along."""
        level = {} if self.sqlite else {"isolation_level": "REPEATABLE READ"}
        with _faults(), self._engine.connect() as link:
            yield link.execution_options(**level)

    @contextmanager
    def glancing(self) -> Iterator[Connection]:
        """Each statement by itself, as of when it is asked: two round trips less."""
        level = {} if self.sqlite else {"isolation_level": "AUTOCOMMIT"}
        with _faults(), self._engine.connect() as link:
            yield link.execution_options(**level)

    def write(self, work: Callable[[Connection], Result], *, seen: bool = True) -> Result:
        """Run `work` in one transaction, anew where another one came in between.

        `seen` tells whether users may see what it changes: then the revision moves on.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with _faults(), self._engine.connect() as link:
                    with link.execution_options(writing=True).begin():
                        result = work(link)
                        if seen:
                            self._count(link)
                    return result
            except IntegrityError:
                if attempt == _ATTEMPTS - 1:
                    raise
            except _BetweenError:
                time.sleep(0.02 * attempt)
        raise UnknownError("database: others were in the way too often")

    def _count(self, link: Connection) -> None:
        """One change more, in a part that few other connections count in; SQLite has one writer."""
        changes = tables.changes
        part = 0 if self.sqlite else sa.func.pg_backend_pid(type_=sa.Integer) % tables.PARTS
        more = sa.update(changes).where(changes.c.part == part)
        link.execute(more.values(number=changes.c.number + 1))

    def lock(self, link: Connection, *names: str) -> None:
        """Keep others with one of these names out until the transaction is over."""
        if not self.sqlite:
            for name in sorted(names):
                key = sa.func.hashtextextended(name, 0)
                link.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))

    def clock(self) -> sa.ColumnElement[float]:
        """Seconds since the epoch, by the one clock of all who use this database."""
        if self.sqlite:
            return sa.literal(time.time())
        return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)

    def now(self, link: Connection) -> float:
        """What the clock says."""
        return time.time() if self.sqlite else link.execute(sa.select(self.clock())).scalar_one()

    def revision(self) -> int:
        """The number that every visible change moves on, by a connection of its own.

        Some 10 µs on SQLite, a round trip on PostgreSQL. While the database does not answer the
        number is another one each time, so that nothing is believed unchanged.
        """
        with self._counting:
            try:
                if self._counter is None:
                    self._counter = self._connected()
                found = self._counter.execute("SELECT sum(number) FROM changes").fetchone()
                if found and found[0] is not None:  # it is where there are no rows
                    return int(found[0])
            except _LOST:
                self._disconnect()
            self._unheard -= 1
            return self._unheard

    def close(self) -> None:
        """Let all connections go."""
        with self._counting:
            self._disconnect()
        self._engine.dispose()

    def _connected(self) -> "sqlite3.Connection | psycopg.Connection":
        if self.sqlite:
            path = self._url.database or ""
            return sqlite3.connect(path, timeout=0.2, check_same_thread=False, isolation_level=None)
        plain = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True, connect_timeout=2, prepare_threshold=0)

    def _disconnect(self) -> None:
        if self._counter is not None:
            self._counter.close()
        self._counter = None


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for another one."""
    address = sa.make_url(url)
    if address.get_backend_name() != "sqlite" or not address.database:
        return None
    return Path(address.database)


def private_folder(url: str) -> Path | None:
    """The folder of an SQLite file, made if it is not there; None for another database."""
    file = sqlite_file(url)
    if file is None:
        return None
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return file.parent


class _BetweenError(Exception):
    """Another transaction came in between: the same may go well when tried again."""


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except OperationalError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(_ROLLED_BACK):
            raise _BetweenError from error
        raise UnknownError(f"database: {_said(error)}", told=_AWAY) from error
    except SQLAlchemyError as error:
        raise UnknownError(f"database: {_said(error)}", told=_AWAY) from error


def _said(error: SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return str(cause).strip().splitlines()[0]
