"""The addresses of cards, on SQLite and on PostgreSQL: IPv4, IPv6, MACs, registered hosts."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from occi_bridge.driver import persistence
from occi_bridge.occi import parse, render, schema, validate_changes
from occi_bridge.occi.messages import Entity, Value
from occi_bridge.occi.negotiate import JSON, OCCI, PLAIN
from occi_bridge.occi.validate_new import New
from occi_bridge.store import tables
from tests.unit.occi_bridge.local_bridge import LocalBridge, person
from tests.unit.occi_bridge.service.conftest import ANNAS, link_to, refused
from wnodes_lrms.addresses import QUARANTINE, address6_of

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration


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


def test_a_network_runs_out_of_addresses(bridge: LocalBridge) -> None:
    for _ in range(5):
        bridge.create(ANNAS, links=[link_to("/network/private")])
    with refused(409, "all addresses of 10.1.0.0/29 are taken"):
        bridge.create(ANNAS, links=[link_to("/network/private")])
    bridge.service.delete(ANNAS, bridge.service.locations(ANNAS, schema.COMPUTE)[0])
    with refused(409, "taken"):  # it is given out again when its VM is really gone
        bridge.create(ANNAS, links=[link_to("/network/private")])


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


def test_a_link_address_that_is_taken_is_not_given_again(
    bridge: LocalBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter((b"abc", b"abc", b"xyz"))
    monkeypatch.setattr("secrets.token_bytes", lambda _size: next(drawn))
    macs = [bridge.create(ANNAS).links[0].attributes["occi.networkinterface.mac"] for _ in "12"]
    assert macs == ["52:54:00:61:62:63", "52:54:00:78:79:7a"]
    assert len(bridge.service.locations(ANNAS, schema.COMPUTE)) == 2
