"""What cards may carry: asked for by users, within what site and grant allow."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from occi_bridge.driver import persistence
from occi_bridge.identity.user import User
from occi_bridge.occi import schema, validate_new
from occi_bridge.occi.messages import Body, Entity, LinkBody, OcciError, Value
from occi_bridge.occi.mixins import site_model
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from occi_bridge.store.rows import Interface
from tests.unit.conftest import eventually
from tests.unit.occi_bridge.local_bridge import ANNA, START, STOP, LocalBridge, person

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration

IN, OUT = schema.INBOUND, schema.OUTBOUND
COUNTED = "what VMs send on network slow is counted when their lease is asked for"
MORE = """
[[bridge.network]]
name = "slow"
kind = "bridge"
throughput = 10
throughput_least = 5
throughput_most = 100
"""
ANNAS = person(ANNA)
LESS = person(ANNA, throughput=50)


@pytest.fixture
def bridge(file_url: str, make_bridge: Callable[..., LocalBridge]) -> LocalBridge:
    made = make_bridge(file_url, more=MORE)
    made.heard()
    return made


@contextlib.contextmanager
def refused(status: int, message: str) -> Iterator[None]:
    with pytest.raises(OcciError) as caught:
        yield
    assert (caught.value.status, caught.value.message) == (status, message)


def link(network: str, **asked: Value) -> New:
    given = {f"wnodes.throughput.{name}": value for name, value in asked.items()}
    target = {schema.TARGET: f"/network/{network}"}
    return New(schema.NETWORKINTERFACE, (schema.THROUGHPUT,), {**target, **given})


def rates(entity: Entity) -> tuple[Value | None, Value | None]:
    return entity.attributes.get(IN), entity.attributes.get(OUT)


def made(bridge: LocalBridge, user: User, new: New) -> Entity:
    [card] = bridge.create(user, links=[new]).links
    assert card.mixins == (schema.THROUGHPUT,)
    return card


@pytest.mark.parametrize(
    ("user", "network", "asked", "got"),
    [
        (ANNAS, "public", {}, (None, None)),
        (ANNAS, "public", {"inbound": 3}, (3, None)),
        (LESS, "public", {}, (50, 50)),
        (LESS, "public", {"outbound": 7}, (50, 7)),
        (ANNAS, "slow", {}, (10, 10)),
        (ANNAS, "slow", {"inbound": 100, "outbound": 5}, (100, 5)),
    ],
)
def test_a_card_gets_what_is_asked_for_or_what_the_site_has_for_it(
    bridge: LocalBridge, user: User, network: str, asked: dict[str, Value], got: tuple[Any, Any]
) -> None:
    card = made(bridge, user, link(network, **asked))
    assert rates(card) == got
    [row] = persistence.read_all(bridge.db)["interfaces"]
    nic = bridge.site.nets[network].nic(row)
    assert (nic.inbound, nic.outbound) == got


@pytest.mark.parametrize(
    ("user", "asked", "fault"),
    [
        (ANNAS, 101, "101 Mbit/s is more than 100, the most on network slow for you"),
        (LESS, 51, "51 Mbit/s is more than 50, the most on network slow for you"),
        (ANNAS, 4, "4 Mbit/s is less than 5, the least on network slow for you"),
    ],
)
def test_more_or_less_than_the_site_allows_is_refused_and_nothing_changes(
    bridge: LocalBridge, user: User, asked: int, fault: str
) -> None:
    with refused(403, f"{IN}: {fault}"):
        bridge.create(user, links=[link("slow", inbound=asked)])
    assert persistence.read_all(bridge.db)["computes"] == ()
    card = made(bridge, user, link("slow"))
    with refused(403, f"{OUT}: {fault}"):
        bridge.service.update(user, card.path, Changes({OUT: asked}))
    assert bridge.service.entity(user, card.path) == card


def test_it_is_changed_and_taken_back(bridge: LocalBridge) -> None:
    card = made(bridge, ANNAS, link("slow", inbound=20))
    changed = bridge.service.update(ANNAS, card.path, Changes({OUT: 30}))
    assert rates(changed) == (20, 30)
    titled = bridge.service.update(ANNAS, card.path, Changes({"occi.core.title": "way out"}))
    assert rates(titled) == (20, 30)
    replaced = bridge.service.replace(ANNAS, card.path, New(schema.NETWORKINTERFACE))
    assert rates(replaced) == (10, 10)


def test_a_start_gives_what_the_user_may_have_today(bridge: LocalBridge) -> None:
    vm = bridge.create(ANNAS, links=[link("slow", inbound=80, outbound=20)])
    bridge.service.act(ANNAS, vm.path, STOP, {})
    bridge.service.act(LESS, vm.path, START, {})
    [card] = bridge.service.entity(ANNAS, vm.path).links
    assert rates(card) == (50, 20)


def test_a_size_gives_its_cards_what_nobody_asks_for(
    file_url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    sizes = "".join(
        f'[[bridge.template]]\nname = "{name}"\ncores = 1\nmemory = 512\nthroughput = {rate}\n'
        for name, rate in (("modest", 2), ("quick", 60))
    )
    bridge = make_bridge(file_url, more=MORE + sizes)
    bridge.heard()
    quick, modest = (f"{schema.OWN}resource_tpl#{name}" for name in ("quick", "modest"))
    titles = {mixin.title for mixin in bridge.service.model(ANNAS).mixins.values()}
    assert "1 core and 512 MiB, cards of 60 Mbit/s" in titles
    links = [link("slow", inbound=7), link("public")]
    vm = bridge.create(ANNAS, mixins=[quick], links=links)
    assert [rates(card) for card in vm.links] == [(7, 60), (60, 60)]
    assert rates(bridge.create(LESS, mixins=[quick], links=links[1:]).links[0]) == (50, 50)
    bridge.service.act(ANNAS, vm.path, STOP, {})
    changed = bridge.service.update(ANNAS, vm.path, Changes(added=(modest,), removed=(quick,)))
    assert [rates(card) for card in changed.links] == [(7, 5), (2, 2)]  # 5 is the least there
    replaced = bridge.service.replace(ANNAS, changed.links[0].path, New(schema.NETWORKINTERFACE))
    assert rates(replaced) == (5, 5)


def test_the_bait_is_told_at_once_of_what_another_size_gives(
    file_url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    """Though it was told of the card a moment ago; of one that stays as it was it is not."""
    size = '[[bridge.template]]\nname = "quick"\ncores = 1\nmemory = 1024\nthroughput = 60\n'
    bridge = make_bridge(file_url, more=MORE + size)
    bridge.heard()
    vm = bridge.create(ANNAS, links=[link("slow"), link("private", inbound=7, outbound=7)])
    just_now = {"act": "plug", "tries": 3, "again": 4e9, "flows": {"inbound.limit": 10, "at": 1.0}}
    for row in persistence.read_all(bridge.db)["interfaces"]:
        bridge.db.write(functools.partial(persistence.set_columns, row=row, values=just_now))
    quick = f"{schema.OWN}resource_tpl#quick"
    bridge.service.update(ANNAS, vm.path, Changes(added=(quick,)))
    slow, private = persistence.read_all(bridge.db)["interfaces"]
    assert (slow.rates.outbound, slow.tries, slow.again, slow.flows) == (60, 0, 0.0, {})
    assert (private.rates.outbound, private.tries, private.again) == (7, 3, 4e9)


def test_what_is_counted_is_not_exceeded_in_a_lease(
    file_url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    bridge = make_bridge(file_url, more=MORE + 'consumable = "lan_mbit"\n')
    bridge.heard()
    vm = bridge.create(ANNAS, links=[link("slow", outbound=20)])
    [card] = vm.links
    bridge.service.update(ANNAS, card.path, Changes({OUT: 30}))  # none is asked for yet

    def leased(lease: str) -> None:
        row = bridge.row(vm)
        bridge.db.write(lambda db: persistence.set_columns(db, row, {"lease": lease}))

    leased("a-lease")
    with refused(409, f"{COUNTED}: stop the VM first"):
        bridge.service.update(ANNAS, card.path, Changes({OUT: 31}))
    with refused(409, f"{COUNTED}: stop the VM first"):
        bridge.service.update(ANNAS, vm.path, Changes(links=(link("slow"),)))
    assert rates(bridge.service.update(ANNAS, card.path, Changes({OUT: 25, IN: 90}))) == (90, 25)
    bridge.service.update(ANNAS, vm.path, Changes(links=(link("private"),)))
    leased("")
    bridge.service.update(ANNAS, vm.path, Changes(links=(link("slow"),)))


def test_nor_while_the_lease_is_being_asked_for(
    postgres_url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    """The driver has read what the cards send, and nobody sees yet that it has."""
    bridge = make_bridge(postgres_url, more=MORE + 'consumable = "lan_mbit"\n')
    bridge.heard()
    vm = bridge.create(ANNAS, links=[link("slow", outbound=20)])
    row, more = bridge.row(vm), Changes({OUT: 30})
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor(1) as pool:

        def asks(driver: Connection) -> Future[Entity]:
            assert persistence.set_columns(driver, row, {"lease": "a-lease"})
            user = pool.submit(bridge.service.update, ANNAS, vm.links[0].path, more)
            eventually(lambda: user.done() or driver.execute(waiting).scalar_one())
            return user

        user = bridge.db.write(asks)
        with refused(409, f"{COUNTED}: stop the VM first"):
            user.result(60)


def test_nor_by_another_size(file_url: str, make_bridge: Callable[..., LocalBridge]) -> None:
    sizes = "".join(
        f'[[bridge.template]]\nname = "{name}"\ncores = 1\nmemory = 512\nthroughput = {rate}\n'
        for name, rate in (("modest", 20), ("quick", 60))
    )
    bridge = make_bridge(file_url, more=MORE + 'consumable = "lan_mbit"\n' + sizes)
    bridge.heard()
    quick, modest = (f"{schema.OWN}resource_tpl#{name}" for name in ("quick", "modest"))
    vm = bridge.create(ANNAS, mixins=[modest], links=[link("slow")])
    row = bridge.row(vm)
    bridge.db.write(lambda db: persistence.set_columns(db, row, {"lease": "a-lease"}))
    with refused(409, f"{COUNTED}: stop the VM first"):
        bridge.service.update(ANNAS, vm.path, Changes(added=(quick,), removed=(modest,)))
    assert bridge.service.entity(ANNAS, vm.path) == vm


def test_what_passes_is_shown_while_the_vm_runs(bridge: LocalBridge) -> None:
    vm = bridge.create(ANNAS, links=[link("slow", inbound=80)])
    [row] = persistence.read_all(bridge.db)["interfaces"]
    assert isinstance(row, Interface)
    flows = {"inbound.limit": 60, "inbound.measured": 41.5, "inbound.dropped": 7, "at": 1.0}
    values = {"attached": True, "flows": flows}
    machine = {"state": "running", "node": "hv1", "lease": "a-lease", "ran": True}

    def shown() -> Entity:
        [card] = bridge.service.entity(ANNAS, vm.path).links
        return card

    bridge.db.write(lambda db: persistence.set_columns(db, row, values))
    assert f"{IN}.measured" not in shown().attributes
    bridge.db.write(lambda db: persistence.set_columns(db, bridge.row(vm), machine))
    seen = shown().attributes
    assert (seen[IN], seen[f"{IN}.measured"], seen[f"{IN}.dropped"]) == (60, 41.5, 7)
    changed = bridge.service.update(ANNAS, shown().path, Changes({IN: 70}))
    assert (changed.attributes[IN], f"{IN}.measured" in changed.attributes) == (70, False)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (0, "0 is less than 1"),
        (-5, "-5 is less than 1"),
        (1e30, "1e+30 is more than 100000"),
        (1.5, "a whole number is needed, not «1.5»"),
        (True, "a whole number is needed, not «True»"),
        ("10", "a whole number is needed, not the text «10»"),
        ("10M", "a whole number is needed, not the text «10M»"),
    ],
)
def test_what_is_no_rate_gets_one_clear_line(value: Value, fault: str) -> None:
    given = {schema.SOURCE: "/compute/1", schema.TARGET: "/network/public", IN: value}
    body = Body((schema.NETWORKINTERFACE, schema.THROUGHPUT), given)
    with refused(400, f"{IN}: {fault}"):
        validate_new.create(site_model([], []), body)


def test_it_needs_its_mixin_and_says_so() -> None:
    inline = LinkBody("/network/public", "", (), {IN: 5})
    with refused(400, f"{IN}: needs the mixin {schema.THROUGHPUT}"):
        validate_new.create(site_model([], []), Body((schema.COMPUTE,), {}, (inline,)))


def test_a_vm_whose_user_names_no_network_is_on_that_of_the_grant(bridge: LocalBridge) -> None:
    [card] = bridge.create(person(ANNA, network="slow")).links
    assert card.attributes[schema.TARGET] == "/network/slow"
