"""The service on SQLite and on PostgreSQL: what users make, see, change and may not."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.driver import persistence
from occi_bridge.driver.persistence import read_all
from occi_bridge.identity.user import User
from occi_bridge.occi import parse, render, schema, validate_changes
from occi_bridge.occi.messages import Definition, Entity, OcciError, Value
from occi_bridge.occi.negotiate import JSON, OCCI, PLAIN
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from occi_bridge.service import create, quota
from occi_bridge.service.quota import Amount
from occi_bridge.service.transaction import Transaction
from occi_bridge.store import heard, leader, tables
from occi_bridge.store.database import Database
from occi_bridge.store.rows import Row
from tests.unit.occi_bridge.local_bridge import (
    ANNA,
    BOB,
    OS_TPL,
    RESTART,
    SAVE,
    START,
    STOP,
    SUSPEND,
    LocalBridge,
    person,
)
from wnodes_lrms.addresses import QUARANTINE, address6_of

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration

ANNAS = person(ANNA)
BOBS = person(BOB)
STATE = "occi.compute.state"
MESSAGE = "occi.compute.state.message"
DOWN = f"{schema.INFRA}/network/action#down"
OFFLINE = f"{schema.INFRA}/storage/action#offline"
MINE = "http://example.org/mine#web"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJUhyUO+J5VhmWrZ9pOaKJ8Cf0u2ExPGw6GVRbRk2UuW ada"


@pytest.fixture
def bridge(url: str, make_bridge: Callable[..., LocalBridge]) -> LocalBridge:
    made = make_bridge(url)
    made.heard()
    return made


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


@contextlib.contextmanager
def refused(status: int, *words: str) -> Iterator[None]:
    with pytest.raises(OcciError) as caught:
        yield
    assert caught.value.status == status, caught.value.message
    for word in words:
        assert word in caught.value.message


def put(bridge: LocalBridge, entity: Entity, **values: object) -> None:
    """Have the driver have written this into a VM's row."""
    row = bridge.row(entity)
    bridge.db.write(lambda link: persistence.set_columns(link, row, values))


def link_to(target: str, kind: str = schema.NETWORKINTERFACE, **more: str) -> New:
    given = {name.replace("__", "."): value for name, value in more.items()}
    return New(kind, (), {schema.TARGET: target, **given})


@contextlib.contextmanager
def statements(bridge: LocalBridge) -> Iterator[list[str]]:
    """What the database is asked meanwhile, without locks and the ends of transactions."""
    asked: list[str] = []

    def note(*arguments: object) -> None:
        text = str(arguments[2])
        if not text.startswith("BEGIN") and "pg_advisory" not in text:
            asked.append(text)

    sa.event.listen(bridge.db._engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(bridge.db._engine, "before_cursor_execute", note)


# Making.


def test_a_machine_with_nothing_said(bridge: LocalBridge) -> None:
    made = bridge.make(ANNAS, New(schema.COMPUTE))
    assert made.attributes[STATE] == "inactive"
    assert made.attributes[MESSAGE] == "waiting for a lease"
    assert made.attributes[schema.CORES] == 1
    assert made.attributes[schema.MEMORY] == 0.5
    assert made.mixins == (OS_TPL,)  # the first image that runs in that memory
    [card] = made.links
    assert card.attributes[schema.TARGET] == "/network/public"
    assert bridge.service.entity(ANNAS, made.path) == made
    assert bridge.service.entity(ANNAS, card.path) == card
    row = bridge.row(made)
    assert (row.account, row.walltime, row.desired) == ("cloud01", 86400, "active")


def test_a_machine_with_everything(bridge: LocalBridge) -> None:
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2.0)
    net = bridge.create(ANNAS, schema.NETWORK, occi__network__address="10.9.0.0/24")
    links = [
        link_to(net.path),
        link_to("/network/private"),
        link_to(disk.path, schema.STORAGELINK),
    ]
    made = bridge.create(
        ANNAS,
        links=links,
        occi__core__id="my-own",
        occi__core__title="Web 1",
        occi__compute__hostname="Web 1",
        occi__compute__cores=2,
        occi__compute__memory=0.75,
        occi__credentials__ssh__publickey="ssh-ed25519 AAAA",
        occi__compute__userdata="ZGF0YQ==",
    )
    assert made.path == "/compute/my-own"
    assert made.attributes["occi.compute.hostname"] == "web-1"
    assert made.attributes["occi.core.title"] == "Web 1"
    assert made.attributes[schema.PUBLIC_KEY] == "ssh-ed25519 AAAA"
    assert schema.USERDATA not in made.attributes
    assert disk.attributes["occi.storage.size"] == 2
    first, second, third = made.links
    assert first.attributes[schema.TARGET] == net.path
    assert first.attributes["occi.networkinterface.address"] == "10.9.0.1"
    assert second.attributes["occi.networkinterface.address"] == "10.1.0.2"
    assert second.attributes["occi.networkinterface.gateway"] == "10.1.0.1"
    assert second.attributes["occi.networkinterface.interface"] == "eth1"
    assert third.attributes[schema.TARGET] == disk.path
    assert bridge.row(made).uid != "my-own"


def test_what_is_sent_is_shown_or_refused(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS, occi__compute__memory=3.6)
    assert bridge.row(made).memory == 3686
    assert made.attributes[schema.MEMORY] == 3.6
    put(bridge, made, desired="inactive", lease="")
    changed = bridge.service.update(ANNAS, made.path, Changes({schema.MEMORY: 1.7}))
    assert (bridge.row(made).memory, changed.attributes[schema.MEMORY]) == (1741, 1.7)
    put(bridge, made, memory=512)  # as by another way
    assert bridge.service.entity(ANNAS, made.path).attributes[schema.MEMORY] == 0.5
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1.5)
    assert disk.attributes["occi.storage.size"] == 2  # what is there
    again = Changes({"occi.storage.size": 1.5})
    assert bridge.service.update(ANNAS, disk.path, again) == disk


@pytest.mark.parametrize("media", [PLAIN, OCCI, JSON])
def test_every_rendering_can_be_sent_back(bridge: LocalBridge, media: str) -> None:
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2, occi__core__title="a disk")
    net = bridge.create(ANNAS, schema.NETWORK, occi__network__address="10.9.0.0/24")
    made = bridge.create(
        ANNAS,
        links=[link_to(net.path), link_to(disk.path, schema.STORAGELINK)],
        mixins=[schema.SSH_KEY],
        occi__core__summary='"a"; b, c',
        occi__compute__memory=3.6,
        occi__compute__hostname="web",
        occi__credentials__ssh__publickey=KEY,
    )
    put(bridge, made, desired="inactive", lease="", node="hv1", state="stopped", ran=True)
    bridge.heard()
    model = bridge.service.model(ANNAS)
    for entity in (bridge.service.entity(ANNAS, made.path), *made.links, disk, net):
        before = bridge.service.entity(ANNAS, entity.path)
        answer = render.entity(media, before, model)
        body = parse.request(answer.headers, answer.body)
        changes = validate_changes.update(model, body, before)
        assert changes == Changes(), entity.path
        bridge.service.replace(ANNAS, entity.path, validate_changes.replace(model, body, before))
        assert bridge.service.entity(ANNAS, entity.path) == before


@pytest.mark.parametrize(
    ("row", "times"),
    [
        ({"lease": "x", "lease_state": "pending"}, {}),
        (
            {"lease": "x", "lease_state": "pending", "expected": 1e9},
            {schema.LEASE_EXPECTED: "2001-09-09T01:46:40Z"},
        ),
        (
            {"lease": "x", "lease_state": "running", "began": 1e9, "walltime": 3600},
            {schema.LEASE_END: "2001-09-09T02:46:40Z"},
        ),
        (  # a lease without end
            {"lease": "x", "lease_state": "running", "began": 1e12, "walltime": 2**31 - 1},
            {schema.LEASE_END: "9999-12-31T23:59:59Z"},
        ),
        ({"lease": "", "began": 1e9, "state": "stopped", "desired": "inactive"}, {}),
    ],
)
def test_when_a_lease_begins_and_ends_is_shown_and_can_be_sent_back(
    bridge: LocalBridge, row: dict[str, object], times: dict[str, str]
) -> None:
    made = bridge.create(ANNAS)
    put(bridge, made, **row)
    found = bridge.service.entity(ANNAS, made.path)
    shown = {k: v for k, v in found.attributes.items() if k.startswith("wnodes.lease.")}
    assert (shown, schema.LEASE in found.mixins) == (times, bool(times))
    model = bridge.service.model(ANNAS)
    for media in (PLAIN, OCCI, JSON):
        answer = render.entity(media, found, model)
        body = parse.request(answer.headers, answer.body)
        assert validate_changes.update(model, body, found) == Changes()


def test_what_is_inactive_can_be_changed_or_says_why_not(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    leased = {"lease": "a-lease", "job": "7", "node": "hv1", "ran": True}
    put(bridge, made, desired="inactive", state="stopped", **leased)  # its lease job ends
    changed = bridge.service.update(ANNAS, made.path, Changes({schema.CORES: 2}))
    assert (changed.attributes[STATE], changed.attributes[schema.CORES]) == ("inactive", 2)
    put(bridge, made, desired="inactive", state="", lease="a-lease", job="7")  # it never ran
    shown = bridge.service.entity(ANNAS, made.path).attributes
    assert (shown[STATE], shown[MESSAGE]) == ("inactive", "giving its lease back")
    with refused(409, "its lease is still being given back: try again"):
        bridge.service.update(ANNAS, made.path, Changes({schema.CORES: 3}))
    put(bridge, made, desired="active", state="running", **leased)
    with refused(409, "only be changed while it is stopped"):
        bridge.service.update(ANNAS, made.path, Changes({schema.CORES: 3}))


# ids are each user's own


def test_an_id_of_somebody_else_is_free(bridge: LocalBridge) -> None:
    mine = bridge.create(ANNAS, occi__core__id="web", occi__core__title="Anna's")
    theirs = bridge.create(BOBS, occi__core__id="web", occi__core__title="Bob's")
    assert mine.path == theirs.path == "/compute/web"
    for user, entity in ((ANNAS, mine), (BOBS, theirs)):
        assert bridge.service.entity(user, "/compute/web") == entity
        with refused(409, "occi.core.id: web is taken"):
            bridge.create(user, schema.NETWORK, occi__core__id="web")
    bridge.service.delete(BOBS, "/compute/web")
    assert bridge.service.entity(ANNAS, "/compute/web") == mine
    with refused(404, "/compute/web"):
        bridge.service.entity(BOBS, "/compute/web")
    bridge.create(BOBS, occi__core__id="web")


def test_an_id_that_a_group_sees_is_taken_for_all_of_it(bridge: LocalBridge) -> None:
    anna, bob = (person(name, "/testvo", share=True) for name in (ANNA, BOB))
    before = bridge.create(BOBS, occi__core__id="web")  # nobody but Bob sees this one
    shared = bridge.create(anna, occi__core__id="web", occi__core__title="the group's")
    assert bridge.service.entity(anna, "/compute/web") == shared
    assert bridge.service.entity(bob, "/compute/web") == before  # one's own comes first
    bridge.create(anna, occi__core__id="db")
    with refused(409, "db is taken"):
        bridge.create(bob, occi__core__id="db")


def test_all_of_a_kind_or_none(bridge: LocalBridge) -> None:
    free, used = (bridge.create(ANNAS, schema.NETWORK) for _ in range(2))
    made = bridge.create(ANNAS, links=[link_to(used.path)])
    paths = [free.path, used.path]
    with refused(409, f"{used.path}: {used.path} has VMs on it", "nothing was changed"):
        bridge.service.delete_all(ANNAS, paths)
    with refused(403, "/network/public: network public is the site's"):
        bridge.service.delete_all(ANNAS, [free.path, "/network/public"])
    with refused(409, used.path, "nothing was changed"):
        bridge.service.act_all(ANNAS, paths, DOWN, {})
    assert bridge.service.entity(ANNAS, free.path) == free
    assert "/network/public" in bridge.service.fixed(ANNAS)
    bridge.service.delete(ANNAS, made.path)
    bridge.service.act_all(ANNAS, paths, DOWN, {})
    assert bridge.service.entity(ANNAS, used.path).attributes["occi.network.state"] == "inactive"
    bridge.service.delete_all(ANNAS, [*paths, free.path])  # what is gone already is no fault
    assert set(bridge.service.locations(ANNAS, schema.NETWORK)) <= bridge.service.fixed(ANNAS)


def test_what_cant_be_made(bridge: LocalBridge) -> None:
    bridge.create(ANNAS, occi__core__id="taken")
    with refused(409, "occi.core.id", "taken"):
        bridge.create(ANNAS, occi__core__id="taken")
    with refused(409, "occi.core.id"):
        bridge.create(ANNAS, schema.NETWORK, occi__core__id="public")
    with refused(409, "occi.core.id", "taken"):
        bridge.create(ANNAS, links=[link_to("/network/public", occi__core__id="taken")])
    with refused(400, "occi.core.target: there is nothing at /network/none"):
        bridge.create(ANNAS, links=[link_to("/network/none")])
    with refused(400, "occi.compute.memory", "2 GiB"):
        big = OS_TPL.replace("small", "big")
        bridge.make(ANNAS, New(schema.COMPUTE, (big,), {schema.MEMORY: 1}))
    for address in ("10.0.0.0/31", "10.0.0.0/4", "1.2.3", "300.0.0.0/24"):
        with refused(400, "occi.network.address"):
            bridge.create(ANNAS, schema.NETWORK, occi__network__address=address)
    with refused(400, "occi.network.gateway"):
        bridge.create(
            ANNAS,
            schema.NETWORK,
            occi__network__address="10.0.0.0/24",
            occi__network__gateway="10.0.1.1",
        )
    assert len(bridge.service.locations(ANNAS, schema.COMPUTE)) == 1
    assert bridge.service.locations(ANNAS, schema.NETWORK) == [
        "/network/public",
        "/network/private",
    ]


def test_cards_with_an_address_of_ones_own(bridge: LocalBridge) -> None:
    name = "occi.networkinterface.address"

    def card(target: str, address: str) -> Entity:
        return bridge.create(ANNAS, links=[link_to(target, **{name: address})]).links[0]

    assert card("/network/private", "10.1.0.5").attributes[name] == "10.1.0.5"
    for wrong in ("10.1.0.5", "10.1.0.1", "10.1.0.0", "10.1.0.7", "10.2.0.1"):
        with refused(409, wrong):
            card("/network/private", wrong)
    with refused(409, "by itself"):
        card("/network/public", "10.1.0.6")


SIX = """
[[bridge.network]]
name = "six"
kind = "isolated"
subnet6 = "fd12:0:0:5::/64"
[[bridge.network]]
name = "dual"
kind = "bridge"
subnet = "10.3.0.0/24"
subnet6 = "2001:db8:3::/64"
"""
V4, V6 = schema.ADDRESS, schema.ADDRESS6


def test_the_ipv6_address_of_a_card_is_shown(
    url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    """Beside the IPv4 address, which OCCI's own attribute has; in that, where there is no other."""
    bridge = make_bridge(url, more=SIX)
    bridge.heard()
    own = bridge.create(
        ANNAS,
        schema.NETWORK,
        mixins=[schema.IPNETWORK, schema.IPV6NETWORK],
        occi__network__address="10.9.0.0/24",
        wnodes__network__address6="FD12:3456:789a:1::7/64",
    )
    assert own.attributes[schema.NETWORK_ADDRESS6] == "fd12:3456:789a:1::/64"
    assert own.attributes[schema.NETWORK_ADDRESS] == "10.9.0.0/24"
    assert own.mixins == (schema.IPNETWORK, schema.IPV6NETWORK)
    only = bridge.create(ANNAS, schema.NETWORK, occi__network__address="fd99::/64")
    for name in (schema.NETWORK_ADDRESS, schema.NETWORK_ADDRESS6):
        assert only.attributes[name] == "fd99::/64"
    assert only.mixins == (schema.IPNETWORK, schema.IPV6NETWORK)
    assert only.attributes["occi.network.allocation"] == "static"
    dual = bridge.service.entity(ANNAS, "/network/dual")
    assert dual.attributes[schema.NETWORK_ADDRESS6] == "2001:db8:3::/64"
    assert schema.IPV6NETWORK in dual.mixins
    paths = (own.path, only.path, "/network/six", "/network/dual", "/network/private")
    made = bridge.create(ANNAS, links=[link_to(path) for path in paths])
    ranges = ("fd12:3456:789a:1::/64", "fd99::/64", "fd12:0:0:5::/64", "2001:db8:3::/64")
    for link, path, subnet in zip(made.links, paths, ranges, strict=False):
        assert bridge.service.entity(ANNAS, link.path) == link
        mac = str(link.attributes["occi.networkinterface.mac"])
        six = str(address6_of(mac, subnet))
        assert link.attributes[V6] == six
        assert (link.attributes[V4] == six) is (path in (only.path, "/network/six"))
        assert link.attributes["occi.networkinterface.allocation"] == "static"
        mixins = {schema.IPNETWORKINTERFACE, schema.IPV6NETWORKINTERFACE, schema.THROUGHPUT}
        assert set(link.mixins) == mixins
    assert V6 not in made.links[4].attributes
    # A rendering can be sent back.
    model = bridge.service.model(ANNAS)
    for media in (JSON, PLAIN, OCCI):
        for entity in (own, only, made.links[0], made.links[1]):
            answer = render.entity(media, entity, model)
            body = parse.request(answer.headers, answer.body)
            new = validate_changes.replace(model, body, entity)
            assert bridge.service.replace(ANNAS, entity.path, new) == entity


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({schema.NETWORK_ADDRESS: "fd12::/48"}, "fd12::/48: a /64 is needed"),
        ({schema.NETWORK_ADDRESS6: "fe80::/64"}, "hosts have addresses of 2000::/3 and fc00::/7"),
        ({schema.NETWORK_ADDRESS6: "fd12::1"}, "a /64 is needed"),
        ({schema.NETWORK_ADDRESS6: "fd12:::/64"}, "does not appear to be an IPv4 or IPv6 network"),
        (
            {schema.NETWORK_ADDRESS: "fd12::/64", schema.NETWORK_ADDRESS6: "fd13::/64"},
            "fd13::/64, but fd12::/64 is asked for already",
        ),
        (
            {schema.NETWORK_ADDRESS: "fd12::/64", "occi.network.gateway": "10.0.0.1"},
            "10.0.0.1 is not in the network's address range",
        ),
    ],
)
def test_ipv6_that_a_network_can_not_have(
    bridge: LocalBridge, asked: dict[str, Value], why: str
) -> None:
    with refused(400, *asked if len(asked) == 1 else (), why):
        bridge.make(ANNAS, New(schema.NETWORK, (), asked))
    with refused(400, f"{V4}: a card's IPv6 address follows from its MAC; leave it out"):
        bridge.create(ANNAS, links=[link_to("/network/private", **{V4: "fd12::7"})])


def test_an_address_of_the_sites_goes_back_once_and_rests(bridge: LocalBridge) -> None:
    """Five addresses: when all have been given, the first that was given back is not free at once,
    and another that goes back later leaves it alone."""
    name = "occi.networkinterface.address"
    private = [link_to("/network/private")]

    def address(links: list[New]) -> str:
        return str(bridge.create(ANNAS, links=links).links[0].attributes[name])

    def forget(machine: Entity) -> None:
        persistence.forget(bridge.db, bridge.row(machine))

    def wait(seconds: float) -> None:
        earlier = {"at": tables.returned.c.at - seconds}
        bridge.db.write(lambda link: link.execute(sa.update(tables.returned).values(earlier)))

    first, *others = [bridge.create(ANNAS, links=private) for _ in range(5)]
    with refused(409, "all addresses of 10.1.0.0/29 are taken"):
        address(private)
    gone = bridge.row(first)
    forget(first)
    with refused(409, "are taken, or another VM's until a moment ago: try again in 60 seconds"):
        address(private)
    with refused(409, f"{name}: 10.1.0.2 was another VM's until a moment ago"):
        address([link_to("/network/private", **{name: "10.1.0.2"})])
    wait(QUARANTINE)
    assert address(private) == "10.1.0.2"
    persistence.forget(bridge.db, gone)  # by a driver that has not seen that it is done
    with refused(409, "10.1.0.2 is taken, or not one of 10.1.0.0/29"):
        address([link_to("/network/private", **{name: "10.1.0.2"})])
    for machine in others:
        forget(machine)
    wait(QUARANTINE)
    assert [address(private) for _ in range(4)] == [f"10.1.0.{last}" for last in range(3, 7)]


def test_an_address_rests_also_where_a_bridges_clock_is_ahead(
    bridge: LocalBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two bridges one gives back, the other gives out: they go by the database's clock."""
    first = bridge.create(ANNAS, links=[link_to("/network/private")])
    ahead = SimpleNamespace(time=lambda: time.time() + 90)
    monkeypatch.setattr(persistence, "time", ahead, raising=False)
    persistence.forget(bridge.db, bridge.row(first))
    with refused(409, "10.1.0.2 was another VM's until a moment ago"):
        asked = {"occi.networkinterface.address": "10.1.0.2"}
        bridge.create(ANNAS, links=[link_to("/network/private", **asked)])


REGISTERED = """
[[bridge.network]]
name = "lan"
kind = "bridge"
subnet = "10.4.0.0/24"
subnet6 = "2001:db8:4::/64"
[[bridge.network.host]]
name = "vm-a.example.org"
mac = "52:54:00:61:62:63"
address = "10.4.0.20"
[[bridge.network.host]]
name = "vm-b.example.org"
mac = "52:54:00:00:00:02"
address = "10.4.0.10"
"""


def test_a_card_has_what_the_site_has_registered_for_its_address(
    url: str, make_bridge: Callable[..., LocalBridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = make_bridge(url, more=REGISTERED)
    bridge.heard()
    lan = [link_to("/network/lan")]

    def about(link: Entity) -> tuple[object, ...]:
        names = (schema.HOSTNAME, "occi.networkinterface.mac", V4)
        return tuple(link.attributes.get(name) for name in names)

    first = bridge.create(ANNAS, links=lan)
    assert about(first.links[0]) == ("vm-a.example.org", "52:54:00:61:62:63", "10.4.0.20")
    assert schema.REGISTERED in first.links[0].mixins
    assert first.links[0].attributes[V6] == str(address6_of("52:54:00:61:62:63", "2001:db8:4::/64"))
    assert first.attributes["occi.compute.hostname"] == "vm-a"
    assert bridge.service.entity(ANNAS, first.path) == first
    second = bridge.create(ANNAS, links=lan, occi__compute__hostname="mine")
    assert about(second.links[0]) == ("vm-b.example.org", "52:54:00:00:00:02", "10.4.0.10")
    assert second.attributes["occi.compute.hostname"] == "mine"
    with refused(409, "network lan: all 2 addresses of 10.4.0.0/24 are taken"):
        bridge.create(ANNAS, links=lan)
    with refused(409, f"{V4}: 10.4.0.30 is taken, or not one of 10.4.0.0/24"):
        bridge.create(ANNAS, links=[link_to("/network/lan", **{V4: "10.4.0.30"})])
    persistence.forget(bridge.db, bridge.row(first))
    with refused(409, "are taken, or another VM's until a moment ago"):
        bridge.create(ANNAS, links=lan)
    # What goes with an address is drawn for no other card.
    drawn = iter((b"abc", b"xyz"))
    monkeypatch.setattr("secrets.token_bytes", lambda _size: next(drawn))
    [plain] = bridge.create(ANNAS, links=[link_to("/network/private")]).links
    assert about(plain) == (None, "52:54:00:78:79:7a", "10.1.0.2")
    assert schema.REGISTERED not in plain.mixins


def test_an_address_whose_mac_an_older_card_has_is_not_given(
    url: str, make_bridge: Callable[..., LocalBridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make_bridge(url)
    before.heard()
    monkeypatch.setattr("secrets.token_bytes", lambda _size: b"abc")
    before.create(ANNAS, links=[link_to("/network/private")])
    bridge = make_bridge(url, more=REGISTERED)
    [link] = bridge.create(ANNAS, links=[link_to("/network/lan")]).links
    assert link.attributes[schema.HOSTNAME] == "vm-b.example.org"
    with refused(409, "all 2 addresses of 10.4.0.0/24 are taken"):
        bridge.create(ANNAS, links=[link_to("/network/lan")])


def test_an_address_in_a_network_of_ones_own_is_free_at_once(bridge: LocalBridge) -> None:
    name = "occi.networkinterface.address"
    net = bridge.create(ANNAS, schema.NETWORK, occi__network__address="10.9.0.0/30")
    links = [link_to(net.path, **{name: "10.9.0.2"})]
    persistence.forget(bridge.db, bridge.row(bridge.create(ANNAS, links=links)))
    assert bridge.create(ANNAS, links=links).links[0].attributes[name] == "10.9.0.2"


def test_what_is_shown_is_what_is(bridge: LocalBridge) -> None:
    """Of what a client names, what can't be given is refused, and nothing is only repeated."""
    architecture, name = schema.ARCHITECTURE, "occi.networkinterface.interface"
    made = bridge.create(ANNAS, occi__compute__architecture="x64")
    assert made.attributes[architecture] == "x64"
    with refused(400, architecture, "small_linux_x86_64 is x64"):
        bridge.create(ANNAS, occi__compute__architecture="x86")
    with refused(409, "no image that you may use fits"):
        bridge.make(ANNAS, New(schema.COMPUTE, (), {architecture: "x86"}))
    with refused(400, name, "this one is eth0"):
        bridge.create(ANNAS, links=[link_to("/network/private", **{name: "eth7"})])
    refusals = (
        ("/network/private", "allocation", "dynamic", "static in network private"),
        ("/network/private", "gateway", "10.1.0.3", "10.1.0.1 in network private"),
        ("/network/public", "allocation", "static", "dynamic in network public"),
        ("/network/public", "gateway", "10.1.0.1", "none in network public"),
    )
    for target, key, asked, said in refusals:
        with refused(400, key, said):
            bridge.create(ANNAS, links=[link_to(target, **{f"occi.networkinterface.{key}": asked})])
    good = {"allocation": "static", "gateway": "10.1.0.1"}
    own = {f"occi.networkinterface.{key}": value for key, value in good.items()}
    [card] = bridge.create(ANNAS, links=[link_to("/network/private", **own)]).links
    assert own.items() <= card.attributes.items()
    for asked in ("dynamic", "static"):  # and there is no address
        with refused(400, "occi.network.allocation"):
            bridge.create(ANNAS, schema.NETWORK, occi__network__allocation=asked)
    two = [link_to("/network/private", **{name: "eth0"}), link_to("/network/public")]
    links = bridge.create(ANNAS, links=two).links
    assert [link.attributes[name] for link in links] == ["eth0", "eth1"]
    volume = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)
    device = "occi.storagelink.deviceid"
    [_card, link] = bridge.create(
        ANNAS, links=[link_to(volume.path, schema.STORAGELINK, **{device: "/dev/blk0"})]
    ).links
    assert device not in link.attributes  # the node tells, once it is there


def test_one_card_on_the_nodes_own_network(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    with refused(409, "/network/public already"):
        bridge.service.update(ANNAS, made.path, Changes(links=(link_to("/network/public"),)))
    bridge.service.delete(ANNAS, made.links[0].path)
    bridge.service.update(ANNAS, made.path, Changes(links=(link_to("/network/public"),)))


def test_a_network_runs_out_of_addresses(bridge: LocalBridge) -> None:
    for _ in range(5):
        bridge.create(ANNAS, links=[link_to("/network/private")])
    with refused(409, "all addresses of 10.1.0.0/29 are taken"):
        bridge.create(ANNAS, links=[link_to("/network/private")])
    bridge.service.delete(ANNAS, bridge.service.locations(ANNAS, schema.COMPUTE)[0])
    with refused(409, "taken"):  # it is given out again when its VM is really gone
        bridge.create(ANNAS, links=[link_to("/network/private")])


# Quota.


def test_quota_is_said(bridge: LocalBridge) -> None:
    poor = person(machines=2, cores=3, memory=2048, storage=2)
    bridge.create(poor, occi__compute__cores=2)
    with refused(403, "quota of cores: 2 used, 2 asked, 3 allowed"):
        bridge.create(poor, occi__compute__cores=2)
    with refused(403, "quota of memory: 512 MiB used, 1843 asked, 2048 allowed"):
        bridge.create(poor, occi__compute__memory=1.8)
    second = bridge.create(poor)
    with refused(403, "quota of machines"):
        bridge.create(poor)
    bridge.service.delete(poor, second.path)
    bridge.create(poor)
    bridge.create(poor, schema.STORAGE, occi__storage__size=2)
    with refused(403, "quota of storage"):
        bridge.create(poor, schema.STORAGE, occi__storage__size=1)
    assert bridge.service.used(poor) == Amount(2, 3, 1024, 2)
    bridge.create(person(BOB, machines=1))


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


def test_two_bridges_at_once_never_give_an_address_twice(
    url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    bridges = [make_bridge(url), make_bridge(url)]
    bridges[0].heard()
    go = threading.Barrier(5)

    def one(number: int) -> str:
        go.wait()
        user = person(f"/CN={number}")  # each is alone with their quota
        made = bridges[number % 2].create(user, links=[link_to("/network/private")])
        return str(made.links[0].attributes["occi.networkinterface.address"])

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(one, range(5))) == [f"10.1.0.{last}" for last in range(2, 7)]


# Seeing.


def test_each_sees_his_own(bridge: LocalBridge) -> None:
    mine = bridge.create(ANNAS)
    bridge.create(BOBS)
    assert bridge.service.locations(ANNAS, schema.COMPUTE) == [mine.path]
    assert [entity.path for entity in bridge.service.entities(ANNAS, schema.COMPUTE)] == [mine.path]
    for do in (
        lambda: bridge.service.entity(BOBS, mine.path),
        lambda: bridge.service.delete(BOBS, mine.path),
        lambda: bridge.service.act(BOBS, mine.path, STOP, {}),
        lambda: bridge.service.update(BOBS, mine.path, Changes({"occi.core.title": "x"})),
        lambda: bridge.service.entity(BOBS, mine.links[0].path),
    ):
        with refused(404):
            do()
    with refused(400, f"occi.core.source: there is nothing at {mine.path}"):
        bridge.create(BOBS, schema.STORAGELINK, occi__core__source=mine.path)
    assert bridge.service.entity(ANNAS, mine.path) == mine


def test_a_group_shares_where_the_policy_says_so(bridge: LocalBridge) -> None:
    anna = person(ANNA, "/vo/team", share=True)
    bob = person(BOB, "/vo/team", share=True)
    made = bridge.create(anna)
    assert bridge.service.entity(bob, made.path) == made
    bridge.service.act(bob, made.path, STOP, {"method": "graceful"})
    assert bridge.row(made).desired == "inactive"
    alone = bridge.create(person(BOB, "/vo/team"))
    for other in (
        person("/CN=Carl", "/vo/other", share=True),
        person("/CN=Carl", "/vo/team"),
        person("/CN=Carl", "", share=True),
    ):
        assert bridge.service.locations(other, schema.COMPUTE) == []
    assert bridge.service.locations(anna, schema.COMPUTE) == [made.path]
    assert bridge.service.locations(bob, schema.COMPUTE) == [made.path, alone.path]
    assert bridge.service.used(bob).machines == 1


def test_order_and_categories(bridge: LocalBridge) -> None:
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)
    first = bridge.create(ANNAS, links=[link_to(disk.path, schema.STORAGELINK)])
    net = bridge.create(ANNAS, schema.NETWORK)
    second = bridge.create(ANNAS, mixins=())
    service = bridge.service
    machines = [first.path, second.path]
    assert service.locations(ANNAS, schema.COMPUTE) == machines
    assert service.locations(ANNAS, OS_TPL) == machines
    sites = ["/network/public", "/network/private"]
    cards = [first.links[0].path, second.links[0].path]
    assert service.locations(ANNAS, schema.NETWORKINTERFACE) == cards
    assert service.locations(ANNAS, schema.STORAGELINK) == [first.links[1].path]
    assert service.locations(ANNAS, None)[0] == disk.path
    assert service.locations(ANNAS, None)[-2:] == sites
    for category in (None, OS_TPL, *(kind.id for kind in service.model(ANNAS).kinds.values())):
        kind = service.model(ANNAS).kinds.get(category or "")
        if kind and kind.abstract:
            continue
        found = [entity.path for entity in service.entities(ANNAS, category)]
        assert found == list(service.locations(ANNAS, category))
    assert service.entity(ANNAS, net.path) == net
    narrow = person(networks=("private",))
    assert service.locations(narrow, schema.NETWORK) == [net.path, "/network/private"]
    with refused(404):
        service.entity(narrow, "/network/public")


def test_the_model_is_the_users(bridge: LocalBridge) -> None:
    narrow = person(images=("big_linux_x86_64",))
    templates = [
        mixin.value for mixin in bridge.service.model(narrow).mixins.values() if mixin.value
    ]
    assert templates == ["big_linux_x86_64", "small"]
    assert OS_TPL in bridge.service.model(ANNAS).mixins


def test_states_and_messages(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)

    def seen(**values: object) -> tuple[object, object]:
        put(bridge, made, **values)
        entity = bridge.service.entity(ANNAS, made.path)
        return entity.attributes[STATE], entity.attributes.get(MESSAGE)

    assert seen(lease="x", lease_state="pending", reason="Priority") == (
        "inactive", "waiting for the batch system: Priority",
    )  # fmt: skip
    assert seen(lease_state="running", node="hv1") == ("inactive", "its lease has begun on hv1")
    assert seen(state="building") == ("inactive", "being made on hv1")
    assert seen(state="running", reason="", ran=True) == ("active", None)
    assert seen(desired="inactive") == ("active", "shutting down")
    assert seen(state="stopped", lease="", reason="walltime") == ("inactive", "walltime")
    assert seen(state="suspended", desired="suspended", reason="") == ("suspended", None)
    assert seen(state="failed", desired="inactive", fault=True, reason="full") == ("error", "full")


def test_how_fresh_a_state_is(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    put(bridge, made, state="running", node="hv1", lease="x")
    assert schema.OBSERVED_TIME in bridge.service.entity(ANNAS, made.path).attributes
    before = time.time()
    bridge.heard(ago=20.0)
    moments = {time.gmtime(when - 20) for when in (before, time.time())}
    entity = bridge.service.entity(ANNAS, made.path)
    assert entity.attributes[STATE] == "active"
    whens = tuple(time.strftime("as of %Y-%m-%dT%H:%M", moment) for moment in moments)
    assert str(entity.attributes[MESSAGE]).startswith(whens)
    assert str(entity.attributes[MESSAGE]).endswith("hv1 has not answered since")


# Changing.


def test_attributes_and_mixins(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS, occi__core__title="one", occi__core__summary="first")
    bridge.service.add_mixin(ANNAS, Definition("web", MINE.rpartition("web")[0], location="/web/"))
    changed = bridge.service.update(
        ANNAS, made.path, Changes({"occi.core.title": "two", "occi.core.summary": ""}, (MINE,))
    )
    assert changed.attributes["occi.core.title"] == "two"
    assert "occi.core.summary" not in changed.attributes
    assert changed.mixins == (OS_TPL, MINE)
    put_back = bridge.service.replace(
        ANNAS,
        made.path,
        New(schema.COMPUTE, (OS_TPL,), {"occi.core.summary": "three", schema.CORES: 1}),
    )
    assert put_back.attributes["occi.core.summary"] == "three"
    assert "occi.core.title" not in put_back.attributes
    assert put_back.mixins == (OS_TPL,)
    assert put_back.links == made.links


def test_a_size_changes_only_while_stopped(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    bigger = Changes({schema.CORES: 2, schema.MEMORY: 1.0})
    with refused(409, "stopped"):
        bridge.service.update(ANNAS, made.path, bigger)
    put(bridge, made, desired="inactive", state="stopped")
    changed = bridge.service.update(ANNAS, made.path, bigger)
    assert (changed.attributes[schema.CORES], changed.attributes[schema.MEMORY]) == (2, 1.0)
    with refused(403, "quota of cores: 2 used, 99 asked"):
        bridge.service.update(ANNAS, made.path, Changes({schema.CORES: 101}))


def test_volumes_that_are_on_two_nodes_are_never_in_one_vm(bridge: LocalBridge) -> None:
    disks = [bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1) for _ in range(3)]
    vms = [bridge.create(ANNAS) for _ in range(2)]
    links = [New(schema.STORAGELINK, (), {schema.TARGET: disk.path}) for disk in disks]

    def put(row: Row, **values: object) -> None:
        bridge.db.write(lambda db: persistence.set_columns(db, row, values))

    for row, node in zip(read_all(bridge.db)["storages"], ("hv1", "hv2", ""), strict=True):
        put(row, made=bool(node), node=node)
    put(bridge.row(vms[0]), node="hv1", ran=True, state="stopped", desired="inactive")

    def link(vm: int, disk: int) -> None:
        bridge.service.update(ANNAS, vms[vm].path, Changes(links=(links[disk],)))

    with refused(409, f"the VM is on hv1, {disks[1].path} on hv2 alone"):
        link(0, 1)
    link(0, 0)
    link(1, 2)  # nobody knows yet where that will be
    link(1, 1)
    bridge.service.delete(ANNAS, disk_link(bridge, vms[0], disks[0]))
    with refused(409, f"{disks[1].path} is on hv2 alone, {disks[0].path} on hv1"):
        link(1, 0)


def disk_link(bridge: LocalBridge, vm: Entity, disk: Entity) -> str:
    """The path of a VM's link to a volume."""
    links = bridge.service.entity(ANNAS, vm.path).links
    return next(each.path for each in links if each.attributes[schema.TARGET] == disk.path)


def test_a_volume_grows_within_the_quota_and_never_shrinks(bridge: LocalBridge) -> None:
    name, said = "occi.storage.size", "occi.storage.state.message"
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
    [row] = read_all(bridge.db)["storages"]
    bridge.db.write(lambda link: persistence.set_columns(link, row, {"made": True, "has": 2}))
    with refused(400, f"{name}: it has 2 GiB, and a volume never shrinks"):
        bridge.service.update(ANNAS, disk.path, Changes({name: 1}))
    with refused(403, "quota of storage: 2 GiB used, 999 asked"):
        bridge.service.update(ANNAS, disk.path, Changes({name: 1001}))
    assert bridge.service.entity(ANNAS, disk.path).attributes[name] == 2
    grown = bridge.service.update(ANNAS, disk.path, Changes({name: 2.5}))
    assert (grown.attributes[name], grown.attributes[said]) == (3, "being grown from 2 GiB")
    assert bridge.service.used(ANNAS).storage == 3


def test_a_volume_is_copied_into_one_of_its_own(bridge: LocalBridge) -> None:
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2, occi__core__title="data")

    def act(verb: str, **values: Value) -> Entity:
        return bridge.service.act(ANNAS, disk.path, f"{schema.INFRA}/storage/action#{verb}", values)

    with refused(409, "just being made"):
        act("snapshot")
    [row] = read_all(bridge.db)["storages"]
    bridge.db.write(lambda link: persistence.set_columns(link, row, {"made": True, "has": 2}))
    names = [name.rpartition("#")[2] for name in bridge.service.entity(ANNAS, disk.path).actions]
    assert names == ["offline", "resize", "snapshot", "backup"]
    made = act("snapshot")
    assert made.path != disk.path
    assert made.attributes["occi.core.title"] == "copy of data"
    assert made.attributes["occi.storage.size"] == 2
    assert made.attributes["occi.storage.state"] == "offline"
    said = f"being made as a copy of {disk.path}"
    assert made.attributes["occi.storage.state.message"] == said
    assert made.attributes[schema.COPY_SOURCE] == disk.path
    assert schema.COPY in made.mixins
    assert bridge.service.used(ANNAS).storage == 4
    for refuse in (lambda: bridge.service.delete(ANNAS, disk.path), lambda: act("resize", size=3)):
        with refused(409, "is being made as a copy of it: try again later"):
            refuse()
    with refused(403, "quota of storage: 4 GiB used"):
        act("resize", size=10**6)
    named = act("backup", name="Monday")
    assert named.attributes["occi.core.title"] == "Monday"
    for copy in (made, named):
        bridge.service.delete(ANNAS, copy.path)
    act("resize", size=2.5)
    assert bridge.service.entity(ANNAS, disk.path).attributes["occi.storage.size"] == 3
    with refused(400, "a volume never shrinks"):
        act("resize", size=1)
    with refused(400, "size: the action resize needs it"):
        act("resize")
    with refused(409, "or grown"):
        act("snapshot")


@pytest.mark.parametrize("change", ["grow", "delete"])
def test_somebody_elses_copy_that_waits_or_has_failed_holds_nothing(
    bridge: LocalBridge, change: str
) -> None:
    """Who copies much would keep others from their own volumes for as long as they like."""
    anna, bob = (person(dn, "atlas", share=True) for dn in (ANNA, BOB))
    disk = bridge.create(anna, schema.STORAGE, occi__storage__size=2)
    [row] = read_all(bridge.db)["storages"]
    bridge.db.write(lambda link: persistence.set_columns(link, row, {"made": True, "has": 2}))

    def act() -> None:
        if change == "grow":
            bridge.service.update(anna, disk.path, Changes({"occi.storage.size": 3}))
        else:
            bridge.service.delete(anna, disk.path)

    for whose in (bob, anna):
        snapshot = f"{schema.INFRA}/storage/action#snapshot"
        made = bridge.service.act(whose, disk.path, snapshot, {})
        [copy] = [each for each in read_all(bridge.db)["storages"] if each.id == made.id]
        for values, holds in (
            ({"act": "copy v"}, True),
            ({"reason": "full"}, whose is anna),
            ({"act": "", "reason": ""}, whose is anna),
        ):
            bridge.db.write(functools.partial(persistence.set_columns, row=copy, values=values))
            if holds:
                with refused(409, "try again later, or delete that"):
                    act()
        if whose is anna:
            bridge.service.delete(anna, made.path)
    act()


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


def test_the_root_disk_is_as_large_as_the_size_says(bridge: LocalBridge) -> None:
    plain = bridge.create(ANNAS)
    assert schema.DISK_SIZE not in plain.attributes
    large = bridge.make(ANNAS, New(schema.COMPUTE, (), {schema.CORES: 1, schema.DISK_SIZE: 20}))
    assert large.attributes[schema.DISK_SIZE] == 20
    with refused(409, "stopped"):
        bridge.service.update(ANNAS, large.path, Changes({schema.DISK_SIZE: 30}))
    put(bridge, large, desired="inactive", state="stopped")
    for asked, has in ((30, 30), (10, 30)):  # a smaller size leaves it as it is
        changed = bridge.service.update(ANNAS, large.path, Changes({schema.DISK_SIZE: asked}))
        assert changed.attributes[schema.DISK_SIZE] == has


def test_a_volume_that_is_only_read_is_linked_to_many(bridge: LocalBridge) -> None:
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)
    reads = New(schema.STORAGELINK, (schema.READONLY,), {schema.TARGET: disk.path})
    writes = New(schema.STORAGELINK, (), {schema.TARGET: disk.path})
    pair = [bridge.create(ANNAS, links=[reads]) for _ in range(2)]
    for vm in pair:
        assert schema.READONLY in vm.links[-1].mixins
        with refused(409, "is linked to a VM already"):
            bridge.service.update(ANNAS, vm.path, Changes(links=(reads,)))
    with refused(409, "linked to a VM already; links of which all have the mixin readonly"):
        bridge.create(ANNAS, links=[writes])
    for vm in pair:
        bridge.service.delete(ANNAS, vm.links[-1].path)
    bridge.create(ANNAS, links=[writes])
    with refused(409, "linked to a VM already"):
        bridge.create(ANNAS, links=[reads])


def test_links_come_and_go(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)
    link = bridge.create(
        ANNAS, schema.STORAGELINK, occi__core__source=made.path, occi__core__target=disk.path
    )
    assert link.attributes[schema.SOURCE] == made.path
    assert link in bridge.service.entity(ANNAS, made.path).links
    other = bridge.create(ANNAS)
    with refused(409, "linked to a VM already"):
        bridge.create(
            ANNAS, schema.STORAGELINK, occi__core__source=other.path, occi__core__target=disk.path
        )
    with refused(409, "unlink it first"):
        bridge.service.delete(ANNAS, disk.path)
    with refused(409, "unlink it first"):
        bridge.service.act(ANNAS, disk.path, OFFLINE, {})
    bridge.service.delete(ANNAS, link.path)
    with refused(404):
        bridge.service.entity(ANNAS, link.path)
    assert bridge.service.entity(ANNAS, made.path).links == made.links
    bridge.service.delete(ANNAS, disk.path)
    with refused(404):
        bridge.service.entity(ANNAS, disk.path)


def test_links_of_a_machine_that_sleeps_stay(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    put(bridge, made, desired="suspended", state="suspended", node="hv1", ran=True)
    with refused(409, "hibernated"):
        bridge.service.update(ANNAS, made.path, Changes(links=(link_to("/network/private"),)))
    with refused(409, "suspended"):
        bridge.service.delete(ANNAS, made.links[0].path)


def test_networks_of_users(bridge: LocalBridge) -> None:
    net = bridge.create(ANNAS, schema.NETWORK)
    made = bridge.create(ANNAS, links=[link_to(net.path)])
    for do in (
        lambda: bridge.service.delete(ANNAS, net.path),
        lambda: bridge.service.act(ANNAS, net.path, DOWN, {}),
    ):
        with refused(409, "VMs on it"):
            do()
    with refused(403, "the site's"):
        bridge.service.act(ANNAS, "/network/public", DOWN, {})
    with refused(403, "the site's"):
        bridge.service.delete(ANNAS, "/network/public")
    bridge.service.delete(ANNAS, made.path)
    down = bridge.service.act(ANNAS, net.path, DOWN, {})
    assert down.attributes["occi.network.state"] == "inactive"
    with refused(409, "is down"):
        bridge.create(ANNAS, links=[link_to(net.path)])
    bridge.service.delete(ANNAS, net.path)


def test_machines_on_two_nodes_cant_share_a_network(bridge: LocalBridge) -> None:
    net = bridge.create(ANNAS, schema.NETWORK)
    first, second = bridge.create(ANNAS, links=[link_to(net.path)]), bridge.create(ANNAS)
    put(bridge, first, state="running", node="hv1", lease="x", ran=True)
    put(bridge, second, state="stopped", node="hv2", ran=True)
    with refused(409, "hv2", "hv1"):
        bridge.service.update(ANNAS, second.path, Changes(links=(link_to(net.path),)))


# Acting.


def test_actions_are_wishes(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    act = bridge.service.act
    for action in (RESTART, SUSPEND):
        with refused(409, "does not run"):
            act(ANNAS, made.path, action, {"method": "graceful"})
    with refused(409, "saved"):
        act(ANNAS, made.path, SAVE, {})
    put(bridge, made, state="running", node="hv1", lease="x", ran=True)

    def wanted() -> tuple[str, str, str]:
        row = bridge.row(made)
        return row.desired, row.method, row.restart

    act(ANNAS, made.path, START, {})
    assert bridge.row(made).wish == 0
    act(ANNAS, made.path, RESTART, {"method": "cold"})
    assert wanted() == ("active", "", "cold")
    act(ANNAS, made.path, SUSPEND, {"method": "hibernate"})
    assert wanted() == ("suspended", "hibernate", "")
    put(bridge, made, state="suspended", lease="")
    with refused(409, "hibernated"):
        act(ANNAS, made.path, STOP, {"method": "graceful"})
    act(ANNAS, made.path, START, {})
    assert wanted()[0] == "active"
    put(bridge, made, state="failed", desired="inactive", fault=True)
    assert act(ANNAS, made.path, START, {}).attributes[STATE] == "inactive"


def test_a_saved_image_is_its_owners(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    put(bridge, made, state="stopped", node="hv1", ran=True)
    bridge.service.act(ANNAS, made.path, SAVE, {"name": "My Web"})
    [image] = read_all(bridge.db)["saved"]
    assert image.tag.startswith("my-web-")
    assert image.tag.endswith("_saved_x86_64")
    assert (image.machine, image.node) == (bridge.row(made).uid, "hv1")

    def saved_of(user: object) -> list[str]:
        model = bridge.service.model(user)  # type: ignore[arg-type]
        return [mixin.id for mixin in model.mixins.values() if mixin.saved]

    assert saved_of(ANNAS) == []
    bridge.db.write(lambda link: persistence.set_columns(link, image, {"state": "ready"}))
    [template] = saved_of(ANNAS)
    assert saved_of(BOBS) == []
    with refused(403, "quota of saved images: 1 used, 1 asked, 1 allowed"):
        bridge.service.act(person(machines=1), made.path, SAVE, {"name": "another"})
    again = bridge.make(ANNAS, New(schema.COMPUTE, (template,)))
    row = bridge.row(again)
    assert (row.image, row.saved) == (image.tag, True)
    with refused(404):
        bridge.service.remove_mixin(BOBS, template)
    with refused(409, "VMs made from it"):
        bridge.service.remove_mixin(ANNAS, template)
    persistence.forget(bridge.db, row)
    bridge.service.remove_mixin(ANNAS, template)
    assert saved_of(ANNAS) == []
    assert [gone.state for gone in read_all(bridge.db)["saved"]] == ["gone"]


def test_a_deleted_machine_counts_until_images_of_it_are_written(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    put(bridge, made, state="running", node="hv1", ran=True)
    bridge.service.act(ANNAS, made.path, SAVE, {})
    bridge.service.delete(ANNAS, made.path)
    assert bridge.service.used(ANNAS).machines == 1
    [image] = read_all(bridge.db)["saved"]
    bridge.db.write(lambda link: persistence.set_columns(link, image, {"state": "ready"}))
    assert bridge.service.used(ANNAS).machines == 0


# Mixins of users.


def test_mixins_of_users(bridge: LocalBridge) -> None:
    definition = Definition("web", MINE.rpartition("web")[0], "Web", "/web/")
    bridge.service.add_mixin(ANNAS, definition)
    with refused(409):
        bridge.service.add_mixin(ANNAS, definition)
    bridge.service.add_mixin(BOBS, definition)
    assert bridge.service.model(ANNAS).mixins[MINE].user
    one, two = bridge.create(ANNAS), bridge.create(ANNAS)
    service = bridge.service
    service.tag(ANNAS, MINE, [one.path], "add")
    assert service.locations(ANNAS, MINE) == [one.path]
    service.tag(ANNAS, MINE, [two.path], "set")
    assert service.locations(ANNAS, MINE) == [two.path]
    with refused(404, "there is nothing at /compute/none"):
        service.tag(ANNAS, MINE, [one.path, "/compute/none"], "add")
    service.tag(ANNAS, MINE, [one.path, two.path], "add")
    service.tag(ANNAS, MINE, [two.path], "remove")
    assert service.locations(ANNAS, MINE) == [one.path]
    service.remove_mixin(ANNAS, MINE)
    assert MINE not in service.model(ANNAS).mixins
    assert service.entity(ANNAS, one.path).mixins == (OS_TPL,)
    with refused(404):
        service.remove_mixin(ANNAS, MINE)
    assert MINE in service.model(BOBS).mixins


# Deleting, and what stays.


def test_deleted_is_gone_at_once_and_its_name_free(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS, occi__core__id="web")
    bridge.service.delete(ANNAS, made.path)
    for path in (made.path, made.links[0].path):
        with refused(404):
            bridge.service.entity(ANNAS, path)
    assert bridge.service.locations(ANNAS, None) == ["/network/public", "/network/private"]
    [row] = read_all(bridge.db)["computes"]
    assert row.gone
    assert bridge.create(ANNAS, occi__core__id="web").path == "/compute/web"


# When things are away.


def test_changes_wait_for_some_bait_and_reading_does_not(bridge: LocalBridge) -> None:
    made = bridge.create(ANNAS)
    bridge.heard(ago=29.0)
    bridge.create(ANNAS)
    bridge.heard(ago=31.0)
    for do in (
        lambda: bridge.create(ANNAS),
        lambda: bridge.service.delete(ANNAS, made.path),
        lambda: bridge.service.act(ANNAS, made.path, STOP, {}),
    ):
        with pytest.raises(OcciError) as caught:
            do()
        assert (caught.value.status, caught.value.retry_after) == (503, 30)
    assert bridge.service.entity(ANNAS, made.path).path == made.path
    assert len(bridge.service.locations(ANNAS, schema.COMPUTE)) == 2
    bridge.create(ANNAS, schema.NETWORK)
    bridge.service.update(ANNAS, made.path, Changes({"occi.core.title": "x"}))


@pytest.mark.parametrize(
    ("ago", "silent", "taken"),
    [(0.0, False, True), (29.0, True, True), (31.0, False, True), (31.0, True, False)],
)
def test_one_bait_of_many_that_was_heard_is_enough(
    bridge: LocalBridge, ago: float, silent: bool, taken: bool
) -> None:
    bridge.heard(ago=31.0)
    other = heard.Heard("hv2", time.time() - ago)
    heard.told(bridge.db, "http://127.0.0.1:2", other, silent=silent)
    with contextlib.nullcontext() if taken else refused(503, "no node answers at present"):
        bridge.create(ANNAS)


def test_a_bridge_without_a_driver_for_long_takes_no_changes(bridge: LocalBridge) -> None:
    leader.lead(bridge.db, "nobody", -31.0)
    with refused(503):
        bridge.create(ANNAS)
    leader.expect(bridge.db)
    bridge.create(ANNAS)


def test_a_database_that_is_away_is_said(
    tmp_path: Path, make_bridge: Callable[..., LocalBridge], caplog: pytest.LogCaptureFixture
) -> None:
    """What the database's driver says, names of hosts and users, is for the log."""
    bridge = make_bridge(f"sqlite:///{tmp_path}/nowhere/bridge.sqlite")
    with refused(503, "the service's database does not answer; nothing was changed"):
        bridge.service.locations(ANNAS, None)
    assert "database: unable to open database file" in caplog.messages
    assert bridge.db.revision() != bridge.db.revision()


# The revision.


def test_revision(bridge: LocalBridge, url: str) -> None:
    before = bridge.service.revision()
    assert bridge.service.revision() == before
    made = bridge.create(ANNAS)
    after = bridge.service.revision()
    assert after != before
    other = Database(url)
    row = bridge.row(made)
    other.write(lambda link: persistence.set_columns(link, row, {"tries": 1}), seen=False)
    assert bridge.service.revision() == after
    persistence.apply(other, [])
    other.write(lambda link: persistence.set_columns(link, row, {"state": "running"}))
    assert bridge.service.revision() != after
    other.close()


def test_the_catalogue_counts_too(file_url: str, make_bridge: Callable[..., LocalBridge]) -> None:
    bridge = make_bridge(file_url)
    before = bridge.service.revision()
    (bridge.site._folder / "small_linux_x86_64.toml").unlink()
    bridge.site._looked = 0.0
    assert bridge.service.revision() != before
    assert OS_TPL not in bridge.service.model(ANNAS).mixins


def test_a_revision_is_had_in_microseconds(file_url: str) -> None:
    db = Database(file_url)
    db.revision()
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        db.revision()
        times.append(time.perf_counter() - begun)
    db.close()
    assert sorted(times)[25] < 500e-6


def test_lists_are_few_queries(bridge: LocalBridge) -> None:
    """However many VMs there are."""
    for _ in range(3):
        put(bridge, bridge.create(ANNAS), node="hv1", state="ready")
    with statements(bridge) as asked:
        bridge.service.locations(ANNAS, schema.COMPUTE)
    assert len(asked) == 1
    with statements(bridge) as asked:
        assert len(bridge.service.entities(ANNAS, schema.COMPUTE)) == 3
    assert len(asked) == 4


def test_a_vm_is_made_with_few_queries(bridge: LocalBridge) -> None:
    """Each is a round trip to the database's host."""
    bridge.create(ANNAS)
    bridge.service.model(ANNAS)
    with statements(bridge) as asked:
        bridge.create(ANNAS)
    # Baits heard, quota, deleted ones, its rows, a card's rows, the revision.
    assert len(asked) == 8, asked


def test_what_was_made_is_answered_as_it_is_shown_later(bridge: LocalBridge) -> None:
    own = bridge.create(ANNAS, schema.NETWORK, occi__network__address="10.7.0.0/24")
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)
    links = [
        *(link_to(target) for target in ("/network/public", "/network/private", own.path)),
        link_to(disk.path, schema.STORAGELINK),
    ]
    for made in (bridge.create(ANNAS), bridge.create(ANNAS, links=links, occi__core__title="x")):
        assert made == bridge.service.entity(ANNAS, made.path)
    assert len(made.links) == 4


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


def test_a_link_address_that_is_taken_is_not_given_again(
    bridge: LocalBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter((b"abc", b"abc", b"xyz"))
    monkeypatch.setattr("secrets.token_bytes", lambda _size: next(drawn))
    macs = [bridge.create(ANNAS).links[0].attributes["occi.networkinterface.mac"] for _ in "12"]
    assert macs == ["52:54:00:61:62:63", "52:54:00:78:79:7a"]
    assert len(bridge.service.locations(ANNAS, schema.COMPUTE)) == 2


# What nobody needs more of.


def test_networks_are_counted(bridge: LocalBridge) -> None:
    cara = person("/CN=Cara", machines=2)
    nets = [bridge.create(cara, schema.NETWORK) for _ in range(2)]
    with refused(403, "quota of networks: 2 used, 1 asked, 2 allowed"):
        bridge.create(cara, schema.NETWORK)
    bridge.create(ANNAS, schema.NETWORK)
    bridge.service.delete(cara, nets[0].path)
    bridge.create(cara, schema.NETWORK)


def test_mixins_are_counted(bridge: LocalBridge) -> None:
    def add(number: int) -> None:
        definition = Definition(f"m{number}", "http://x#", location=f"/m{number}/")
        bridge.service.add_mixin(ANNAS, definition)

    for number in range(quota.MIXINS):
        add(number)
    with refused(403, f"quota of mixins: {quota.MIXINS} used"):
        add(quota.MIXINS)
    bridge.service.remove_mixin(ANNAS, "http://x#m0")
    add(quota.MIXINS)


def test_an_entity_has_so_many_tags(bridge: LocalBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "TAGS", 3)
    ids = [f"http://x#m{number}" for number in range(4)]
    for number in range(4):
        definition = Definition(f"m{number}", "http://x#", location=f"/m{number}/")
        bridge.service.add_mixin(ANNAS, definition)
    machine = bridge.create(ANNAS)  # it has an image
    for mixin in ids[:2]:
        bridge.service.tag(ANNAS, mixin, [machine.path], "add")
    with refused(403, "quota of mixins of an entity"):
        bridge.service.tag(ANNAS, ids[2], [machine.path], "add")
    with refused(403, "quota of mixins of an entity"):
        bridge.service.update(ANNAS, machine.path, Changes(added=(ids[2],)))
    with refused(403, "quota of mixins of an entity"):
        bridge.make(ANNAS, New(schema.NETWORK, tuple(ids)))
    bridge.service.tag(ANNAS, ids[0], [machine.path], "remove")
    bridge.service.tag(ANNAS, ids[2], [machine.path], "add")


def test_links_of_a_machine_are_counted(bridge: LocalBridge) -> None:
    net = bridge.create(ANNAS, schema.NETWORK)
    links = [link_to(net.path) for _ in range(quota.LINKS)]
    machine = bridge.create(ANNAS, links=links)
    with refused(403, "quota of networks of a VM: 16 used, 1 asked, 16 allowed"):
        bridge.make(
            ANNAS,
            New(
                schema.NETWORKINTERFACE, (), {schema.SOURCE: machine.path, schema.TARGET: net.path}
            ),
        )
    with refused(403, "quota of networks of a VM"):
        bridge.service.update(ANNAS, machine.path, Changes(links=(link_to(net.path),)))
    with refused(403, "quota of networks of a VM"):
        bridge.create(ANNAS, links=[*links, link_to(net.path)])
    rich = person("/CN=Rich", storage=1000)
    disks = [
        bridge.create(rich, schema.STORAGE, occi__storage__size=1) for _ in range(quota.LINKS + 1)
    ]
    with refused(403, "quota of volumes of a VM"):
        bridge.create(rich, links=[link_to(disk.path, schema.STORAGELINK) for disk in disks])


def test_what_is_deleted_and_not_yet_gone_is_counted(
    bridge: LocalBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "GOING", 4)
    for _ in range(4):
        bridge.service.delete(ANNAS, bridge.create(ANNAS, schema.NETWORK).path)
    with refused(503, "still being taken away"):
        bridge.create(ANNAS, schema.NETWORK)
    bridge.create(BOBS, schema.NETWORK)


def test_images_that_failed_are_forgotten_in_the_end(bridge: LocalBridge) -> None:
    machine = bridge.create(ANNAS)
    put(bridge, machine, state="running", node="hv1", ran=True)
    for number in range(quota.FAILED + 3):
        bridge.service.act(ANNAS, machine.path, SAVE, {"name": f"i{number}"})
        bridge.db.write(lambda link: link.execute(sa.update(tables.saved).values(state="failed")))
    with bridge.db.reading() as link:
        titles = link.execute(sa.select(tables.saved.c.title)).scalars().all()
    assert len(titles) == quota.FAILED + 1
    assert "i0" not in titles
    assert f"i{quota.FAILED + 2}" in titles


def _insert(values: dict[str, str], link: Connection) -> None:
    link.execute(sa.insert(tables.mixin).values(**values))


def test_a_mixin_of_ones_own_is_never_the_sites(bridge: LocalBridge) -> None:
    scheme, _, term = OS_TPL.rpartition("#")
    own = [
        {"term": term, "scheme": f"{scheme}#", "location": "/mine/"},
        {"term": "other", "scheme": "http://x#", "location": f"/os_tpl/{term}/"},
    ]
    before = bridge.service.model(ANNAS).mixins[OS_TPL]
    for each in own:  # as one that was there before the site had that image
        values = {"owner": ANNA, "title": "x", "parent": schema.OS_TPL, **each}
        bridge.db.write(
            functools.partial(_insert, values),
            seen=True,
        )
    model = bridge.service.model(ANNAS)
    assert model.mixins[OS_TPL] == before
    assert model.at(f"/os_tpl/{term}/") == before
