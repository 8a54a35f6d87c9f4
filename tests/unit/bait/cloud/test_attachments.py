"""Who has which volume, while VMs come, go and start again."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from pytest_mock import MockerFixture

from tests.unit.bait.cloud.cloudsite import spec
from tests.unit.bait.conftest import CARD, MACHINE, VOLUMES, Site, an_order
from tests.unit.conftest import needs_root, put
from wnodes_lrms.errors import (
    AbsentError,
    ConflictError,
    UnknownError,
    WnodesError,
)
from wnodes_lrms.model import State

pytestmark = needs_root
ID = str(MACHINE)
OTHER = str(uuid.uuid5(MACHINE, "other"))
ONE, TWO, THREE = (str(volume) for volume in VOLUMES)


@pytest.fixture
def pool(site: Site) -> Site:
    for volume in VOLUMES:
        site.cloud.volumes.create(str(volume), 1)
    return site


def attached(site: Site, machine: str = ID) -> dict[str, str]:
    return {each["id"]: each["device"] for each in site.cloud.machine(machine)["volumes"]}


def test_volumes_of_an_order_are_in_the_machine(pool: Site) -> None:
    pool.runs(an_order(volumes=VOLUMES[:2]))
    assert attached(pool) == {ONE: "vdc", TWO: "vdd"}
    text = pool.libvirt._connect().lookupByUUIDString(ID).XMLDesc()
    for volume in (ONE, TWO):
        assert f"{pool.node.folder}/volumes/{volume}.raw" in text
        assert f"<serial>{volume.replace('-', '')[:20]}</serial>" in text


def test_a_volume_plugged_in_and_taken_out(pool: Site) -> None:
    pool.runs()
    for _ in range(2):
        assert pool.cloud.attach_volume(ID, ONE) == "vdc"
    assert pool.cloud.attach_volume(ID, TWO) == "vdd"
    assert len(pool.libvirt.plugged) == 2
    for _ in range(2):
        pool.cloud.detach_volume(ID, ONE)
    assert attached(pool) == {TWO: "vdd"}
    assert len(pool.libvirt.plugged) == 1
    assert pool.cloud.attach_volume(ID, THREE) == "vdc"


def test_a_volume_is_one_machines(pool: Site) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    pool.runs(an_order(machine=OTHER), "8")
    with pytest.raises(ConflictError, match="another VM's"):
        pool.cloud.attach_volume(OTHER, ONE)
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    with pytest.raises(ConflictError):  # at rest it has it still
        pool.cloud.attach_volume(OTHER, ONE)
    pool.cloud.detach_volume(ID, ONE)
    assert pool.cloud.attach_volume(OTHER, ONE) == "vdc"
    told = list(pool.lease(an_order(volumes=VOLUMES[:1]), "9"))
    assert "another VM's" in told[-1]["ended"]
    pool.cloud.delete(OTHER)
    pool.reaches(None, OTHER)
    pool.runs(an_order(volumes=VOLUMES[:1]), "10")  # free with its VM's end


def test_asked_by_many_at_once_each_volume_has_one_machine_and_one_device(pool: Site) -> None:
    pool.runs()
    pool.runs(an_order(machine=OTHER), "8")
    start = threading.Barrier(12)

    def attach(number: int) -> str:
        start.wait()
        try:
            return pool.cloud.attach_volume((ID, OTHER)[number % 2], str(VOLUMES[number % 3]))
        except (ConflictError, UnknownError):
            return ""

    with ThreadPoolExecutor(12) as workers:
        list(workers.map(attach, range(12)))
    here, there = attached(pool), attached(pool, OTHER)
    assert sorted([*here, *there]) == sorted((ONE, TWO, THREE))
    assert len(set(here.values())) == len(here)
    assert len(set(there.values())) == len(there)


def test_one_that_is_slowly_plugged_in_is_not_taken_back_meanwhile(
    pool: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Ceph, where a claim that is held is another one's."""
    claimed, go_on = threading.Event(), threading.Event()

    @contextmanager
    def claim(_volume: str, *, readonly: bool) -> Iterator[None]:
        assert not readonly
        if claimed.is_set():
            raise ConflictError("the volume is just given to a VM: ask again")
        claimed.set()
        assert go_on.wait(60)
        yield

    pool.runs()
    monkeypatch.setattr(pool.cloud.volumes, "claim", claim)
    with ThreadPoolExecutor(1) as worker:
        first = worker.submit(pool.cloud.attach_volume, ID, ONE)
        assert claimed.wait(60)
        for ask in (pool.cloud.attach_volume, pool.cloud.detach_volume):
            with pytest.raises(UnknownError, match="is being plugged in"):
                ask(ID, ONE)
        go_on.set()
        assert first.result() == "vdc"
    assert attached(pool) == {ONE: "vdc"}
    pool.cloud.detach_volume(ID, ONE)
    assert (attached(pool), pool.libvirt.plugged) == ({}, [])


@pytest.mark.parametrize("again", [VOLUMES[:1], ()], ids=["with it", "without it"])
@pytest.mark.parametrize("given", [True, False], ids=["claimed late", "refused late"])
def test_one_that_is_slowly_plugged_in_is_not_one_of_a_vm_that_has_begun_anew(
    pool: Site, monkeypatch: pytest.MonkeyPatch, again: tuple[uuid.UUID, ...], given: bool
) -> None:
    """What that has, its new order says: nothing is taken from it, and nothing comes to it."""
    asked, go_on = threading.Event(), threading.Event()

    @contextmanager
    def claim(_volume: str, *, readonly: bool) -> Iterator[None]:
        assert not readonly
        if not asked.is_set():
            asked.set()
            assert go_on.wait(60)
            if not given:
                raise ConflictError("the site's storage is slow at present: ask again")
        yield

    pool.runs()
    monkeypatch.setattr(pool.cloud.volumes, "claim", claim)
    with ThreadPoolExecutor(1) as worker:
        first = worker.submit(pool.cloud.attach_volume, ID, ONE)
        assert asked.wait(60)
        pool.cloud.stop(ID, "poweroff")
        pool.reaches(State.STOPPED)
        pool.runs(an_order(volumes=again), "8")
        go_on.set()
        with pytest.raises(ConflictError):
            first.result()
    has = {str(volume): "vdc" for volume in again}
    assert (attached(pool), pool.libvirt.plugged) == (has, [])
    assert set(pool.node.ledger.attached(ID)) == set(has)


def test_one_that_is_slowly_plugged_in_does_not_come_into_a_vm_that_has_lost_it(
    pool: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cold restart a VM has what it was seen to have: nobody would know of this one."""
    asked, go_on = threading.Event(), threading.Event()

    @contextmanager
    def claim(_volume: str, *, readonly: bool) -> Iterator[None]:
        assert not readonly
        if not asked.is_set():
            asked.set()
            assert go_on.wait(60)
        yield

    pool.runs()
    monkeypatch.setattr(pool.cloud.volumes, "claim", claim)
    with ThreadPoolExecutor(1) as worker:
        first = worker.submit(pool.cloud.attach_volume, ID, ONE)
        assert asked.wait(60)
        pool.cloud.restart(ID, "cold")
        pool.reaches(State.READY)
        go_on.set()
        with pytest.raises(ConflictError, match="begun anew"):
            first.result()
    assert (attached(pool), pool.libvirt.plugged) == ({}, [])
    assert pool.cloud.attach_volume(ID, ONE) == "vdc"


def test_vms_that_only_read_share_a_volume(pool: Site) -> None:
    def text(machine: str) -> str:
        return str(pool.libvirt._connect().lookupByUUIDString(machine).XMLDesc())

    pool.runs(an_order(volumes=VOLUMES[:2], readonly=VOLUMES[:1]))
    assert text(ID).count("<readonly/>") == 2  # of the seed, and of that volume
    pool.runs(an_order(machine=OTHER), "8")
    with pytest.raises(ConflictError, match="another VM's"):
        pool.cloud.attach_volume(OTHER, ONE)
    for _ in range(2):
        assert pool.cloud.attach_volume(OTHER, ONE, True) == "vdc"
    (plugged,) = pool.libvirt.plugged
    assert "<readonly/>" in plugged
    pool.cloud.have_volume(ONE, 2)
    assert pool.libvirt.sizes == {}  # QEMU resizes only what may be written
    with pytest.raises(ConflictError, match="another VM's"):
        pool.cloud.attach_volume(OTHER, TWO, True)  # which the other writes on
    with pytest.raises(ConflictError, match="is in VM"):
        pool.cloud.delete_volume(ONE)
    pool.cloud.restart(OTHER, "cold")
    pool.reaches(State.READY, OTHER)
    assert text(OTHER).count("<readonly/>") == 2
    pool.cloud.detach_volume(OTHER, ONE)
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    pool.runs(an_order(volumes=VOLUMES[:1]), "9")  # linked anew, to be written on
    assert text(ID).count("<readonly/>") == 1


def test_a_volume_grows_also_for_the_guest_that_has_it(pool: Site) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    for _ in range(2):
        pool.cloud.have_volume(ONE, 3)
        pool.cloud.have_volume(TWO, 4)
    assert pool.libvirt.sizes == {"vdc": 3}
    assert pool.cloud.volumes.list() == {ONE: 3, TWO: 4, THREE: 1}
    put(pool.node.ledger, ID, state=State.BUILDING)
    with pytest.raises(ConflictError, match="building: ask again"):  # QEMU may just open it
        pool.cloud.have_volume(ONE, 5)
    assert pool.cloud.volumes.list()[ONE] == 3


def test_a_volume_that_a_vm_has_is_not_deleted(pool: Site) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    with pytest.raises(ConflictError, match=f"is in VM {ID}"):
        pool.cloud.delete_volume(ONE)
    pool.cloud.detach_volume(ID, ONE)
    for _ in range(2):
        pool.cloud.delete_volume(ONE)
    assert ONE not in pool.cloud.volumes.list()


def test_while_a_volume_is_deleted_no_vm_takes_it_and_none_waits_for_another(
    pool: Site, mocker: MockerFixture
) -> None:
    pool.runs()
    begun, goes_on = threading.Event(), threading.Event()
    delete = pool.cloud.volumes.delete

    def slowly(volume: str) -> None:
        begun.set()
        assert goes_on.wait(60)
        delete(volume)

    mocker.patch.object(pool.cloud.volumes, "delete", slowly)
    with ThreadPoolExecutor(2) as workers:
        deleting = workers.submit(pool.cloud.delete_volume, ONE)
        assert begun.wait(60)
        taking = workers.submit(pool.cloud.attach_volume, ID, TWO)
        try:
            assert taking.result(30) == "vdc"
            for act in (
                lambda: pool.cloud.attach_volume(ID, ONE),
                lambda: pool.cloud.delete_volume(ONE),
            ):
                with pytest.raises(ConflictError, match=f"volume {ONE} is being deleted"):
                    act()
        finally:
            goes_on.set()
        deleting.result(60)
    pool.cloud.delete_volume(ONE)
    assert attached(pool) == {TWO: "vdc"}
    assert ONE not in pool.cloud.volumes.list()


def test_a_volume_that_is_not_there_or_is_not_taken_leaves_nothing(
    pool: Site, mocker: MockerFixture
) -> None:
    pool.runs()
    with pytest.raises(AbsentError, match="there is no volume"):
        pool.cloud.attach_volume(ID, str(uuid.uuid4()))
    mocker.patch.object(pool.libvirt, "attach", side_effect=WnodesError("no free slot"))
    with pytest.raises(WnodesError, match="no free slot"):
        pool.cloud.attach_volume(ID, ONE)
    assert attached(pool) == {}
    assert spec(pool).volumes == ()


def clings(site: Site, volume: str = ONE) -> None:
    """A volume is in a VM whose guest does not let go of it, and was asked to."""
    site.cloud.attach_volume(ID, volume)
    site.libvirt.clings = True
    with pytest.raises(ConflictError, match="asked to let go"):
        site.cloud.detach_volume(ID, volume)


def test_a_guest_that_does_not_let_go_keeps_its_volume(pool: Site) -> None:
    pool.runs()
    pool.runs(an_order(machine=OTHER), "8")
    clings(pool)
    assert attached(pool) == {ONE: "vdc"}
    assert spec(pool).volumes == VOLUMES[:1]
    with pytest.raises(ConflictError, match="another VM's"):
        pool.cloud.attach_volume(OTHER, ONE)
    with pytest.raises(ConflictError, match="asked to let go"):  # that it is in would be a lie soon
        pool.cloud.attach_volume(ID, ONE)
    pool.libvirt.clings = False
    pool.cloud.detach_volume(ID, ONE)
    assert attached(pool) == {}
    assert pool.cloud.attach_volume(ID, ONE) == "vdc"


def test_a_guest_that_lets_go_late_is_heard(pool: Site) -> None:
    pool.runs()
    clings(pool)
    word = pool.cloud.news("", 0)
    pool.cloud.let_go(pool.row())  # of something else
    assert attached(pool) == {ONE: "vdc"}
    pool.libvirt.plugged = []
    pool.cloud.let_go(pool.row())
    assert attached(pool) == {}
    assert spec(pool).volumes == ()
    assert pool.cloud.news(word, 0) != word
    assert pool.cloud.attach_volume(ID, ONE) == "vdc"
    pool.cloud.let_go(pool.row())  # told late, it is about nothing any more
    assert attached(pool) == {ONE: "vdc"}


def test_a_volume_that_was_to_go_does_not_come_back_with_a_cold_restart(pool: Site) -> None:
    pool.runs()
    clings(pool)
    pool.cloud.restart(ID, "cold")
    pool.reaches(State.READY)
    assert attached(pool) == {}
    pool.libvirt.plugged = []
    assert pool.cloud.attach_volume(ID, ONE) == "vdc"


def test_the_end_of_a_vm_lets_go_of_its_volume(pool: Site) -> None:
    pool.runs()
    clings(pool)
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    pool.cloud.detach_volume(ID, ONE)
    assert attached(pool) == {}
    pool.runs(an_order(volumes=VOLUMES[:1]), "8")  # asked for anew, it comes
    assert attached(pool) == {ONE: "vdc"}


def test_a_vm_that_stops_while_its_guest_is_asked_lets_go(
    pool: Site, mocker: MockerFixture
) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    pool.runs(an_order(machine=OTHER), "8")
    ran = pool.row()
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    gone = ConflictError(f"VM {ID} does not run")
    mocker.patch.object(pool.libvirt, "detach", side_effect=gone)
    pool.cloud.attachments.detach_volume(ran, ONE)
    assert attached(pool) == {}
    assert spec(pool).volumes == ()
    assert pool.cloud.attach_volume(OTHER, ONE) == "vdc"


def test_a_vm_that_still_stops_keeps_its_volume_and_lets_go_when_it_has(
    pool: Site, mocker: MockerFixture
) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    ran = pool.row()
    put(pool.node.ledger, ID, state=State.STOPPING)
    gone = ConflictError(f"VM {ID} does not run")
    mocker.patch.object(pool.libvirt, "detach", side_effect=gone)
    with pytest.raises(ConflictError, match="does not run"):
        pool.cloud.attachments.detach_volume(ran, ONE)
    assert attached(pool) == {ONE: "vdc"}
    pool.cloud.lifecycle.end_now(pool.row(), "its end")
    pool.reaches(State.STOPPED)
    pool.cloud.detach_volume(ID, ONE)
    assert attached(pool) == {}


def test_a_vm_that_has_started_since_keeps_its_volume(pool: Site) -> None:
    """Its row was read while it was stopped: it writes on the volume by now."""
    pool.runs(an_order(volumes=VOLUMES[:1]))
    pool.runs(an_order(machine=OTHER), "8")
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    rested = pool.row()
    pool.runs(an_order(volumes=VOLUMES[:1]), "9")
    with pytest.raises(ConflictError, match="has been started"):
        pool.cloud.attachments.detach_volume(rested, ONE)
    assert attached(pool) == {ONE: "vdc"}
    assert spec(pool).volumes == VOLUMES[:1]
    with pytest.raises(ConflictError, match="another VM's"):
        pool.cloud.attach_volume(OTHER, ONE)


def test_a_bait_that_died_before_it_asked_libvirt_plugs_the_volume_in(pool: Site) -> None:
    pool.runs()
    pool.node.ledger.attach(ONE, ID, "vdc")  # as it is written down first
    pool.restarted()
    assert attached(pool) == {}  # what the guest does not have is not shown
    assert pool.cloud.attach_volume(ID, ONE) == "vdc"
    assert len(pool.libvirt.plugged) == 1
    assert attached(pool) == {ONE: "vdc"}


def test_a_volume_that_may_be_in_is_nobody_elses(pool: Site, mocker: MockerFixture) -> None:
    pool.runs()
    pool.runs(an_order(machine=OTHER), "8")
    silent = mocker.patch.object(pool.libvirt, "attach", side_effect=UnknownError("no answer"))
    with pytest.raises(UnknownError):
        pool.cloud.attach_volume(ID, ONE)
    mocker.stop(silent)
    with pytest.raises(ConflictError, match="another VM's"):
        pool.cloud.attach_volume(OTHER, ONE)
    assert pool.cloud.attach_volume(ID, ONE) == "vdc"
    assert len(pool.libvirt.plugged) == 1


def test_a_cold_restart_has_what_was_plugged_in_by_the_same_names(pool: Site) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    pool.cloud.attach_volume(ID, TWO)
    pool.cloud.attach_volume(ID, THREE)
    pool.cloud.detach_volume(ID, ONE)
    pool.cloud.restart(ID, "cold")
    pool.reaches(State.READY)
    assert attached(pool) == {TWO: "vdd", THREE: "vde"}
    text = pool.libvirt._connect().lookupByUUIDString(ID).XMLDesc()
    assert ONE not in text
    assert TWO in text
    assert pool.cloud.attach_volume(ID, ONE) == "vdc"


def test_a_new_order_says_which_volumes_there_are(pool: Site) -> None:
    pool.runs(an_order(volumes=VOLUMES[:2]))
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    pool.runs(an_order(volumes=VOLUMES[1:]), "8")
    assert attached(pool) == {TWO: "vdd", THREE: "vdc"}


def test_there_are_no_more_than_24_volumes(pool: Site) -> None:
    for number in range(24):
        pool.node.ledger.attach(str(number), ID, f"vd{chr(ord('c') + number)}")
    pool.runs()  # those that the order does not name are freed
    assert attached(pool) == {}
    for number in range(24):
        pool.node.ledger.attach(str(number), ID, f"vd{chr(ord('c') + number)}")
    with pytest.raises(ConflictError, match="has 24 volumes"):
        pool.cloud.attach_volume(ID, ONE)


@pytest.mark.parametrize(
    "state", [State.REQUESTED, State.BUILDING, State.STOPPING, State.HIBERNATING, State.HIBERNATED]
)
def test_nothing_is_taken_from_a_machine_in_between(pool: Site, state: State) -> None:
    pool.runs(an_order(volumes=VOLUMES[:1]))
    put(pool.node.ledger, ID, state=state)
    with pytest.raises(ConflictError, match=str(state)):
        pool.cloud.detach_volume(ID, ONE)
    with pytest.raises(ConflictError, match=str(state)):
        pool.cloud.detach_nic(ID, str(CARD))
    with pytest.raises(ConflictError, match=str(state)):
        pool.cloud.attach_volume(ID, TWO)
    assert attached(pool) == {ONE: "vdc"}
    assert len(spec(pool).nics) == 1


class Claims:
    """What is asked of a pool where QEMU holds no locks; so often another VM has the volume."""

    def __init__(self, pool: Site, mocker: MockerFixture, refusals: int = 0) -> None:
        self.refusals = refusals
        self.made: list[tuple[str, bool]] = []
        self._pool = pool
        mocker.patch.object(pool.cloud.volumes, "claim", self._claim)

    @contextmanager
    def _claim(self, volume: str, *, readonly: bool) -> Iterator[None]:
        assert not self._has(volume)
        if self.refusals:
            self.refusals -= 1
            raise ConflictError("in use by a VM, on this node or another")
        yield
        assert self._has(volume)
        self.made.append((volume, readonly))

    def _has(self, volume: str) -> bool:
        """Whether a QEMU has it open."""
        here = [link.XMLDesc() for link in self._pool.libvirt._connect().listAllDomains()]
        return any(volume in text for text in (*here, *self._pool.libvirt.plugged))


def test_a_volume_is_claimed_before_it_is_plugged_in(pool: Site, mocker: MockerFixture) -> None:
    pool.runs()
    claims = Claims(pool, mocker, refusals=1)
    with pytest.raises(ConflictError, match="or another"):
        pool.cloud.attach_volume(ID, ONE)
    assert attached(pool) == {}
    assert pool.libvirt.plugged == []
    pool.cloud.delete_volume(ONE)  # it is free
    for _ in range(2):  # asked for again it is in, and would be found in use by itself
        pool.cloud.attach_volume(ID, TWO)
    assert claims.made == [(TWO, False)]


def test_a_vm_claims_its_volumes_just_before_it_starts(
    pool: Site, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And waits while a QEMU that was killed is not forgotten yet; not for ever."""
    monkeypatch.setattr("bait.cloud.lifecycle._TAKE_AGAIN", 0.01)
    pool.cloud.volumes.forgets = 60.0
    claims = Claims(pool, mocker, refusals=3)
    order = an_order(volumes=VOLUMES[:2], readonly=VOLUMES[1:2])
    pool.runs(order)
    assert claims.made == [(TWO, True), (ONE, False)]
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    pool.cloud.volumes.forgets = 0.1
    claims.refusals = 1 << 30
    again = an_order(volumes=VOLUMES[:2], readonly=VOLUMES[1:2])
    told = list(pool.lease(again, "8"))
    assert "on this node or another" in told[-1]["ended"]
    assert pool.domains() == []
    pool.reaches(State.FAILED)
    claims.refusals = 0
    pool.runs(order.model_copy(update={"lease": uuid.uuid4()}), "9")


def test_a_vm_that_has_not_had_a_volume_yet_waits_as_long_for_it(
    pool: Site, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user has taken it out of another VM, whose QEMU was killed just now, on another node."""
    monkeypatch.setattr("bait.cloud.lifecycle._TAKE_AGAIN", 0.01)
    pool.cloud.volumes.forgets = 60.0
    killed = [ConflictError("in use by a VM, on this node or another")] * 3
    check = mocker.patch.object(pool.cloud.volumes, "check_unused", side_effect=[*killed, None])
    pool.runs(an_order(volumes=VOLUMES[:1]))
    assert list(attached(pool)) == [ONE]
    pool.cloud.stop(ID, "poweroff")
    pool.reaches(State.STOPPED)
    pool.cloud.detach_volume(ID, ONE)
    check.side_effect = killed[:1]
    pool.cloud.volumes.forgets = 0.0  # where nobody is remembered who is gone, it fails at once
    told = list(pool.lease(an_order(volumes=VOLUMES[:1]), "8"))
    assert "on this node or another" in told[-1]["ended"]
    pool.reaches(State.FAILED)
