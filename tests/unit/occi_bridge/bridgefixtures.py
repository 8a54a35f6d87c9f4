"""Databases, bridges and baits for tests of the bridge's state: SQLite and a real PostgreSQL.

A plug-in of pytest: the modules that want it name it in `pytest_plugins`.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.store import tables
from occi_bridge.store.database import Database
from occi_bridge.store.migrate import migrate
from tests.unit.conftest import part_of
from tests.unit.occi_bridge.fake_baits import FakeBait, Lrms
from tests.unit.occi_bridge.local_bridge import LocalBridge, keys
from wnodes_lrms.images import catalogue
from wnodes_lrms.images.catalogue import Image

_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)  # the newest


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """A PostgreSQL of our own: the folder of its socket. It has the database `bridge`."""
    if os.geteuid() != 0 or _BIN is None:
        pytest.skip("needs root and PostgreSQL")
    folder = Path(tempfile.mkdtemp(prefix="wnodes-pg-"))
    folder.chmod(0o755)
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [_BIN / program, *arguments],
            check=True,
            user=owner.pw_uid,
            group=owner.pw_gid,
            extra_groups=[],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )

    run("initdb", "-D", f"{folder}/data", "-A", "trust", "--no-sync", "--no-instructions")
    settings = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=200"
    run("pg_ctl", "-D", f"{folder}/data", "-l", f"{folder}/log", "-w", "-o", settings, "start")
    with psycopg.connect(
        host=str(folder), user="postgres", dbname="postgres", autocommit=True
    ) as link:
        link.execute("CREATE DATABASE bridge")
    migrate(_url(folder, "bridge"))
    yield folder
    run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def _url(folder: Path, name: str) -> str:
    return f"postgresql+psycopg://postgres@/{name}?host={folder}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A database with all tables, of either kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return str(request.getfixturevalue("file_url"))


@pytest.fixture(scope="session")
def databases() -> Iterator[Callable[[str], Database]]:
    """The same database for all tests that ask with one URL: what SQLAlchemy has compiled stays."""
    made: dict[str, Database] = {}

    def opened(url: str) -> Database:
        return made.setdefault(url, Database(url))

    yield opened
    for database in made.values():
        database.close()


@pytest.fixture
def postgres_url(postgres: Path, databases: Callable[[str], Database]) -> Iterator[str]:
    """The PostgreSQL database, with all tables as they are at first."""
    url = _url(postgres, "bridge")
    yield url
    databases(url).write(_empty)


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with all tables."""
    path = tmp_path_factory.mktemp("database") / "bridge.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def file_url(file: Path, databases: Callable[[str], Database]) -> Iterator[str]:
    """The SQLite database, with all tables as they are at first."""
    url = f"sqlite:///{file}"
    yield url
    databases(url).write(_empty)


def _empty(link: Connection) -> None:
    for table in reversed(tables.metadata.sorted_tables):
        if table not in (tables.leader, tables.changes):
            link.execute(sa.delete(table))
    link.execute(sa.update(tables.leader).values(holder="", until=0.0))


@pytest.fixture
def db(url: str, databases: Callable[[str], Database]) -> Database:
    return databases(url)


@pytest.fixture
def make_bridge(
    tmp_path: Path, disk: Path, databases: Callable[[str], Database]
) -> Iterator[Callable[..., LocalBridge]]:
    """Makes a bridge; a further one with the same URL is another bridge on that database."""
    part = part_of(disk)
    for tag, memory in (("small_linux_x86_64", 64), ("big_linux_x86_64", 2048)):
        image = Image(tag=tag, format="qcow2", disk=part, context="cloud-init", min_memory=memory)
        catalogue.write(tmp_path / "images", image)
    made: list[LocalBridge] = []

    def make(url: str, *baits: FakeBait, more: str = "") -> LocalBridge:
        db = Database(url) if made else databases(url)
        made.append(LocalBridge(tmp_path, db, url, [bait.url for bait in baits], more))
        return made[-1]

    yield make
    for bridge in made[1:]:
        bridge.db.close()


@pytest.fixture(scope="session")
def two_baits() -> Iterator[list[FakeBait]]:
    lrms = Lrms("")
    made = [FakeBait(node, lrms) for node in ("hv1", "hv2")]
    yield made
    for bait in made:
        bait.close()


@pytest.fixture
def baits(tmp_path: Path, two_baits: list[FakeBait]) -> list[FakeBait]:
    """The baits of hv1 and hv2, and one LRMS for both."""
    _private, public = keys(tmp_path)
    lrms = Lrms(public)
    for bait in two_baits:
        bait.begin_anew(lrms)
    return two_baits
