"""Two requests at once: whichever comes second is refused, or sees what the first has done."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.engine import Connection

from occi_bridge.driver import persistence
from occi_bridge.driver.persistence import read_all
from occi_bridge.identity.user import User
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, OcciError
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from occi_bridge.service import create
from occi_bridge.service.transaction import Transaction
from occi_bridge.store.database import Database
from tests.unit.occi_bridge.local_bridge import ANNA, BOB, START, STOP, LocalBridge, person
from tests.unit.occi_bridge.service.conftest import ANNAS, BOBS, link_to, put, refused

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration


@contextlib.contextmanager
def just_before_the_locks(
    monkeypatch: pytest.MonkeyPatch, other: Callable[[], object]
) -> Iterator[None]:
    """Another request comes in, whole, when the next one has read, and has locked nothing yet."""
    lock = Database.lock

    def between(db: Database, link: Connection, *names: str) -> None:
        monkeypatch.setattr(Database, "lock", lock)
        other()
        lock(db, link, *names)

    monkeypatch.setattr(Database, "lock", between)
    yield
    monkeypatch.setattr(Database, "lock", lock)


def test_two_bridges_at_once_keep_the_quota(
    url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    bridges = [make_bridge(url), make_bridge(url)]
    bridges[0].heard()
    limited = person(machines=5)
    go = threading.Barrier(8)

    def one(number: int) -> int:
        go.wait()
        try:
            bridges[number % 2].create(limited)
        except OcciError as error:
            return error.status
        return 201

    with ThreadPoolExecutor(8) as pool:
        made = sorted(pool.map(one, range(8)))
    assert made == [201] * 5 + [403] * 3
    assert len(bridges[0].service.locations(limited, schema.COMPUTE)) == 5


@pytest.mark.parametrize("change", ["grown", "deleted"])
def test_what_is_copied_is_not_changed_by_another_request_meanwhile(
    make_bridge: Callable[..., LocalBridge],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    """On SQLite one writes at a time. What is copied counts for what it is."""
    bridge = make_bridge(postgres_url)
    bridge.heard()
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)
    [row] = read_all(bridge.db)["storages"]
    bridge.db.write(lambda link: persistence.set_columns(link, row, {"made": True, "has": 1}))
    action = f"{schema.INFRA}/storage/action#"

    def other() -> None:
        if change == "grown":
            bridge.service.act(ANNAS, disk.path, f"{action}resize", {"size": 5})
        else:
            bridge.service.delete(ANNAS, disk.path)

    why = "has just been changed: try again" if change == "grown" else "has just been deleted"
    with just_before_the_locks(monkeypatch, other), refused(409, why):
        bridge.service.act(ANNAS, disk.path, f"{action}snapshot", {})
    assert len(read_all(bridge.db)["storages"]) == 1


@pytest.mark.parametrize("kind", [schema.STORAGE, schema.NETWORK])
def test_what_is_linked_is_not_deleted_by_another_request_meanwhile(
    make_bridge: Callable[..., LocalBridge],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """On SQLite one writes at a time. Whichever request comes second is refused."""
    bridge = make_bridge(postgres_url)
    bridge.heard()
    machine = bridge.create(ANNAS)
    of_link = schema.STORAGELINK if kind == schema.STORAGE else schema.NETWORKINTERFACE

    def make() -> Entity:
        if kind == schema.NETWORK:
            return bridge.create(ANNAS, kind)
        return bridge.create(ANNAS, kind, occi__storage__size=1)

    def link(path: str) -> Entity:
        ends = {schema.SOURCE: machine.path, schema.TARGET: path}
        return bridge.make(ANNAS, New(of_link, (), ends))

    def delete(path: str) -> None:
        bridge.service.delete(ANNAS, path)

    for first, second, why in (
        (delete, link, "has just been deleted"),
        (link, delete, "unlink"),
        (delete, delete, "has just been deleted"),
    ):
        thing = make()
        other = functools.partial(first, thing.path)
        with just_before_the_locks(monkeypatch, other), refused(409, why):
            second(thing.path)


def test_a_vm_that_is_linked_is_not_deleted_by_another_request_meanwhile(
    make_bridge: Callable[..., LocalBridge], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = make_bridge(postgres_url)
    bridge.heard()
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)

    def link(machine: str) -> Entity:
        ends = {schema.SOURCE: machine, schema.TARGET: disk.path}
        return bridge.make(ANNAS, New(schema.STORAGELINK, (), ends))

    def delete(machine: str) -> None:
        bridge.service.delete(ANNAS, machine)

    for first in (delete, link):
        path = bridge.create(ANNAS).path
        with just_before_the_locks(monkeypatch, functools.partial(first, path)):
            if first is delete:
                with refused(409, "has just been deleted"):
                    link(path)
            else:
                delete(path)  # with the link
        assert bridge.service.locations(ANNAS, schema.STORAGELINK) == []
    bridge.service.delete(ANNAS, disk.path)


def test_of_two_requests_at_once_the_second_sees_the_first(
    make_bridge: Callable[..., LocalBridge], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the second one has read it, the VM is to run already: it is started all the same."""
    bridge = make_bridge(postgres_url)
    bridge.heard()
    path = bridge.create(ANNAS).path
    [before] = read_all(bridge.db)["computes"]
    stop = functools.partial(bridge.service.act, ANNAS, path, STOP, {})
    with just_before_the_locks(monkeypatch, stop):
        bridge.service.act(ANNAS, path, START, {})
    [row] = read_all(bridge.db)["computes"]
    assert (row.desired, row.wish) == ("active", before.wish + 2)


def test_a_vm_that_is_started_by_another_request_gets_no_other_size(
    make_bridge: Callable[..., LocalBridge], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its lease would be as large as it was, and the VM that is ordered into it another."""
    bridge = make_bridge(postgres_url)
    bridge.heard()
    vm = bridge.create(ANNAS)
    put(bridge, vm, desired="inactive", state="stopped")
    start = functools.partial(bridge.service.act, ANNAS, vm.path, START, {})
    with just_before_the_locks(monkeypatch, start), refused(409, "has just been changed"):
        bridge.service.update(ANNAS, vm.path, Changes({schema.CORES: 2}))
    [row] = read_all(bridge.db)["computes"]
    assert (row.desired, row.cores) == ("active", 1)


def test_of_two_vms_that_want_the_same_volumes_in_opposite_orders_one_is_made(
    make_bridge: Callable[..., LocalBridge], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has locked one when it asks for the other. PostgreSQL ends one of the requests, which is
    done anew and finds the volumes taken."""
    bridge = make_bridge(postgres_url)
    bridge.heard()
    anna, bob = (person(name, "/vo/team", share=True) for name in (ANNA, BOB))
    disks = [bridge.create(anna, schema.STORAGE, occi__storage__size=1).path for _ in "12"]
    lock, both, mine = Database.lock, threading.Barrier(2), threading.local()

    def and_wait(db: Database, link: Connection, *names: str) -> None:
        lock(db, link, *names)
        if names[0].startswith("storage ") and not hasattr(mine, "has_one"):
            mine.has_one = True
            both.wait(60)

    def make(user: User, *paths: str) -> str:
        try:
            bridge.create(user, links=[link_to(path, schema.STORAGELINK) for path in paths])
        except OcciError as error:
            return f"{error.status} {error.message}"
        return "made"

    monkeypatch.setattr(Database, "lock", and_wait)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(make, anna, *disks), pool.submit(make, bob, *reversed(disks))]
        refusal, made = sorted(each.result(120) for each in asked)
    assert made == "made"
    assert refusal.startswith("409 ")
    assert "is linked to a VM already" in refusal
    assert len(bridge.service.locations(anna, schema.COMPUTE)) == 1
    assert len(bridge.service.locations(anna, schema.STORAGELINK)) == 2


def test_a_volume_that_grows_does_not_shrink_by_another_request(
    make_bridge: Callable[..., LocalBridge], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = make_bridge(postgres_url)
    bridge.heard()
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)
    grow = f"{schema.INFRA}/storage/action#resize"
    act = functools.partial(bridge.service.act, ANNAS, disk.path, grow)
    other = functools.partial(act, {"size": 5})
    with just_before_the_locks(monkeypatch, other), refused(409, "has just been changed"):
        act({"size": 3})
    [row] = read_all(bridge.db)["storages"]
    assert row.size == 5


def test_users_of_the_nodes_own_network_wait_for_nobody(
    postgres_url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    """Nobody gives addresses there. SQLite has one writer at a time, whatever they write."""
    bridge = make_bridge(postgres_url)
    bridge.heard()
    model = bridge.service.model(ANNAS)

    def make_two(link: Connection) -> Entity:
        tx = Transaction(link, bridge.db, bridge.site, ANNAS)
        create.make(tx, model, New(schema.COMPUTE))
        return pool.submit(bridge.create, BOBS).result(60)  # before the first one is committed

    with ThreadPoolExecutor(1) as pool:
        made = bridge.db.write(make_two)
    assert made.links[0].attributes[schema.TARGET] == "/network/public"
    for user in (ANNAS, BOBS):
        assert len(bridge.service.locations(user, schema.COMPUTE)) == 1
