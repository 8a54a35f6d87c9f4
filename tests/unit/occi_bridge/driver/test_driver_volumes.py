"""The driver against baits behind real HTTP: volumes, and cards of VMs that run."""

import pytest

from occi_bridge.driver.persistence import read_all
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, OcciError
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from tests.unit.occi_bridge.driver.conftest import ANNAS, MESSAGE, Scene
from tests.unit.occi_bridge.local_bridge import (
    START,
    STOP,
    until,
)

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.usefixtures("haste")]


async def test_volumes_and_cards_while_it_runs_and_before(scene: Scene) -> None:
    async with scene.bridge.driving():
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        first = New(schema.STORAGELINK, (), {schema.TARGET: disk.path})
        made = scene.bridge.create(ANNAS, links=[first])
        await scene.state(made, "active")
        assert list(scene.lrms.volumes.values()) == [2]
        [link] = [each for each in scene.entity(made).links if each.kind == schema.STORAGELINK]
        assert link.attributes["occi.storagelink.deviceid"] == "/dev/vdb"
        scene.bridge.service.delete(ANNAS, link.path)
        await until(lambda: not scene.machine(made)["volumes"])
        scene.bridge.service.update(ANNAS, made.path, Changes(links=(first,)))
        card = New(schema.NETWORKINTERFACE, (), {schema.TARGET: "/network/private"})
        changed = scene.bridge.service.update(ANNAS, made.path, Changes(links=(card,)))
        await until(
            lambda: all("active" in each.attributes.values() for each in scene.entity(made).links)
        )
        # A link may be seen as it was a moment ago, when the volume was still plugged in.
        await until(lambda: len(scene.machine(made)["volumes"]) == 1)
        assert len(scene.machine(made)["nics"]) == 2
        second = next(each for each in changed.links if each.path.startswith("/networkinterface")
                      and each.attributes[schema.TARGET] == "/network/private")  # fmt: skip
        scene.bridge.service.delete(ANNAS, second.path)
        await until(lambda: len(scene.machine(made)["nics"]) == 1)
        scene.act(made, STOP, "poweroff")
        await scene.state(made, "inactive")
        linked = scene.entity(made).links[-1]
        assert linked.kind == schema.STORAGELINK
        scene.bridge.service.delete(ANNAS, linked.path)
        scene.bridge.service.delete(ANNAS, disk.path)
        await until(lambda: not scene.lrms.volumes)
        assert not scene.machine(made)["volumes"]
        scene.bridge.service.delete(ANNAS, made.path)
        await scene.forgotten()
    assert scene.lrms.volumes == {}


@pytest.mark.parametrize("ends", ["the guest", "the VM"])
async def test_a_volume_that_a_guest_does_not_let_go_of(scene: Scene, ends: str) -> None:
    state, said = "occi.storagelink.state", "occi.storagelink.state.message"
    async with scene.bridge.driving():
        service = scene.bridge.service
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        wanted = New(schema.STORAGELINK, (), {schema.TARGET: disk.path})
        made = scene.bridge.create(ANNAS, links=[wanted])
        await scene.state(made, "active")
        [old] = [each for each in scene.entity(made).links if each.kind == schema.STORAGELINK]
        await until(lambda: service.entity(ANNAS, old.path).attributes[state] == "active")
        scene.hv1.clings = True
        for _ in range(2):
            service.delete(ANNAS, old.path)

        def shown() -> str:
            link = next(each for each in scene.entity(made).links if each.path == old.path)
            assert link.attributes[state] == "inactive"
            assert old.path in service.locations(ANNAS, schema.STORAGELINK)
            assert service.entity(ANNAS, old.path).attributes[state] == "inactive"
            return str(link.attributes[said])

        assert shown().startswith("detaching: the guest ")
        await until(lambda: "has not yet" in shown())
        other = scene.bridge.create(ANNAS, links=[wanted])  # it waits
        if ends == "the guest":
            machine = scene.machine(made)
            scene.hv1.clings, machine["volumes"] = False, []
        else:
            scene.act(made, STOP, "poweroff")
        await until(lambda: old.path not in service.locations(ANNAS, schema.STORAGELINK))
        with pytest.raises(OcciError, match="there is nothing"):
            service.entity(ANNAS, old.path)
        if ends == "the guest":
            await scene.state(other, "active")
            assert len(scene.machine(other)["volumes"]) == 1


async def test_a_volume_grows_or_stays_as_it_is(scene: Scene) -> None:
    size, said = "occi.storage.size", "occi.storage.state.message"
    async with scene.bridge.driving():
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        link = New(schema.STORAGELINK, (), {schema.TARGET: disk.path})
        made = scene.bridge.create(ANNAS, links=[link])
        await scene.state(made, "active")

        def grow(to: int) -> None:
            scene.bridge.service.update(ANNAS, disk.path, Changes({size: to}))

        grow(3)
        await until(lambda: said not in scene.entity(disk).attributes)
        assert list(scene.lrms.volumes.values()) == [3]
        node = scene.hv1 if scene.hv1.machines else scene.hv2
        assert node.asked[-1].startswith("PUT /volumes/")  # whose guest has to see it
        scene.lrms.room = 5
        grow(20)
        await until(lambda: "room for 5" in str(scene.entity(disk).attributes.get(said)))
        assert scene.entity(disk).attributes[size] == 3
        assert scene.entity(disk).attributes["occi.storage.state"] == "online"
        assert scene.bridge.service.used(ANNAS).storage == 3
        grow(5)
        await until(lambda: list(scene.lrms.volumes.values()) == [5])
        await until(lambda: said not in scene.entity(disk).attributes)


@pytest.mark.parametrize("after", [False, True])
async def test_a_volume_whose_growth_fails_is_shown_as_large_as_it_is(
    scene: Scene, after: bool
) -> None:
    """Also where it has grown, and its guest could not be told."""
    size, said = "occi.storage.size", "occi.storage.state.message"
    why = "the node's libvirt has failed"
    async with scene.bridge.driving():
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        await until(lambda: scene.entity(disk).attributes["occi.storage.state"] == "online")
        scene.lrms.breaks, scene.lrms.breaks_after = why, after
        scene.bridge.service.update(ANNAS, disk.path, Changes({size: 3}))
        await until(lambda: scene.entity(disk).attributes.get(said) == why)
        has = scene.entity(disk).attributes
        assert (has[size], has["occi.storage.state"]) == (3 if after else 2, "online")
        assert scene.bridge.service.used(ANNAS).storage == has[size]
        scene.lrms.breaks = ""
        if not after:  # a guest that could not be told is told again
            scene.bridge.service.update(ANNAS, disk.path, Changes({size: 3}))
        await until(lambda: said not in scene.entity(disk).attributes)
        assert scene.entity(disk).attributes[size] == 3


async def test_a_growth_that_is_asked_for_while_another_fails_is_not_lost(scene: Scene) -> None:
    size = "occi.storage.size"
    async with scene.bridge.driving():
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        await until(lambda: scene.entity(disk).attributes["occi.storage.state"] == "online")
        scene.lrms.breaks, scene.lrms.breaks_once = "its disk has failed", True
        scene.hv1.silent = scene.hv2.silent = True
        scene.bridge.service.update(ANNAS, disk.path, Changes({size: 3}))
        await until(lambda: read_all(scene.bridge.db)["storages"][0].act == "grow 3")
        scene.bridge.service.update(ANNAS, disk.path, Changes({size: 4}))
        scene.hv1.silent = scene.hv2.silent = False
        await until(lambda: set(scene.lrms.volumes.values()) == {4})
        await until(lambda: read_all(scene.bridge.db)["storages"][0].has == 4)
        assert scene.entity(disk).attributes[size] == 4


async def test_a_volume_that_can_not_be_made_says_why(scene: Scene) -> None:
    said = "occi.storage.state.message"
    scene.lrms.breaks = "its disk has failed"
    async with scene.bridge.driving():
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        await until(lambda: scene.entity(disk).attributes[said] == scene.lrms.breaks)
        assert scene.entity(disk).attributes["occi.storage.state"] == "error"
        scene.lrms.breaks = ""
        await until(lambda: said not in scene.entity(disk).attributes)
        assert scene.entity(disk).attributes["occi.storage.state"] == "online"


async def test_a_volume_is_copied_and_what_the_copy_is_like_is_shown(scene: Scene) -> None:
    state = "occi.storage.state"
    async with scene.bridge.driving():
        service = scene.bridge.service
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        await until(lambda: scene.entity(disk).attributes[state] == "online")

        def copy() -> Entity:
            return service.act(ANNAS, disk.path, f"{schema.INFRA}/storage/action#snapshot", {})

        made = copy()
        await until(lambda: scene.entity(made).attributes[state] == "online")
        has = scene.entity(made).attributes
        assert has[schema.COPY_CONSISTENCY] == "offline"
        assert has[schema.COPY_TIME] == "2001-09-09T01:46:40Z"
        assert list(scene.lrms.volumes.values()) == [2, 2]
        for bait in (scene.hv1, scene.hv2):
            bait.copies = ""
        slow = copy()
        await until(lambda: schema.COPY_CONSISTENCY in scene.entity(slow).attributes)
        has = scene.entity(slow).attributes
        assert (has[state], has[schema.COPY_CONSISTENCY]) == ("offline", "frozen")
        service.delete(ANNAS, slow.path)
        service.delete(ANNAS, made.path)
        await until(lambda: len(scene.lrms.volumes) == 1)
        lost = copy()
        await until(lambda: schema.COPY_CONSISTENCY in scene.entity(lost).attributes)
        scene.lrms.volumes.clear()
        await until(lambda: "no such volume" in str(scene.entity(lost).attributes))
        assert scene.entity(lost).attributes[state] == "error"
        service.delete(ANNAS, lost.path)
        await until(lambda: len(service.locations(ANNAS, schema.STORAGE)) == 1)


@pytest.fixture
def keeping(scene: Scene) -> Scene:
    """Each node keeps volumes for itself, and the batch system is slow to choose one."""
    scene.hv1.own, scene.hv2.own = {}, {}
    scene.lrms.auto = False
    return scene


async def test_a_volume_is_where_its_first_vm_is_and_those_that_follow_go_there(
    keeping: Scene,
) -> None:
    scene, state = keeping, "occi.storage.state"
    hv1, hv2, service = scene.hv1, scene.hv2, scene.bridge.service
    async with scene.bridge.driving():
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        link = New(schema.STORAGELINK, (), {schema.TARGET: disk.path})
        said = "it will be made on the node of the first VM that it is linked to"
        await until(lambda: said in str(scene.entity(disk).attributes))
        first = scene.bridge.create(ANNAS, links=[link])
        await until(lambda: "1" in scene.lrms.jobs)
        scene.lrms.place("1", "hv2")
        await scene.state(first, "active")
        uid = next(iter(hv2.own or ()))
        assert (hv1.own, hv2.own, scene.entity(disk).attributes[state]) == (
            *({}, {uid: 2}),
            "online",
        )
        assert [str(each) for each in scene.lrms.orders["1"].volumes] == [uid]

        copy = service.act(ANNAS, disk.path, f"{schema.INFRA}/storage/action#snapshot", {})
        assert copy is not None
        await until(lambda: scene.entity(copy).attributes[state] == "online")
        assert (hv1.own, sorted((hv2.own or {}).values())) == ({}, [2, 2])

        second = scene.bridge.create(ANNAS)
        await until(lambda: "2" in scene.lrms.jobs)
        scene.lrms.place("2", "hv1")
        await scene.state(second, "active")
        there = New(schema.STORAGELINK, (), {schema.TARGET: copy.path})
        with pytest.raises(OcciError, match=r"the VM is on hv1, /storage/.* on hv2 alone"):
            service.update(ANNAS, second.path, Changes(links=(there,)))

        service.delete(ANNAS, first.path)
        await until(lambda: len(service.locations(ANNAS, schema.COMPUTE)) == 1)
        third = scene.bridge.create(ANNAS, links=[link])
        await until(lambda: "3" in scene.lrms.jobs)
        assert scene.lrms.requests["3"].node == "hv2"
        scene.lrms.place("3")
        await scene.state(third, "active")
        for made in (second, third, copy, disk):
            service.delete(ANNAS, made.path)
        await scene.forgotten()
    assert (hv1.own, hv2.own, scene.lrms.volumes) == ({}, {}, {})


async def test_a_volume_for_a_vm_that_has_run_is_made_before_it_is_attached(keeping: Scene) -> None:
    scene = keeping
    async with scene.bridge.driving():
        made = scene.bridge.create(ANNAS)
        await until(lambda: "1" in scene.lrms.jobs)
        scene.lrms.place("1", "hv2")
        await scene.state(made, "active")
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        link = New(schema.STORAGELINK, (), {schema.TARGET: disk.path})
        scene.bridge.service.update(ANNAS, made.path, Changes(links=(link,)))
        machine = scene.bridge.row(made).uid
        await until(lambda: bool(scene.hv2.machines[machine]["volumes"]))
        assert list((scene.hv2.own or {}).values()) == [2]
        changes = [each for each in scene.hv2.asked if "volumes" in each]
        assert [each.partition("/")[0] for each in changes] == ["PUT ", "PUT "]
        assert changes[0].startswith("PUT /volumes/")


async def test_a_vm_whose_volume_has_no_room_gives_its_lease_back(keeping: Scene) -> None:
    scene = keeping
    scene.lrms.room = 5
    async with scene.bridge.driving():
        disk = scene.bridge.create(
            ANNAS, schema.STORAGE, occi__storage__size=8, occi__core__title="data"
        )
        link = New(schema.STORAGELINK, (), {schema.TARGET: disk.path})
        made = scene.bridge.create(ANNAS, links=[link])
        await until(lambda: "1" in scene.lrms.jobs)
        scene.lrms.place("1", "hv2")
        failed = await scene.state(made, "error")
        assert failed.attributes[MESSAGE] == "volume data: the pool has room for 5 GiB"
        await until(lambda: not scene.lrms.jobs)
        await until(lambda: not scene.bridge.row(made).lease)
        assert scene.entity(made).attributes[MESSAGE] == failed.attributes[MESSAGE]
        assert scene.lrms.orders == {}
        scene.lrms.room = 1000
        scene.lrms.making = 0.5  # for longer than from one round to the next
        scene.act(made, START)  # and it may come to another node
        await until(lambda: "2" in scene.lrms.jobs)
        assert scene.lrms.requests["2"].node == ""
        scene.lrms.place("2", "hv1")
        await scene.state(made, "active")
        assert (list((scene.hv1.own or {}).values()), scene.hv2.own) == ([8], {})


async def test_a_vm_whose_volume_a_bait_fails_to_make_keeps_its_lease(
    keeping: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene, lrms = keeping, keeping.lrms
    lrms.breaks, lrms.breaks_once = "lvcreate: it does not say why", True
    async with scene.bridge.driving():
        disk = scene.bridge.create(ANNAS, schema.STORAGE, occi__storage__size=2)
        link = New(schema.STORAGELINK, (), {schema.TARGET: disk.path})
        made = scene.bridge.create(ANNAS, links=[link])
        await until(lambda: "1" in lrms.jobs)
        lrms.place("1", "hv2")
        await scene.state(made, "active")
        assert (list((scene.hv2.own or {}).values()), [*lrms.orders]) == ([2], ["1"])
        assert "lvcreate: it does not say why; again in" in caplog.text
