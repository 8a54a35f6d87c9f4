"""The driver against baits behind real HTTP: what it brings about, and what it survives."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

import pytest
import sqlalchemy as sa

from occi_bridge.driver import bait_client as baits_module
from occi_bridge.driver import driver, persistence, retry, watcher
from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.persistence import read_all
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, OcciError
from occi_bridge.occi.validate_new import New
from occi_bridge.store import heard, leader, tables
from occi_bridge.store.database import Database
from tests.unit.occi_bridge.driver.conftest import ANNAS, MESSAGE, STATE, Scene
from tests.unit.occi_bridge.fake_baits import FakeBait, Lrms
from tests.unit.occi_bridge.local_bridge import (
    ANNA,
    RESTART,
    SAVE,
    START,
    STOP,
    SUSPEND,
    LocalBridge,
    until,
)
from wnodes_lrms.config.load import Network
from wnodes_lrms.errors import UnknownError

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.usefixtures("haste")]


async def test_looks_that_nothing_waits_for_make_no_rounds(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred baits, each looked at every few seconds, would else make a round at each moment."""
    counts = {"rounds": 0, "looks": 0}

    def counted(kind: type, method: str, what: str) -> None:
        whole = getattr(kind, method)

        async def each(self: Any) -> None:
            counts[what] += 1
            await whole(self)

        monkeypatch.setattr(kind, method, each)

    counted(driver.Driver, "_round", "rounds")
    counted(watcher.Watcher, "_look", "looks")
    async with scene.bridge.driving():
        await scene.state(scene.bridge.create(ANNAS), "active")
        monkeypatch.setattr(driver, "_TICK", 3600.0)
        found: list[int] = []
        while 0 not in found and len(found) < 30:  # what was under way comes to its end
            before, enough = counts["rounds"], counts["looks"] + 20
            await until(lambda: counts["looks"] >= enough)  # noqa: B023
            found.append(counts["rounds"] - before)
    assert found[-1] == 0, found


async def test_a_life(scene: Scene) -> None:
    """Made, stopped, started where its disk is, restarted, suspended, deleted."""
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS, occi__credentials__ssh__publickey="ssh-ed25519 AAAA")
        active = await scene.state(made, "active")
        [card] = active.links
        assert card.attributes["occi.networkinterface.address"] == "10.0.0.9"
        assert card.attributes["occi.networkinterface.state"] == "active"
        [order] = scene.lrms.orders.values()
        assert (order.dn, order.account, order.node) == (ANNA, "cloud01", "hv1")
        assert order.job == "1"
        assert order.ssh_keys == ("ssh-ed25519 AAAA",)
        scene.act(made, RESTART, "cold")
        await until(lambda: not scene.bridge.row(made).restart)
        scene.act(made, SUSPEND, "suspend")
        await scene.state(made, "suspended")
        scene.act(made, START)
        await scene.state(made, "active")
        scene.act(made, SUSPEND, "hibernate")
        await scene.state(made, "suspended")
        assert scene.lrms.jobs == {}
        scene.act(made, START)
        await scene.state(made, "active")
        scene.act(made, STOP, "graceful")
        stopped = await scene.state(made, "inactive")
        assert MESSAGE not in stopped.attributes
        assert scene.lrms.jobs == {}
        scene.act(made, START)
        await scene.state(made, "active")
        assert [each.node for each in scene.lrms.requests.values()] == ["", "hv1", "hv1"]
        assert len({each.lease for each in scene.lrms.orders.values()}) == 3
        scene.bridge.service.delete(ANNAS, made.path)
        await scene.forgotten()
    assert (scene.hv1.machines, scene.lrms.jobs) == ({}, {})
    machine = str(order.machine)
    first, second, third = (
        f"PUT /leases/{each.lease}/order" for each in scene.lrms.orders.values()
    )
    assert scene.lrms.asked == [
        "POST /leases",
        first,
        f"POST /machines/{machine}/restart cold",
        f"POST /machines/{machine}/suspend suspend",
        f"POST /machines/{machine}/resume",
        f"POST /machines/{machine}/suspend hibernate",
        "POST /leases",
        second,
        f"POST /machines/{machine}/stop graceful",
        "POST /leases",
        third,
        f"DELETE /machines/{machine}",
    ]


async def test_an_image_is_saved(scene: Scene) -> None:
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        scene.bridge.service.act(ANNAS, made.path, SAVE, {"method": "hot", "name": "web"})
        await until(lambda: scene.hv1.saved["busy"])
        [tag] = scene.hv1.saved["busy"]
        like = {tag: {"consistency": "crash", "stripped": False}}
        scene.hv1.saved = {"tags": [tag], "busy": [], "failed": {}, "made": like}

        def templates() -> list[str]:
            model = scene.bridge.service.model(ANNAS)
            return [mixin.title for mixin in model.mixins.values() if mixin.saved]

        titled = "web (saved while it ran with its SSH host keys)"
        await until(lambda: templates() == [titled])
        scene.bridge.service.act(ANNAS, made.path, SAVE, {"method": "hot", "name": "web"})
        await until(lambda: scene.hv1.saved["busy"])
        scene.hv1.saved = {"tags": [], "busy": [], "failed": {scene.hv1.saved["busy"][0]: "full"}}
        await until(lambda: not read_all(scene.bridge.db)["saved"])
        assert templates() == [titled]
        scene.hv1.saved = {"tags": [tag], "busy": [], "failed": {}}
        service = scene.bridge.service
        [template] = [mixin.id for mixin in service.model(ANNAS).mixins.values() if mixin.saved]
        service.remove_mixin(ANNAS, template)
        assert templates() == []
        await until(lambda: not scene.hv1.saved["tags"] or not scene.hv2.saved["tags"])
        await until(lambda: not read_all(scene.bridge.db)["saved"])


async def test_a_machine_that_is_deleted_once_it_is_to_be_saved_is_saved(scene: Scene) -> None:
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        scene.bridge.service.act(ANNAS, made.path, SAVE, {"method": "hot"})
        scene.bridge.service.delete(ANNAS, made.path)
        await until(lambda: scene.hv1.saved["busy"])
        [tag] = scene.hv1.saved["busy"]
        assert scene.hv1.machines
        scene.hv1.saved = {"tags": [tag], "busy": [], "failed": {}}
        await scene.forgotten()
    assert (scene.hv1.machines, scene.lrms.jobs) == ({}, {})


async def test_machines_of_one_network_meet(scene: Scene) -> None:
    async with scene.bridge.driving():
        scene.lrms.auto = False
        net = scene.bridge.create(ANNAS, schema.NETWORK, occi__network__address="10.5.0.0/24")
        link = New(schema.NETWORKINTERFACE, (), {schema.TARGET: net.path})
        one = scene.bridge.create(ANNAS, links=[link])
        two = scene.bridge.create(ANNAS, links=[link])
        await until(lambda: len(scene.lrms.jobs) == 1)
        waiting = "waiting for another VM of its network to get a node"
        await until(lambda: scene.entity(two).attributes[MESSAGE] == waiting)
        scene.lrms.place("1", "hv2")
        await until(lambda: len(scene.lrms.jobs) == 2)
        assert scene.lrms.requests["2"].node == "hv2"
        scene.lrms.place("2")
        for made in (one, two):
            await scene.state(made, "active")
        assert [nic.kind for nic in scene.lrms.orders["2"].nics] == ["isolated"]
        for path in (one.path, two.path, net.path):
            scene.bridge.service.delete(ANNAS, path)
        await scene.forgotten()


async def test_a_network_spans_nodes(scene: Scene) -> None:
    config = scene.bridge.config
    network = Network(tunnels=IPv4Network("10.1.0.0/24"))
    scene.bridge.config = config.model_copy(update={"network": network})
    scene.bridge.site.spans = True
    scene.hv1.end, scene.hv2.end = ends = ("10.1.0.1:4789", "10.1.0.2:4789")
    async with scene.bridge.driving():
        scene.lrms.auto = False
        net = scene.bridge.create(ANNAS, schema.NETWORK, occi__network__address="10.5.0.0/24")
        link = New(schema.NETWORKINTERFACE, (), {schema.TARGET: net.path})
        one = scene.bridge.create(ANNAS, links=[link])
        two = scene.bridge.create(ANNAS, links=[link])
        await until(lambda: len(scene.lrms.jobs) == 2)
        scene.lrms.place("1", "hv1")
        scene.lrms.place("2", "hv2")
        for made in (one, two):
            await scene.state(made, "active")
        await until(lambda: scene.hv1.tunnels and scene.hv2.tunnels)
        [name] = scene.hv1.tunnels
        await until(lambda: list(scene.hv1.tunnels[name]["ends"]) == [ends[1]])
        await until(lambda: list(scene.hv2.tunnels[name]["ends"]) == [ends[0]])
        [there] = scene.hv1.tunnels[name]["ends"].values()
        assert there == [nic.mac for nic in scene.lrms.orders["2"].nics]
        assert scene.hv1.tunnels[name]["vni"] == scene.hv2.tunnels[name]["vni"]
        # A bait that has lost it is told again.
        scene.hv2.tunnels = {}
        await until(lambda: scene.hv2.tunnels)
        for path in (one.path, two.path, net.path):
            scene.bridge.service.delete(ANNAS, path)
        await scene.forgotten()
        await until(lambda: not scene.hv1.tunnels and not scene.hv2.tunnels)


# What ends VMs, or does not let them start.


async def test_a_lease_that_ends(scene: Scene) -> None:
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        scene.lrms.end("1", "its lease ended: walltime")
        over = await scene.state(made, "inactive")
        assert over.attributes[MESSAGE] == "its lease ended: walltime"
        scene.act(made, START)
        await scene.state(made, "active")


async def test_started_while_it_goes_down_by_itself(scene: Scene) -> None:
    """As when its lease was cancelled: its user sees it stop, and wants it to run."""
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        machine = scene.machine(made)
        machine["state"] = "stopping"
        await until(lambda: scene.bridge.row(made).state == "stopping")
        for _ in range(2):
            scene.act(made, START)
        scene.lrms.end("1", "its lease ended: cancelled")
        await until(lambda: len(scene.lrms.orders) == 2)
        await scene.state(made, "active")
    assert len(scene.lrms.orders) == 2  # asked twice, it is started once


async def test_starts_that_fail(scene: Scene) -> None:
    scene.lrms.refuse = "order refused: the account is not known"
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        failed = await scene.state(made, "error")
        assert failed.attributes[MESSAGE] == "order refused: the account is not known"
        scene.lrms.refuse, scene.lrms.fail = "", "image small: wrong checksum"
        scene.act(made, START)
        await until(lambda: "checksum" in str(scene.entity(made).attributes.get(MESSAGE)))
        assert scene.entity(made).attributes[STATE] == "error"
        scene.lrms.fail = ""
        scene.act(made, START)
        await scene.state(made, "active")
    assert len({each.lease for each in scene.lrms.orders.values()}) == 2


async def test_a_pending_lease_is_told_and_cancelled(scene: Scene) -> None:
    scene.lrms.auto = False
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        text = "waiting for the batch system: Priority"
        await until(lambda: scene.entity(made).attributes.get(MESSAGE) == text)
        scene.act(made, STOP, "graceful")
        await until(lambda: not scene.lrms.jobs)
        await until(lambda: not scene.bridge.row(made).lease)
        scene.act(made, START)
        await until(lambda: scene.lrms.jobs)
        scene.bridge.service.delete(ANNAS, made.path)
        await scene.forgotten()
    assert scene.lrms.jobs == {}


async def test_an_lrms_that_is_away_only_delays(scene: Scene) -> None:
    async with scene.bridge.driving():
        runs = scene.bridge.create(ANNAS)
        await scene.state(runs, "active")
        scene.lrms.away = True
        waits = scene.bridge.create(ANNAS)
        await until(lambda: scene.bridge.row(waits).tries)
        assert scene.entity(waits).attributes[STATE] == "inactive"
        assert scene.entity(runs).attributes[STATE] == "active"
        scene.lrms.away = False
        await scene.state(waits, "active")
    assert len(scene.lrms.jobs) == 2


async def test_what_waits_is_asked_as_soon_as_the_batch_system_is_heard_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene.bridge.driving():
        scene.lrms.away = True
        made = scene.bridge.create(ANNAS)
        await until(lambda: scene.bridge.row(made).tries)
        monkeypatch.setattr(retry, "CEILING", 1000.0)  # it has failed for long
        await waits_for_long(scene, made)
        scene.lrms.away = False
        await scene.state(made, "active")


async def test_an_order_waits_no_longer_than_the_batch_system_is_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.lrms.auto = False
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await until(lambda: scene.bridge.row(made).job)
        scene.lrms.away = True
        via = scene.bridge.row(made).via  # it is the witness
        scene.lrms.place("1", next(b.node for b in (scene.hv1, scene.hv2) if b.url != via))
        monkeypatch.setattr(retry, "CEILING", 1000.0)
        await waits_for_long(scene, made)
        scene.lrms.away = False
        await scene.state(made, "active")


async def test_a_bait_that_answers_again_is_known_to(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene.bridge.driving() as driver:
        watched = next(each for each in driver._watchers if each.bait.url == scene.hv1.url)
        await until(lambda: watched.report)
        first = watched.back
        scene.hv1.silent = True
        monkeypatch.setattr(baits_module, "_ASKING", 0.1)
        await until(lambda: watched._missed)
        assert watched.back == first
        monkeypatch.setattr(baits_module, "_ASKING", 60.0)
        scene.hv1.silent = False
        await until(lambda: watched.back > first)
        heard = watched.back
        seen = watched.report
        await until(lambda: watched.report is not seen)
        assert watched.back == heard  # once


async def waits_for_long(scene: Scene, made: Entity) -> None:
    """As if the last of many tries had just failed."""
    table, uid = tables.compute, scene.bridge.row(made).uid
    await until(lambda: scene.bridge.row(made).tries)
    later = sa.update(table).where(table.c.uid == uid).values(tries=9, again=time.time() + 512.0)
    await asyncio.to_thread(scene.bridge.db.write, lambda link: link.execute(later))


@pytest.mark.parametrize("refuses", ["", "not this one"])
async def test_a_restart_that_is_asked_for_while_another_begins_is_not_lost(
    scene: Scene, refuses: str
) -> None:
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        path = f"POST /machines/{scene.bridge.row(made).uid}/restart"
        scene.hv1.silent, scene.hv1.refuses["restart graceful"] = True, refuses
        scene.act(made, RESTART, "graceful")
        await until(lambda: scene.bridge.row(made).act == "restart graceful")
        scene.act(made, RESTART, "warm")
        scene.hv1.silent = False
        await until(lambda: f"{path} warm" in scene.hv1.asked)
        await until(lambda: not scene.bridge.row(made).restart)
        assert [each for each in scene.hv1.asked if each.startswith(path)] == [
            f"{path} graceful",
            f"{path} warm",
        ]
        assert MESSAGE not in scene.entity(made).attributes


async def test_a_guest_that_has_panicked_is_in_error_until_its_user_restarts_it(
    scene: Scene,
) -> None:
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        there = scene.machine(made)
        there |= {"crashed": True, "reason": "the guest's kernel has panicked"}
        shown = await scene.state(made, "error")
        assert shown.attributes[MESSAGE] == "the guest's kernel has panicked"
        assert {action.rpartition("#")[2] for action in shown.actions} == {
            *("start", "stop", "restart"),
        }
        with pytest.raises(OcciError, match="only an active one can be suspended"):
            scene.act(made, SUSPEND, "suspend")
        scene.act(made, RESTART, "warm")
        assert scene.entity(made).attributes[MESSAGE] == "restarting"
        await until(lambda: scene.hv1.asked[-1].endswith("/restart warm"))
        there |= {"crashed": False, "reason": ""}
        active = await scene.state(made, "active")
        assert MESSAGE not in active.attributes
        there |= {"crashed": True, "reason": "the guest's kernel has panicked"}
        await scene.state(made, "error")
        scene.act(made, START)
        await until(lambda: scene.hv1.asked.count(scene.hv1.asked[-1]) == 2)
        scene.act(made, STOP, "graceful")
        await scene.state(made, "inactive")
    assert scene.lrms.jobs == {}


# A node in other hands.


async def test_a_node_that_says_it_is_another_is_not_believed(scene: Scene) -> None:
    async with scene.bridge.driving() as driver:
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        await until(lambda: driver._nodes.keys() == {"hv1", "hv2"})
        lease = scene.bridge.row(made).lease
        scene.hv2.node = "hv1"
        scene.hv2.outcomes.append({"lease": lease, "reason": "it never was"})
        await asyncio.sleep(0.5)
        assert scene.entity(made).attributes[STATE] == "active"
        assert driver._nodes == {"hv1": scene.hv1.url, "hv2": scene.hv2.url}


async def test_a_node_that_claims_a_lease_gets_no_order(scene: Scene) -> None:
    scene.lrms.auto = False
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await until(lambda: scene.bridge.row(made).job)
        row = scene.bridge.row(made)  # through one bait it was submitted, the other one lies
        true, false = sorted((scene.hv1, scene.hv2), key=lambda bait: bait.url != row.via)
        false.claims.append({"lease": row.lease, "job": "1"})
        await until(lambda: scene.bridge.row(made).act == f"order {false.node}")
        await asyncio.sleep(0.5)  # asked again and again
        scene.lrms.place("1", true.node)
        await scene.state(made, "active")
        assert scene.bridge.row(made).node == true.node
    assert not [asked for asked in false.asked if asked.startswith("PUT")]


# Silent and slow baits.


async def test_a_hung_bait_delays_nobody(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baits_module, "_ASKING", 3600.0)  # who waited for it would wait for ever
    scene.hv1.silent = True
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        scene.lrms.baits.reverse()  # the LRMS places it on the node that answers
        await scene.state(made, "active")
        assert scene.hv1.asked == []
    scene.hv1.silent = False


async def test_what_a_slow_bait_did_is_not_done_twice(scene: Scene) -> None:
    async with scene.bridge.driving():
        await until(lambda: heard.nodes(scene.bridge.db, scene.bridge.urls))
        scene.hv1.delay = scene.hv2.delay = 0.15
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        scene.bridge.service.delete(ANNAS, made.path)
        await scene.forgotten()
    assert len(scene.lrms.orders) == 1


async def test_silence_changes_nothing(scene: Scene) -> None:
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await scene.state(made, "active")
        scene.hv1.silent = True
        scene.act(made, STOP, "graceful")
        await asyncio.sleep(0.3)
        assert scene.entity(made).attributes[STATE] == "active"
        scene.hv1.silent = False
        await scene.state(made, "inactive")


async def test_rows_read_while_something_is_done_are_not_believed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that takes long to give what it had when it was asked."""

    def slow(db: Database) -> persistence.Rows:
        rows = read_all(db)
        time.sleep(0.1)
        return rows

    monkeypatch.setattr(persistence, "read_all", slow)
    async with scene.bridge.driving():
        machines = [scene.bridge.create(ANNAS) for _ in range(3)]
        for made in machines:
            await scene.state(made, "active")
    assert len(scene.lrms.orders) == 3


# Leases through DRMAA: each bait knows only those that it has submitted.

QUEUED = "waiting for the batch system: Priority"


@pytest.fixture
def drmaa(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Where a bait counts as silent soon, too."""
    scene.lrms.drmaa = True
    for module, name in ((watcher, "SILENT"), (baits_module, "_LISTING")):
        monkeypatch.setattr(module, name, 0.4)
    return scene


async def queued(scene: Scene) -> tuple[Entity, FakeBait, FakeBait]:
    """A VM whose lease waits; the bait that has submitted it, and the other one."""
    scene.lrms.auto = False
    made = scene.bridge.create(ANNAS)
    await until(lambda: scene.entity(made).attributes.get(MESSAGE) == QUEUED)
    via = scene.bridge.row(made).via
    one, other = sorted((scene.hv1, scene.hv2), key=lambda bait: bait.url != via)
    return made, one, other


async def stays(scene: Scene, made: Entity, **expected: str) -> None:
    """It is so at each of many looks."""
    for _ in range(20):
        attributes = scene.entity(made).attributes
        seen = {"state": attributes[STATE], "message": attributes.get(MESSAGE, "")}
        assert {name: seen[name] for name in expected} == expected
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("trouble", ["silent", "hung"])
async def test_a_queued_lease_waits_for_the_bait_that_submitted_it(
    drmaa: Scene, trouble: str
) -> None:
    async with drmaa.bridge.driving():
        first, via, _ = await queued(drmaa)
        setattr(via, trouble, True)
        await stays(drmaa, first, state="inactive", message=QUEUED)
        second = drmaa.bridge.create(ANNAS)  # through the other one
        await until(lambda: len(drmaa.lrms.jobs) == 2)
        setattr(via, trouble, False)
        for made in (first, second):
            await stays(drmaa, made, state="inactive", message=QUEUED)
        for job in list(drmaa.lrms.jobs):
            drmaa.lrms.place(job)
        for made in (first, second):
            await drmaa.state(made, "active")
    assert len(drmaa.lrms.orders) == len(drmaa.lrms.jobs) == 2


async def test_a_hung_library_ends_no_machine(
    drmaa: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baits_module, "_ASKING", 60.0)  # the baits answer, however slowly
    async with drmaa.bridge.driving():
        made = drmaa.bridge.create(ANNAS)
        await drmaa.state(made, "active")
        for bait in (drmaa.hv1, drmaa.hv2):
            bait.hung = True
        await stays(drmaa, made, state="active", message="")
        for bait in (drmaa.hv1, drmaa.hv2):
            bait.hung = False
    assert len(drmaa.lrms.jobs) == 1
    assert drmaa.lrms.asked == ["POST /leases", f"PUT /leases/{drmaa.bridge.row(made).lease}/order"]


async def test_a_lease_that_is_cancelled_in_the_queue(drmaa: Scene) -> None:
    async with drmaa.bridge.driving():
        made, _, other = await queued(drmaa)
        other.silent = True
        drmaa.lrms.jobs.clear()
        over = await drmaa.state(made, "error")
        assert over.attributes[MESSAGE] == "the batch system has ended its lease"
        other.silent = False


async def test_a_lease_whose_submission_was_lost_is_asked_for_nowhere_else(drmaa: Scene) -> None:
    """The bait had submitted it and hung, and the bridge was killed before it heard so."""
    drmaa.lrms.auto = False

    class Deaf(Bait):
        async def submit(self, token: str) -> str:
            await super().submit(token)
            next(each for each in (drmaa.hv1, drmaa.hv2) if each.url == self.url).silent = True
            raise UnknownError("the connection broke")

    drmaa.bridge.bait = Deaf
    async with drmaa.bridge.driving():
        made = drmaa.bridge.create(ANNAS)
        await until(lambda: drmaa.bridge.row(made).tries)
    drmaa.bridge.bait = Bait
    async with drmaa.bridge.driving():
        await stays(drmaa, made, state="inactive")
        row = drmaa.bridge.row(made)
        assert (row.job, len(drmaa.lrms.jobs)) == ("", 1)
        for each in (drmaa.hv1, drmaa.hv2):
            each.silent = False
        drmaa.lrms.place("1")
        await drmaa.state(made, "active")
    assert len(drmaa.lrms.jobs) == 1


# The death of drivers.


class Mortal(Database):
    """A database whose user is killed just before the nth write."""

    def __init__(self, url: str, left: int) -> None:
        super().__init__(url)
        self.left = left
        self.dead = threading.Event()
        self.buried = threading.Event()

    def write(self, work: Any, *, seen: bool = True) -> Any:
        self.left -= 1
        if self.left < 0:
            self.dead.set()
            self.buried.wait(10)
            raise UnknownError("dead")
        return super().write(work, seen=seen)


async def dies_before(scene: Scene, writes: int, settled: Callable[[], bool]) -> bool:
    """Run a driver until it is killed before that write; False if all was done before."""
    db = Mortal(f"sqlite:///{scene.bridge.db._url.database}", writes)
    mortal = scene.bridge.new_driver(db)
    task = asyncio.create_task(mortal.run(asyncio.Event()))
    deadline = time.monotonic() + 20
    while not db.dead.is_set() and not settled():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    died = db.dead.is_set()
    db.left = -1
    for each in (task, *mortal._running.tasks.values()):
        each.cancel()
    db.buried.set()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    db.close()
    return died


@pytest.mark.parametrize("local", [False, True])
async def test_a_driver_may_die_before_any_of_its_writes(scene: Scene, local: bool) -> None:
    """Whatever it had done, the next one makes one VM of it, and leaves nothing; also of volumes
    that nodes keep for themselves."""
    if local:
        scene.hv1.own, scene.hv2.own = {}, {}
    writes = 0
    while await one_death(scene, writes):
        writes += 1
    assert writes > 8


async def one_death(scene: Scene, writes: int) -> bool:
    bridge = scene.bridge
    disk = bridge.create(ANNAS, schema.STORAGE, occi__storage__size=1)
    made = bridge.create(ANNAS, links=[New(schema.STORAGELINK, (), {schema.TARGET: disk.path})])
    row = bridge.row(made)
    died = await dies_before(scene, writes, lambda: bridge.row(made).state == "running")
    bridge.db.write(lambda link: link.execute(sa.update(tables.leader).values(until=0.0)))
    async with bridge.driving() as second:
        await until(lambda: second.leading)
        await scene.state(made, "active")
        assert [job["lease"] for job in scene.lrms.jobs.values()] == [bridge.row(made).lease]
        assert list(scene.hv1.machines) == [row.uid]
        assert len(scene.hv1.machines[row.uid]["volumes"]) == 1
        bridge.service.delete(ANNAS, made.path)
        bridge.service.delete(ANNAS, disk.path)
        await scene.forgotten()
    assert (scene.hv1.machines, scene.lrms.volumes, scene.lrms.jobs) == ({}, {}, {})
    assert {**(scene.hv1.own or {}), **(scene.hv2.own or {})} == {}
    return died


async def test_an_order_whose_answer_was_lost_stays_one_lease(scene: Scene) -> None:
    """The bait took it, the driver never heard so."""
    made = scene.bridge.create(ANNAS)

    class Deaf(Bait):
        async def submit(self, token: str) -> str:
            await super().submit(token)
            raise UnknownError("the connection broke")

    scene.bridge.bait = Deaf
    async with scene.bridge.driving():
        await scene.state(made, "active")
        assert scene.bridge.row(made).job == "1"
    assert len(scene.lrms.orders) == 1


# Who leads.


async def test_one_leads_and_the_other_takes_over(
    url: str, make_bridge: Callable[..., LocalBridge], baits: list[FakeBait]
) -> None:
    one, two = make_bridge(url, *baits), make_bridge(url, *baits)
    one.heard()
    async with two.driving() as second:
        async with one.driving() as first:
            await until(lambda: first.leading or second.leading)
            for _ in range(6):
                assert first.leading + second.leading == 1
                await asyncio.sleep(0.05)
            made = one.create(ANNAS)
            scene = Scene(one, baits)
            await scene.state(made, "active")
        await until(lambda: second.leading)
        scene.act(made, STOP, "poweroff")
        await scene.state(made, "inactive")
    lrms: Lrms = baits[0].lrms
    assert len(lrms.orders) == 1


def test_only_one_of_many_becomes_the_leader(db: Database, url: str) -> None:
    others = [Database(url) for _ in range(4)]
    for number in range(10):
        go = threading.Barrier(4)
        won: list[str] = []

        def run(database: Database, holder: str, go: Any = go, won: Any = won) -> None:
            go.wait()
            if leader.lead(database, holder, 60.0):
                won.append(holder)

        threads = [
            threading.Thread(target=run, args=(each, f"{number}-{index}"))
            for index, each in enumerate(others)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert not leader.lead(db, "late", 60.0)
        assert leader.lead(db, won[0], 60.0)
        leader.step_down(db, won[0])
    for each in others:
        each.close()


def test_a_leader_that_is_gone_is_followed_when_its_term_is_over(db: Database) -> None:
    assert leader.lead(db, "first", 0.1)
    assert not leader.lead(db, "second", 60.0)
    time.sleep(0.12)
    assert leader.lead(db, "second", 60.0)
    assert not leader.lead(db, "first", 60.0)


async def test_what_a_bait_says_of_a_machine_is_cut_before_it_is_kept(
    file_url: str, make_bridge: Callable[..., LocalBridge]
) -> None:
    bridge = make_bridge(file_url)
    bridge.heard()
    row = bridge.row(bridge.create(ANNAS))
    bridge.db.write(lambda link: persistence.set_columns(link, row, {"reason": "x" * 100_000}))
    [kept] = read_all(bridge.db)["computes"]
    assert len(kept.reason) == 2000
