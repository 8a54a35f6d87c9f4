"""The tables, how they come to be, and transactions, on SQLite and on PostgreSQL."""

import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from occi_bridge.store import database, tables
from occi_bridge.store.database import Database
from occi_bridge.store.migrate import migrate, settings
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.tunnel import USERS_VNIS

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration


def test_the_steps_lead_to_the_tables_of_the_code(url: str) -> None:
    engine = database.engine(url)
    with engine.connect() as link:
        context = MigrationContext.configure(link, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_a_statement_that_fails_is_told_without_its_values(url: str) -> None:
    engine = database.engine(url)
    with engine.connect() as link, pytest.raises(SQLAlchemyError) as caught:
        link.execute(sa.text("INSERT INTO nowhere VALUES (:data)"), {"data": "c2VjcmV0"})
    assert "nowhere" in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)
    engine.dispose()


def test_many_bridges_may_start_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/bridge.sqlite"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [url] * 4))
    file = tmp_path / "new" / "bridge.sqlite"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    db = Database(url)
    with db.reading() as link:
        assert link.execute(sa.select(tables.leader.c.name)).scalars().all() == ["driver"]
    db.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/older.sqlite"
    folder: Path = request.getfixturevalue("postgres")
    with psycopg.connect(f"postgresql://postgres@/postgres?host={folder}", autocommit=True) as link:
        link.execute("CREATE DATABASE older")
    return f"postgresql+psycopg://postgres@/older?host={folder}"


def test_a_database_of_the_first_release_keeps_what_it_has(older: str) -> None:
    url = older
    engine = database.engine(url)
    with engine.connect() as link, link.execution_options(writing=True).begin():
        config = settings()
        config.attributes["connection"] = link
        command.upgrade(config, "0001")
        own = {"owner": "anna", "shared": "", "created": 1.0, "mixins": [], "attributes": {"a": 1}}
        of_link = {"uid": "s", "id": "my-s", "kind": "storage", **own}
        link.execute(sa.insert(tables.entity).values(of_link))
        names = "uid, size, made, online, reason, act, tries, again, acted"
        volume = f"INSERT INTO storage ({names}) VALUES ('s', 3, :yes, :yes, '', '', 0, 0, 0)"  # noqa: S608
        link.execute(sa.text(volume), {"yes": True})
        for uid in ("n", "c"):
            values = {"uid": uid, "id": f"my-{uid}", "kind": "network", **own}
            link.execute(sa.insert(tables.entity).values(values))
        network = (
            "INSERT INTO network (uid, name, subnet, gateway, up) VALUES ('n', 'n', '', '', :up)"
        )
        link.execute(sa.text(network), {"up": True})
    engine.dispose()
    migrate(url)
    engine = database.engine(url)
    with engine.connect() as link:
        assert compare_metadata(MigrationContext.configure(link), tables.metadata) == []
        kept = link.execute(sa.select(tables.entity.c.id, tables.entity.c.attributes))
        assert sorted(map(tuple, kept)) == [(f"my-{each}", {"a": 1}) for each in "cns"]
        kept = link.execute(sa.select(tables.storage.c.has, tables.storage.c.node))
        assert [tuple(each) for each in kept] == [(3, "")]  # which any node has
        net = tables.network.c
        [(uid, vni, subnet6)] = link.execute(sa.select(net.uid, net.vni, net.subnet6)).all()
        assert (uid, vni in USERS_VNIS, subnet6) == ("n", True, "")
        parts = link.execute(sa.select(tables.changes.c.part)).scalars().all()
        assert sorted(parts) == list(range(tables.PARTS))  # or changes would not be counted
    with pytest.raises(IntegrityError), engine.begin() as link:
        link.execute(sa.insert(tables.entity).values(uid="x", id="my-n", kind="network", **own))
    with pytest.raises(IntegrityError), engine.begin() as link:
        link.execute(sa.insert(tables.network).values(uid="nobody", name="x"))
    with engine.begin() as link:
        other = own | {"owner": "bob"}
        link.execute(sa.insert(tables.entity).values(uid="y", id="my-n", kind="network", **other))
    engine.dispose()


def test_a_database_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bridge.sqlite"
    migrate(url)
    engine = database.engine(url)
    with engine.begin() as link:
        link.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(WnodesError, match="of a later release"):
        migrate(url)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(WnodesError) as caught:
        migrate("postgresql+psycopg://bridge:secret@127.0.0.1:9/bridge")
    assert "postgresql+psycopg://bridge:***@127.0.0.1:9/bridge" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def add(db: Database, owner: str, url: str) -> Callable[[], None]:
    def work(link: sa.Connection) -> None:
        db.lock(link, "owner")
        count = link.execute(sa.select(sa.func.count()).select_from(tables.bait)).scalar_one()
        threading.Event().wait(0.01)
        link.execute(sa.insert(tables.bait).values(url=url, node=f"{owner}{count}"))

    return lambda: db.write(work)


def test_whoever_holds_a_lock_counts_alone(db: Database) -> None:
    with ThreadPoolExecutor(5) as pool:
        for each in [pool.submit(add(db, "n", str(number))) for number in range(5)]:
            each.result()
    with db.reading() as link:
        nodes = set(link.execute(sa.select(tables.bait.c.node)).scalars())
    assert nodes == {f"n{number}" for number in range(5)}


def part_of(db: Database) -> int:
    """Where its connection counts; it has one as long as nobody wants a second."""
    with db.reading() as link:
        pid = link.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
    return int(pid) % tables.PARTS


def test_who_counts_a_change_waits_for_no_other_one(postgres_url: str) -> None:
    """SQLite has one writer at a time."""
    made = [Database(postgres_url)]
    while len(made) < 2 or part_of(made[-1]) == part_of(made[0]):
        made.append(Database(postgres_url))
    here, there = made[0], made[-1]
    before = here.revision()

    def work(link: sa.Connection) -> None:
        here._count(link)
        pool.submit(there.write, lambda _: None).result(60)  # before the first one is committed

    with ThreadPoolExecutor(1) as pool:
        here.write(work)
    assert here.revision() == there.revision() == before + 3
    for each in made:
        each.close()


def test_without_a_count_nothing_is_believed_unchanged(tmp_path: Path) -> None:
    """As in a database that was put back without that table's rows."""
    url = f"sqlite:///{tmp_path}/bridge.sqlite"
    migrate(url)
    db = Database(url)
    with db._engine.begin() as link:
        link.execute(sa.delete(tables.changes))
    assert db.revision() != db.revision()
    db.close()


def test_two_who_lock_in_opposite_orders_both_come_through(postgres_url: str) -> None:
    """PostgreSQL ends one of them after a second, as a deadlock; that one is done anew."""
    db = Database(postgres_url)
    both = threading.Barrier(2)
    done: list[tuple[str, ...]] = []

    def act(*names: str) -> None:
        first = iter((True,))

        def work(link: sa.Connection) -> None:
            db.lock(link, names[0])
            if next(first, False):
                both.wait(60)
            db.lock(link, names[1])
            done.append(names)

        db.write(work)

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(act, "a", "b"), pool.submit(act, "b", "a")]:
            each.result(60)
    assert sorted(done) == [("a", "b"), ("b", "a")]
    db.close()


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    before = db.revision()

    def work(link: sa.Connection) -> None:
        link.execute(sa.insert(tables.bait).values(url="x"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.write(work)
    with db.reading() as link:
        assert not link.execute(sa.select(tables.bait)).all()
    assert db.revision() == before


def test_what_can_never_go_well_is_not_tried_for_ever(db: Database) -> None:
    tries = []

    def work(link: sa.Connection) -> None:
        tries.append(1)
        for _ in range(2):
            link.execute(sa.insert(tables.bait).values(url="x"))

    with pytest.raises(IntegrityError):
        db.write(work)
    assert len(tries) == 5


def test_two_that_wait_for_each_other_both_come_through(db: Database) -> None:
    """PostgreSQL ends one of them, which is then done anew; on SQLite they never meet."""
    met = threading.Barrier(2)

    def crossing(first: str, second: str) -> Callable[[sa.Connection], None]:
        again: list[int] = []

        def work(link: sa.Connection) -> None:
            db.lock(link, first)
            if not again and not db.sqlite:
                again.append(1)
                met.wait(5)
            db.lock(link, second)

        return work

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(db.write, crossing(*each)) for each in (("a", "b"), ("b", "a"))]
        assert [each.result() for each in both] == [None, None]


def test_reading_sees_one_state(db: Database) -> None:
    def insert(link: sa.Connection) -> None:
        link.execute(sa.insert(tables.bait).values(url="x"))

    with db.reading() as link:
        assert not link.execute(sa.select(tables.bait)).all()
        db.write(insert)
        assert not link.execute(sa.select(tables.bait)).all()


def test_a_database_that_was_restarted_is_found_again(
    postgres_url: str,
) -> None:
    db = Database(postgres_url)
    first = db.revision()
    with db.reading() as link:
        link.execute(sa.select(tables.bait)).all()
    engine = database.engine(postgres_url)
    with engine.begin() as link:
        link.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    engine.dispose()
    assert db.revision() < 0
    assert db.revision() == first
    with db.reading() as link:
        assert link.execute(sa.select(tables.bait)).all() == []
    db.close()


def test_no_database_is_unknown(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/none/bridge.sqlite")
    with pytest.raises(UnknownError, match="database: unable to open database file"), db.reading():
        pass
    db.close()
