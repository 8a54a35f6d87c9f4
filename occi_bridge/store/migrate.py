"""Bring the database to the tables of this release, when the bridge starts.

The steps are in migrations/versions, as Alembic has them. One bridge at a time: the others find
the work done.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from occi_bridge.store import database
from wnodes_lrms.errors import WnodesError

_LOCK = 0x776E6F64  # of PostgreSQL's advisory locks, the one that means this
_PRIVATE = 0o600

log = logging.getLogger(__name__)


def migrate(url: str) -> None:
    """Make or change the tables until they are those of this release.

    Raises WnodesError if the database is away, refuses, or is of a later release.
    """
    shown = sa.make_url(url).render_as_string(hide_password=True)
    try:
        folder = database.private_folder(url)
        engine = database.engine(url)
        try:
            with _alone(folder), engine.connect() as link:
                if folder is not None:
                    # SQLite changes a table by making another and dropping it, and would drop all
                    # that refers to it. Not within a transaction, in which this has no effect.
                    link.connection.driver_connection.execute("PRAGMA foreign_keys = OFF")  # type: ignore[union-attr]
                _steps(link, file=folder is not None)
        finally:
            engine.dispose()
        if folder is not None:
            Path(sa.make_url(url).database or "").chmod(_PRIVATE)
    except (OSError, SQLAlchemyError) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise WnodesError(f"database {shown}: {said}") from error


def settings() -> Config:
    """What Alembic needs to know to find the steps."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _steps(link: Connection, *, file: bool) -> None:
    config = settings()
    scripts = ScriptDirectory.from_config(config)
    with link.execution_options(writing=True).begin():
        if not file:
            link.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        now = MigrationContext.configure(link).get_current_revision()
        if now == scripts.get_current_head():
            return
        if now is not None and now not in {step.revision for step in scripts.walk_revisions()}:
            raise WnodesError(f"database: it is of a later release (its step is {now})")
        config.attributes["connection"] = link
        command.upgrade(config, "head")
        if file and (lost := link.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise WnodesError(f"database: its tables can't be changed: {lost} refers to nothing")
    log.info("database: tables are at step %s", scripts.get_current_head())


@contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    with (folder / "migration.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
