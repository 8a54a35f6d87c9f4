"""A pool in LVM: what is promised, what is ours, and what a copy is. LVM's programs are those of
lvmprograms.py; on a real thin pool: `make vm-test`."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from bait.machine.hardware import BlockDevice
from bait.volumes import thin
from bait.volumes.lvm import Contents
from bait.volumes.pool import pool_of
from bait.volumes.thin import Thin
from tests.unit.bait.volumes.lvmprograms import GROUP, POOL, Programs
from tests.unit.conftest import eventually
from wnodes_lrms.config.load import Cloud, Pool
from wnodes_lrms.errors import AbsentError, ConflictError, RejectedError, WnodesError

SETTINGS = Pool(kind="lvm", group=GROUP, name=POOL)
ONE, TWO, THREE = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
LV = f"wnodes-{ONE}"


@pytest.fixture
def programs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setattr(thin, "_FOR_A_MOMENT", 0.0)
    return Programs(tmp_path_factory.mktemp("lvm"), 10, monkeypatch)


@pytest.fixture
def pool(programs: Programs) -> Thin:
    del programs
    return Thin(SETTINGS)


def test_a_life(pool: Thin, programs: Programs) -> None:
    for _ in range(2):
        pool.create(ONE, 1)
    assert (pool.list(), pool.size(ONE)) == ({ONE: 1}, 1)
    assert programs.rows[LV]["lv_tags"] == "wnodes"
    for size in (3, 3, 2):
        pool.create(ONE, size)
    assert pool.list() == {ONE: 3}
    assert pool.source(ONE) == BlockDevice(f"/dev/{GROUP}/{LV}")
    for _ in range(2):
        pool.delete(ONE)
    assert programs.names == set()
    assert programs.calls == ["lvcreate", "lvextend", "lvremove"]
    for ask in (pool.size, pool.source):
        with pytest.raises(AbsentError, match=f"there is no volume {ONE} in {GROUP}/{POOL}"):
            ask(ONE)


def test_it_is_chosen_by_the_site_and_of_this_node_alone(programs: Programs) -> None:
    del programs
    chosen = pool_of(Cloud(pool=SETTINGS, wipe=True), "hv1")
    assert isinstance(chosen, Thin)
    assert (chosen.local, chosen.wipe, chosen.lvm.group, chosen.lvm.pool) == (
        *(True, True),
        *(GROUP, POOL),
    )
    assert not pool_of(Cloud(), "hv1").local
    assert pool_of(Cloud(pool=Pool(shared=False)), "hv1").local  # a folder


def test_a_volume_that_is_not_active_is_made_so(pool: Thin, programs: Programs) -> None:
    pool.create(ONE, 1)
    programs.put(LV, lv_active="")  # as after a boot, where the site says so
    pool.source(ONE)
    assert programs.rows[LV]["lv_active"] == "active"


@pytest.mark.parametrize("name", [LV, f"{LV}.gone"])
def test_what_has_not_our_mark_is_left_alone(name: str, programs: Programs) -> None:
    pool = Thin(SETTINGS, wipe=True)
    programs.put(name, lv_size="1073741824", segtype="thin", pool_lv=POOL, lv_tags="theirs")
    before = programs.rows
    pool.sweep()
    assert pool.list() == {}
    if name == LV:
        pool.create(TWO, 1)
        before = programs.rows
        calls = programs.calls
        for act in (
            lambda: pool.create(ONE, 2),
            lambda: pool.delete(ONE),
            lambda: pool.source(ONE),
            lambda: pool.copy(TWO, ONE, nullcontext()),
            lambda: pool.copy(ONE, TWO, nullcontext()),
        ):
            with pytest.raises(ConflictError):
                act()
        assert programs.calls == calls
    assert programs.rows == before


def test_one_of_another_pool_is_none_of_ours(pool: Thin, programs: Programs) -> None:
    programs.put(LV, lv_size="1", segtype="thin", pool_lv="another", lv_tags="wnodes")
    pool.delete(ONE)
    with pytest.raises(ConflictError, match="already exists"):
        pool.create(ONE, 1)
    assert programs.names == {LV}


@pytest.mark.parametrize("name", ["../../etc", "", "wnodes", f"{ONE}.gone"])
def test_what_is_no_uuid_is_no_name(name: str, pool: Thin, programs: Programs) -> None:
    for act in (pool.delete, pool.source, lambda name: pool.create(name, 1)):
        with pytest.raises(ValueError, match="UUID"):
            act(name)
    assert programs.calls == []


def test_what_is_promised_counts(pool: Thin, programs: Programs) -> None:
    programs.put("theirs", lv_size=str(2 << 30), segtype="thin", pool_lv=POOL)
    pool.create(ONE, 5)
    with pytest.raises(RejectedError, match="2 GiB are promised to nobody yet, 3 are asked"):
        pool.create(TWO, 3)  # less what is spare
    with pytest.raises(RejectedError, match="2 GiB are promised to nobody yet, 3 are asked"):
        pool.create(ONE, 8)
    with pytest.raises(RejectedError, match="2 GiB are promised to nobody yet, 5 are asked"):
        pool.copy(ONE, TWO, nullcontext())
    pool.create(ONE, 6)
    assert pool.list() == {ONE: 6}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metadata_percent": "90.00"}, "metadata is full to 90 %"),
        ({"zero": ""}, "lvchange --zero y"),
    ],
)
def test_a_pool_that_is_not_fit_gives_nothing(
    change: dict[str, str], said: str, pool: Thin, programs: Programs
) -> None:
    programs.put(POOL, **change)
    with pytest.raises(RejectedError, match=said):
        pool.create(ONE, 1)
    assert programs.names == set()


@pytest.mark.parametrize(
    ("change", "room"),
    [
        ({}, True),
        ({"data_percent": "99.00"}, True),
        ({"data_percent": "99.99"}, False),
        ({"metadata_percent": "100.00"}, False),
        ({"data_percent": ""}, False),
    ],
)
def test_room_for_what_is_written(
    change: dict[str, str], room: bool, pool: Thin, programs: Programs
) -> None:
    programs.put(POOL, **change)
    assert pool.has_room() is room


def test_one_that_is_open_is_neither_given_nor_deleted(pool: Thin, programs: Programs) -> None:
    pool.create(ONE, 1)
    programs.put(LV, lv_device_open="open")
    for act in (pool.check_unused, pool.delete):
        with pytest.raises(ConflictError, match=f"volume {ONE} is in use"):
            act(ONE)
    pool.check_unused(ONE, readonly=True)  # the ledger knows whether those who have it only read
    programs.put(LV, lv_device_open="")
    pool.check_unused(ONE)
    pool.check_unused(TWO)


def test_who_looks_into_it_for_a_moment_is_waited_for(
    pool: Thin, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thin, "_FOR_A_MOMENT", 600.0)
    monkeypatch.setattr(thin, "_LOOK", 0.0)
    pool.create(ONE, 1)
    programs.put(LV, lv_device_open="open")
    look, looks = pool.lvm.look, []

    def counted() -> Contents:
        looks.append(1)
        if len(looks) == 3:
            programs.put(LV, lv_device_open="")
        return look()

    monkeypatch.setattr(type(pool.lvm), "look", lambda _lvm: counted())
    pool.check_unused(ONE)
    assert len(looks) == 3


def test_a_copy_is_a_volume_of_its_own(pool: Thin, programs: Programs) -> None:
    pool.create(ONE, 2)
    seen = []

    @contextmanager
    def moment() -> Iterator[None]:
        seen.append((pool.is_read(ONE), programs.names))
        yield
        seen.append((pool.is_read(ONE), programs.names))

    pool.copy(ONE, TWO, moment())
    both = {LV, f"wnodes-{TWO}"}
    assert seen == [(True, {LV}), (True, both)]  # made while the moment lasts, and none starts
    assert not pool.is_read(ONE)
    with pytest.raises(ConflictError, match="is there already"):
        pool.copy(ONE, TWO, nullcontext())
    pool.delete(ONE)
    assert pool.list() == {TWO: 2}
    with pytest.raises(AbsentError):
        pool.copy(ONE, ONE.replace("1", "3"), nullcontext())


def test_a_guest_that_is_slow_to_freeze_keeps_no_other_volumes_waiting(
    pool: Thin, programs: Programs
) -> None:
    pool.create(ONE, 1)
    pool.create(THREE, 1)

    @contextmanager
    def moment() -> Iterator[None]:
        other = threading.Thread(target=pool.delete, args=(THREE,), daemon=True)
        other.start()
        other.join(30)
        assert programs.names == {LV}
        yield

    pool.copy(ONE, TWO, moment())
    assert pool.list() == {ONE: 1, TWO: 1}


def test_what_a_copy_that_is_just_made_keeps_others_from(pool: Thin, programs: Programs) -> None:
    pool.create(ONE, 3)

    refused: tuple[Callable[[], None], ...] = (
        lambda: pool.create(ONE, 4),
        lambda: pool.create(TWO, 1),
        lambda: pool.delete(ONE),
        lambda: pool.delete(TWO),
        lambda: pool.copy(ONE, TWO, nullcontext()),
    )

    @contextmanager
    def moment() -> Iterator[None]:
        for act in refused:
            with pytest.raises(ConflictError):
                act()
        with pytest.raises(RejectedError, match="3 GiB are promised to nobody yet, 4 are asked"):
            pool.create(THREE, 4)
        pool.create(ONE, 3)
        pool.copy(ONE, THREE, nullcontext())
        assert pool.is_read(ONE)
        yield

    pool.copy(ONE, TWO, moment())
    assert pool.list() == {ONE: 3, TWO: 3, THREE: 3}
    assert not pool.is_read(ONE)
    assert programs.calls == ["lvcreate"] * 3


def test_a_copy_of_one_that_a_vm_writes_on_asks_nothing_of_qemu(
    pool: Thin, programs: Programs
) -> None:
    pool.create(ONE, 1)
    programs.put(LV, lv_device_open="open")

    def by_qemu(_target: Path) -> None:
        raise AssertionError

    pool.copy(ONE, TWO, nullcontext(), by_qemu)
    assert pool.list() == {ONE: 1, TWO: 1}


def test_a_moment_that_can_not_be_leaves_nothing(pool: Thin, programs: Programs) -> None:
    @contextmanager
    def moment() -> Iterator[None]:
        raise ConflictError("the VM has just started")
        yield

    pool.create(ONE, 1)
    with pytest.raises(ConflictError):
        pool.copy(ONE, TWO, moment())
    assert (programs.names, pool.is_read(ONE)) == ({LV}, False)


def test_what_is_to_be_wiped_is_discarded_first(programs: Programs) -> None:
    pool = Thin(SETTINGS, wipe=True)
    pool.create(ONE, 1)
    pool.delete(ONE)
    assert pool.list() == {}
    eventually(lambda: programs.names == set())
    assert programs.calls == ["lvcreate", "lvrename", "blkdiscard", "lvremove"]


def test_a_bait_goes_on_with_what_a_killed_one_has_begun(programs: Programs) -> None:
    before = {*threading.enumerate()}
    programs.put(
        f"{LV}.gone", lv_size="1", segtype="thin", pool_lv=POOL, lv_tags="wnodes", lv_active=""
    )
    programs.put(
        f"wnodes-{TWO}.gone", lv_size="1", segtype="thin", pool_lv=POOL, lv_tags="wnodes",
        lv_device_open="open", lv_active="active",
    )  # fmt: skip
    pool = Thin(SETTINGS)
    assert pool.list() == {}
    pool.sweep()
    assert programs.names == {f"wnodes-{TWO}.gone"}  # the next time
    assert programs.calls == ["lvchange", "blkdiscard", "lvremove"]  # of the other
    programs.put(f"wnodes-{TWO}.gone", lv_device_open="")
    [later] = {*threading.enumerate()} - before
    assert isinstance(later, threading.Timer)
    later.cancel()
    later.function()
    assert programs.names == set()


def test_a_pool_that_is_away_is_no_answer(pool: Thin, programs: Programs) -> None:
    programs.put(POOL, data_percent="")
    pool.sweep()
    for ask in (pool.list, lambda: pool.create(ONE, 1), lambda: pool.delete(ONE)):
        with pytest.raises(WnodesError) as caught:
            ask()
        assert not isinstance(caught.value, RejectedError)
    assert programs.calls == []
