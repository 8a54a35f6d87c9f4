"""Sessions of the page, on both databases: what ends them, how many there are."""

import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from occi_bridge.store import sessions, tables
from occi_bridge.store.database import Database
from occi_bridge.store.sessions import Session, Sessions
from occi_bridge.store.ssh_keys import SshKey, SshKeys

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration

STATE = "s" * 43


def ann(**changes: object) -> Session:
    return replace(Session("/CN=Ann", time.time(), (b"\x30\x00", b"\x30\x01")), **changes)  # type: ignore[arg-type]


def count(db: Database) -> int:
    with db.reading() as link:
        query = sa.select(sa.func.count()).select_from(tables.session)
        return int(link.execute(query).scalar_one())


def test_it_is_seen_and_ends_in_all_processes(db: Database) -> None:
    here, there = Sessions(db), Sessions(db)
    session = ann()
    secret = here.open(session, None)
    assert (here.find(secret), there.find(secret)) == (session, session)
    assert there.find(secret[:-1] + "x") is None
    there.end(secret)
    assert (here.find(secret), there.find(secret)) == (None, None)


def test_the_one_before_ends_with_the_next_login(db: Database) -> None:
    all_ = Sessions(db)
    first = all_.open(ann(), None)
    second = all_.open(ann(), first)
    assert first != second
    assert (all_.find(first) is None, all_.find(second) is None) == (True, False)


def test_it_ends_by_age_also_where_it_is_remembered(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ = Sessions(db)
    secret = all_.open(ann(created=time.time() - 100), None)
    assert all_.find(secret)
    monkeypatch.setattr(sessions, "LIFE", 50.0)
    assert all_.find(secret) is None
    all_.open(ann(), None)
    assert count(db) == 1


def test_what_is_told_without_a_wait_asks_no_other_process(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_, session = Sessions(db), ann()
    secret = all_.open(session, None)
    all_.find(secret)
    revision, asked = db.revision, 0

    def ask() -> int:
        nonlocal asked
        asked += 1
        return revision()

    monkeypatch.setattr(db, "revision", ask)
    found = all_.remembered(secret)
    assert (found, asked) == ((session, 1) if db.sqlite else (None, 0))


def test_a_user_has_a_number_of_them_at_most(db: Database) -> None:
    all_ = Sessions(db)
    now = time.time()
    first = all_.open(ann(created=now - 60), None)
    others = [all_.open(ann(created=now - 30 + n), None) for n in range(20)]
    for _ in range(30):  # what a page of another site can bring about
        all_.ticket(ann(), STATE)
    assert all_.find(first) is None
    assert all(all_.find(secret) for secret in others)
    assert count(db) == 40


def test_a_ticket_is_good_once_soon_and_with_its_state(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_, session = Sessions(db), ann()
    code = all_.ticket(session, STATE)
    assert all_.find(code) is None
    assert all_.find(f"{code}.{STATE}") is None
    assert all_.redeem(code, STATE.upper()) is None
    assert all_.redeem(code, STATE) == session
    assert all_.redeem(code, STATE) is None
    secret = all_.open(session, None)
    assert all_.redeem(secret, "") is None
    assert all_.find(secret)
    late = all_.ticket(session, STATE)
    monkeypatch.setattr(sessions, "TICKET", -1.0)
    assert all_.redeem(late, STATE) is None


def test_keys_are_their_users(db: Database) -> None:
    keys = SshKeys(db)
    for number in range(25):
        keys.remember("/CN=Ann", SshKey(f"key {number}", "ssh-ed25519 AAAA"))
    assert len(keys.of("/CN=Ann")) == 20
    assert keys.of("/CN=Bob") == []
    keys.forget("/CN=Bob", "key 24")
    keys.remember("/CN=Ann", SshKey("key 24", "another"))
    assert SshKey("key 24", "another") in keys.of("/CN=Ann")
    keys.forget("/CN=Ann", "key 24")
    assert "key 24" not in {each.name for each in keys.of("/CN=Ann")}
