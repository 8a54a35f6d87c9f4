"""Users' volumes, on SQLite and on PostgreSQL: copies, growth, where they are."""

import functools

import pytest

from occi_bridge.driver import persistence
from occi_bridge.driver.persistence import read_all
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, Value
from occi_bridge.occi.validate_changes import Changes
from occi_bridge.occi.validate_new import New
from occi_bridge.store.rows import Row
from tests.unit.occi_bridge.local_bridge import ANNA, BOB, LocalBridge, person
from tests.unit.occi_bridge.service.conftest import ANNAS, refused

pytest_plugins = ["tests.unit.occi_bridge.bridgefixtures"]
pytestmark = pytest.mark.integration


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
