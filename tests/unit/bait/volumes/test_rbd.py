"""A pool in Ceph, on a real cluster, with real QEMUs."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from bait.checks import storage
from bait.volumes import rbd
from bait.volumes.pool import pool_of
from bait.volumes.rbd import Rbd
from tests.unit.bait.volumes import cephcluster
from tests.unit.bait.volumes.cephcluster import Cluster
from tests.unit.conftest import eventually, needs_root
from wnodes_lrms.config.load import Api, Cloud, Config
from wnodes_lrms.doctor import Check, Status
from wnodes_lrms.errors import AbsentError, ConflictError, RejectedError, UnknownError, WnodesError

pytestmark = [pytest.mark.integration, needs_root]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cephcluster.cluster(tmp_path_factory.mktemp("ceph")) as made:
        yield made


@pytest.fixture
def pool(cluster: Cluster) -> Iterator[Rbd]:
    """As the node hv1 sees it."""
    made = Rbd(cluster.settings(), "hv1")
    yield made
    for volume in made.list():
        made.delete(volume)

    def is_empty() -> bool:
        made.sweep()
        return leftovers(cluster) == []

    eventually(is_empty)


@pytest.fixture
def other(cluster: Cluster) -> Rbd:
    """As hv2 sees it."""
    return Rbd(cluster.settings(), "hv2")


@pytest.fixture
def volume(pool: Rbd) -> str:
    made = str(uuid.uuid4())
    pool.create(made, 1)
    return made


def leftovers(cluster: Cluster) -> list[str]:
    """All that there is in the pool, deleted or not."""
    found = cluster.call("rbd", "ls", "--pool", "volumes").split()
    return found + cluster.call("rbd", "trash", "ls", "volumes").split()


@contextmanager
def opened(cluster: Cluster, volume: str, *, reads: bool = False) -> Iterator[None]:
    """While this lasts a QEMU has it open."""
    drive = f"if=virtio,format=raw,readonly={'on' if reads else 'off'},file={cluster.file(volume)}"
    argv = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-accel", "tcg"]
    qemu = subprocess.Popen([*argv, "-drive", drive, "-qmp", "stdio"], stdout=-1, stdin=-1)
    assert qemu.stdout
    assert qemu.stdin
    try:
        qemu.stdin.write(b'{"execute": "qmp_capabilities"}')
        qemu.stdin.flush()
        while b"return" not in qemu.stdout.readline():  # by then it has all its devices
            assert qemu.poll() is None
        yield
    finally:
        qemu.communicate(b'{"execute": "quit"}')


def refused(pool: Rbd, volume: str, readonly: bool, said: str | None = None) -> None:
    with pytest.raises(ConflictError, match=said), pool.claim(volume, readonly=readonly):
        pytest.fail("another node's VM has it")


def test_made_listed_grown_and_removed(pool: Rbd, cluster: Cluster) -> None:
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    assert pool.list() == {}
    pool.create(one, 1)
    pool.create(two, 1)
    cluster.write(one, 1000, 7)
    for size, then in ((1, 1), (2, 2), (1, 2)):
        pool.create(one, size)
        assert pool.list() == {one: then, two: 1}
        assert pool.size(one) == then
    assert cluster.has(one, 1000, 7)
    for _ in range(2):
        pool.delete(one)
    assert pool.list() == {two: 1}
    eventually(lambda: leftovers(cluster) == [two])
    for ask in (pool.size, pool.source):
        with pytest.raises(AbsentError, match=f"no volume {one}"):
            ask(one)
    pool.check_unused(one)


def test_what_is_no_id_is_no_image(pool: Rbd) -> None:
    for name in ("../x", "", "--help", f"{uuid.uuid4()}@x"):
        with pytest.raises(ValueError, match="badly formed"):
            pool.create(name, 1)


def test_images_of_others_are_neither_listed_nor_removed(pool: Rbd, cluster: Cluster) -> None:
    cluster.call("rbd", "create", "volumes/somebodys", "--size", "1G")
    cluster.call("rbd", "create", "volumes/away", "--size", "1G")
    cluster.call("rbd", "trash", "mv", "volumes/away")
    assert pool.list() == {}
    pool.sweep()
    (trash,) = cluster.call("rbd", "trash", "ls", "volumes").splitlines()
    number, name = trash.split()
    assert name == "away"
    cluster.call("rbd", "trash", "rm", f"volumes/{number}")
    cluster.call("rbd", "rm", "volumes/somebodys")


def test_no_more_is_promised_than_there_is_room_for(pool: Rbd, volume: str) -> None:
    other = str(uuid.uuid4())
    pool.create(volume, 2)  # of 4 GiB, of which Ceph keeps a part
    for asked, size in ((other, 2), (volume, 4)):
        with pytest.raises(RejectedError, match="no room for that: 1 GiB are promised to nobody"):
            pool.create(asked, size)
    with pytest.raises(RejectedError, match="no room for that"):
        pool.copy(volume, other, nullcontext())
    assert pool.list() == {volume: 2}
    assert pool.has_room()
    pool.delete(volume)
    eventually(lambda: not pool.ceph.trash())
    pool.create(other, 2)


def test_a_volume_that_a_qemu_writes_on_is_in_use_on_all_nodes(
    cluster: Cluster, pool: Rbd, other: Rbd, volume: str
) -> None:
    with pool.claim(volume, readonly=False):
        pass
    with opened(cluster, volume):
        for each in (pool, other):
            for act in (each.check_unused, each.delete):
                with pytest.raises(ConflictError, match="in use by a VM"):
                    act(volume)
            for readonly in (True, False):
                refused(each, volume, readonly)
        with pytest.raises(ConflictError, match="in use"):
            other.copy(volume, str(uuid.uuid4()), nullcontext())
        other.create(volume, 2)  # but it grows
    assert list(pool.list()) == [volume]
    pool.check_unused(volume)
    with other.claim(volume, readonly=False):
        pass


def test_vms_that_only_read_share_a_volume(
    cluster: Cluster, pool: Rbd, other: Rbd, volume: str
) -> None:
    copy = str(uuid.uuid4())
    with pool.claim(volume, readonly=True), other.claim(volume, readonly=True):
        pass  # at the same time, too
    with opened(cluster, volume, reads=True):
        with other.claim(volume, readonly=True):
            pass
        pool.check_unused(volume, readonly=True)
        with opened(cluster, volume, reads=True):
            other.copy(volume, copy, nullcontext())
        for each in (pool, other):
            refused(each, volume, readonly=False)
            with pytest.raises(ConflictError, match="in use"):
                each.delete(volume)
    assert sorted(pool.list()) == sorted((volume, copy))


def test_of_two_nodes_that_are_about_to_open_it_one_does(
    pool: Rbd, other: Rbd, volume: str
) -> None:
    """Neither has a QEMU yet that the other could see."""
    said = "just given to a VM of another node: ask again"
    with pool.claim(volume, readonly=False):
        for readonly in (True, False):
            refused(other, volume, readonly, said)
    with other.claim(volume, readonly=True):
        refused(pool, volume, readonly=False, said=said)
    with pytest.raises(WnodesError, match="it does not start"), pool.claim(volume, readonly=False):
        raise WnodesError("it does not start")
    with other.claim(volume, readonly=False):
        pass


def test_a_bait_that_is_killed_holds_its_claim_for_a_while(
    cluster: Cluster, pool: Rbd, other: Rbd, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rbd, "_OPENING", 300)
    left = [pool.claim(volume, readonly=False)]
    left[0].__enter__()
    refused(other, volume, readonly=False)
    again = Rbd(cluster.settings(), "hv1")
    with again.claim(volume, readonly=True):  # its next one may ask again
        refused(other, volume, readonly=False)
        with again.claim(volume, readonly=True):
            pass
        refused(other, volume, readonly=False)  # of two of its VMs one has opened it
    monkeypatch.setattr(rbd, "_OPENING", 1)
    left.append(pool.claim(volume, readonly=False))
    left[1].__enter__()

    def is_free() -> bool:
        try:
            with other.claim(volume, readonly=False):
                return True
        except ConflictError:
            return False

    eventually(is_free)


def test_a_copy_is_of_its_moment(cluster: Cluster, pool: Rbd, volume: str) -> None:
    copy, events = str(uuid.uuid4()), []
    cluster.write(volume, 3, 7)
    cluster.write(volume, 900, 8)

    @contextmanager
    def moment() -> Iterator[None]:
        events.append("begins")
        yield
        events.append("ends")
        cluster.write(volume, 3, 9)

    pool.copy(volume, copy, moment())
    assert events == ["begins", "ends"]
    assert pool.list() == {volume: 1, copy: 1}
    assert cluster.has(copy, 3, 7)
    assert cluster.has(copy, 900, 8)
    assert cluster.has(copy, 500, 0)
    assert cluster.has(volume, 3, 9)
    assert cluster.call("rbd", "snap", "ls", f"volumes/{volume}") == ""
    with pytest.raises(ConflictError, match="is there already"):
        pool.copy(volume, copy, moment())
    with pytest.raises(AbsentError):
        pool.copy(str(uuid.uuid4()), str(uuid.uuid4()), moment())
    pool.delete(volume)  # the copy needs nothing of it
    eventually(lambda: leftovers(cluster) == [copy])
    assert cluster.has(copy, 3, 7)


def test_a_copy_of_what_a_qemu_of_this_node_writes_on(
    cluster: Cluster, pool: Rbd, volume: str
) -> None:
    copy = str(uuid.uuid4())
    cluster.write(volume, 3, 7)
    with opened(cluster, volume):
        pool.copy(volume, copy, nullcontext(), lambda _: pytest.fail("Ceph takes the snapshot"))
    assert cluster.has(copy, 3, 7)


def test_what_a_killed_bait_has_begun_is_begun_anew(
    cluster: Cluster, pool: Rbd, volume: str
) -> None:
    copy = str(uuid.uuid4())
    cluster.call("rbd", "snap", "create", f"volumes/{volume}@{copy}")
    cluster.call("rbd", "create", "--size", "1G", f"volumes/{copy}.copy")
    cluster.write(f"{copy}.copy", 3, 9)
    cluster.write(volume, 3, 7)
    lives = opened(cluster, f"{copy}.copy")
    with lives, pytest.raises(ConflictError, match="is being made"):
        pool.copy(volume, copy, nullcontext())
    assert pool.list() == {volume: 1}
    pool.copy(volume, copy, nullcontext())
    assert cluster.has(copy, 3, 7)


def test_what_is_being_copied_is_not_removed(cluster: Cluster, pool: Rbd, volume: str) -> None:
    """By whatever node, also where the bridge believes that it is not: the copy would be zeroes."""
    copy = str(uuid.uuid4())
    for snapshot in (copy, "an-administrators"):
        cluster.call("rbd", "snap", "create", f"volumes/{volume}@{snapshot}")
    cluster.call("rbd", "create", "--size", "1G", f"volumes/{copy}.copy")
    with opened(cluster, f"{copy}.copy"), pytest.raises(ConflictError, match="is being copied"):
        pool.delete(volume)
    assert pool.list() == {volume: 1}
    assert copy in cluster.call("rbd", "snap", "ls", f"volumes/{volume}")
    for gone in (copy, volume):  # the copy's bait was killed
        pool.delete(gone)
    eventually(lambda: leftovers(cluster) == [])


def test_the_snapshot_of_a_copy_that_is_made_does_not_stay(
    cluster: Cluster, pool: Rbd, volume: str
) -> None:
    made, half = str(uuid.uuid4()), str(uuid.uuid4())
    pool.create(made, 1)
    for copy in (made, half):  # as baits that were killed have left them
        cluster.call("rbd", "snap", "create", f"volumes/{volume}@{copy}")
    pool.sweep()
    left = cluster.call("rbd", "snap", "ls", f"volumes/{volume}")
    assert half in left
    assert made not in left


def test_a_copy_that_fails_is_none_and_leaves_nothing(
    cluster: Cluster, pool: Rbd, volume: str
) -> None:
    @contextmanager
    def moment() -> Iterator[None]:
        raise ConflictError("the VM has just started")
        yield

    for _ in range(2):
        with pytest.raises(ConflictError, match="just started"):
            pool.copy(volume, str(uuid.uuid4()), moment())
    assert leftovers(cluster) == [volume]
    assert cluster.call("rbd", "snap", "ls", f"volumes/{volume}") == ""
    half = str(uuid.uuid4())
    cluster.call("rbd", "create", "--size", "1G", f"volumes/{half}.copy")
    pool.delete(half)  # which nobody asks for again
    eventually(lambda: leftovers(cluster) == [volume])


def test_a_pool_or_user_that_is_not_there_is_no_answer(cluster: Cluster, volume: str) -> None:
    for wrong in (Rbd(cluster.settings(name="nowhere"), "hv1"),):
        for ask in (wrong.size, wrong.delete, wrong.check_unused):
            with pytest.raises(UnknownError, match="nowhere"):
                ask(volume)
        with pytest.raises(UnknownError, match="nowhere"):
            wrong.list()
        with pytest.raises(UnknownError, match="nowhere"):
            wrong.create(volume, 1)
        assert not wrong.has_room()
    with pytest.raises(UnknownError, match="couldn't connect to the cluster"):
        Rbd(cluster.settings(user="nobody"), "hv1").list()


def test_a_cluster_that_is_away_is_not_waited_for_long(
    cluster: Cluster, tmp_path: Path, volume: str
) -> None:
    conf = tmp_path / "ceph.conf"
    host = next(line for line in cluster.conf.read_text().splitlines() if "mon host" in line)
    conf.write_text(cluster.conf.read_text().replace(host, "mon host = 127.0.0.1:1"))
    away = Rbd(cluster.settings(conf=str(conf)), "hv1")
    away.ceph = replace(away.ceph, patience=0.5)
    for ask in (away.size, away.delete, away.check_unused):
        with pytest.raises(UnknownError, match="no answer within"):
            ask(volume)
    away.sweep()


def test_the_site_chooses(cluster: Cluster, pool: Rbd, volume: str) -> None:
    chosen = pool_of(Cloud(pool=cluster.settings(secret=str(uuid.UUID(int=1)))), "hv1")
    assert isinstance(chosen, Rbd)
    image = chosen.source(volume)
    assert (image.name, image.conf) == (f"volumes/{volume}", str(cluster.conf))
    assert (image.user, image.secret) == ("wnodes", str(uuid.UUID(int=1)))
    assert chosen.list() == pool.list()


def test_the_doctor_sees_the_pool(cluster: Cluster, volume: str) -> None:  # noqa: ARG001
    def seen(**values: str) -> list[Check]:
        cloud = Cloud(pool=cluster.settings(**values))
        whole = {"cluster": "box", "lrms": "slurm", "api": Api(clients=("/CN=bridge",))}
        return list(storage.checks(Config.model_validate({**whole, "cloud": cloud})))

    pool, driver = seen()
    assert pool.status is driver.status is Status.OK
    assert "Ceph's pool volumes has 3 GiB free" in pool.seen
    for wrong in ({"name": "nowhere"}, {"user": "nobody"}):
        pool, driver = seen(**wrong)
        assert pool.status is Status.FAULT
        assert "does not answer" in pool.seen
