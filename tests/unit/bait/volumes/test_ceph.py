"""A Ceph that hangs, or says half of what it should: programs in the place of its own.

Of a real cluster: see test_rbd.py.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from bait.volumes import rbd
from bait.volumes.ceph import Ceph
from bait.volumes.rbd import Rbd
from tests.unit.bait.conftest import VOLUMES
from tests.unit.conftest import eventually
from wnodes_lrms.config.load import Pool as Settings
from wnodes_lrms.errors import AbsentError, ConflictError, RejectedError, UnknownError, WnodesError

ONE = str(VOLUMES[0])
_LOCKS = '{"lockers": [{"name": "client.4", "cookie": "c", "description": "hv1"}]}'


class Programs:
    """rbd, rados and ceph. They say what they are told to, and note what they are asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cases: dict[str, str] = {}
        for name in ("rbd", "rados", "ceph"):
            (folder / name).write_text(f'#!/bin/sh\n. "{folder}/answers"\n')
            (folder / name).chmod(0o755)
        self.says("", status=95)  # ENOTSUP

    def says(self, words: str, output: str = "", *, status: int = 0, does: str = "") -> None:
        """To whoever asks with these words; the last that fits counts."""
        log = f"echo \"${{0##*/}} $*\" >>'{self._folder}/asked'"
        self._cases.pop(words, None)
        self._cases = {words: f"{does or ':'}\nprintf %s '{output}'\nexit {status}"} | self._cases
        cases = "".join(f"*'{each}'*) {answer};;\n" for each, answer in self._cases.items())
        (self._folder / "answers").write_text(f'{log}\ncase "$*" in\n{cases}esac\n')

    def asked(self, words: str) -> list[str]:
        with suppress(FileNotFoundError):
            return [
                line for line in (self._folder / "asked").read_text().splitlines() if words in line
            ]
        return []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return made


@pytest.fixture
def ceph() -> Ceph:
    return Ceph("/etc/ceph/ceph.conf", "wnodes", "volumes")


@pytest.fixture
def pool(programs: Programs) -> Rbd:
    """With one volume, that nobody has open."""
    programs.says("info volumes/", '{"id": "17", "size": 1073741824}')
    programs.says("status volumes/", '{"watchers": []}')
    for words in ("image-meta", "lock get", "lock break", "trash mv", "snap purge"):
        programs.says(words)
    programs.says("lock info", '{"lockers": []}')
    for words in ("trash ls", "snap ls"):
        programs.says(words, "[]")
    return Rbd(Settings(kind="rbd"), "hv1")


ASKED: dict[str, Callable[[Ceph], object]] = {
    "info": lambda ceph: (ceph.number("volumes/x"), ceph.size("volumes/x")),
    "status": lambda ceph: ceph.watchers("volumes/x"),
    "image-meta list": lambda ceph: ceph.metadata("volumes/x", "use"),
    "snap ls": lambda ceph: ceph.snapshots("volumes/x"),
    "ls --long": lambda ceph: ceph.images(),
    "trash ls": lambda ceph: ceph.trash(),
    "df": lambda ceph: ceph.room(),
    "pool stats": lambda ceph: ceph.promised(),
    "lock info": lambda ceph: ceph.unlock("header", lambda *_: True),
}
HALVES = ("[{}]", '[{"image": "x"}]', "17", '{"a')


@pytest.mark.parametrize("words", ASKED)
@pytest.mark.parametrize("half", HALVES)
def test_half_an_answer_is_none(programs: Programs, ceph: Ceph, words: str, half: str) -> None:
    programs.says(words, half)
    with pytest.raises(UnknownError, match="Ceph's answer is not"):
        ASKED[words](ceph)


@pytest.mark.parametrize("pools", ["", '{"name": "other"}', '{"name": "volumes", "stats": {}}'])
def test_room_is_that_of_the_pool(programs: Programs, ceph: Ceph, pools: str) -> None:
    programs.says("df", f'{{"pools": [{pools}]}}')
    with pytest.raises(UnknownError):
        ceph.room()


@pytest.mark.parametrize("words", ASKED)
def test_nothing_at_all_is_an_answer_only_where_there_may_be_nothing(
    programs: Programs, ceph: Ceph, words: str
) -> None:
    programs.says(words, "")
    if words in ("image-meta list", "snap ls", "ls --long", "trash ls", "lock info"):
        assert not ASKED[words](ceph)
    else:
        with pytest.raises(UnknownError, match="Ceph's answer is not"):
            ASKED[words](ceph)


def test_what_is_there_is_read(programs: Programs, ceph: Ceph) -> None:
    programs.says("info", '{"id": "17", "size": 5}')
    programs.says("status", '{"watchers": [{}, {}]}')
    programs.says("image-meta list", '{"use": "read"}')
    listed = '[{"image": "x", "size": 5}, {"image": "x", "size": 4, "snapshot": "y"}]'
    programs.says("ls --long", listed)
    programs.says("snap ls", '[{"id": 4, "name": "y"}]')
    programs.says("trash ls", '[{"id": "9", "name": "x"}]')
    programs.says("df", '{"pools": [{"name": "volumes", "stats": {"max_avail": 7, "stored": 3}}]}')
    programs.says("pool stats", '{"images": {"provisioned_bytes": 8}}')
    programs.says("lock info", _LOCKS)
    programs.says("lock break")
    found = [ask(ceph) for ask in ASKED.values()]
    assert found[:4] == [("17", 5), 2, "read", ["y"]]
    assert [(each.name, each.size, each.snapshot) for each in ceph.images()] == [
        ("x", 5, ""),
        ("x", 4, "y"),
    ]
    assert found[5:] == [{"9": "x"}, (7, 3), 8, 1]
    (broken,) = programs.asked("lock break")
    assert "lock break header wnodes client.4 --lock-cookie c" in broken


@pytest.mark.parametrize(
    ("status", "does", "kind"),
    [
        (2, "", AbsentError),
        (16, "", ConflictError),
        (17, "", ConflictError),
        (22, "", WnodesError),
        (2, "echo 'rbd: error opening pool volumes: (2) No such file' >&2", UnknownError),
        (2, 'echo "rbd: couldn\'t connect to the cluster!" >&2', UnknownError),
        (108, "", UnknownError),  # shut out by the cluster
        (110, "", UnknownError),  # timed out
        (0, "kill -KILL $$", UnknownError),
    ],
)
def test_what_follows_from_how_rbd_ends(
    programs: Programs, ceph: Ceph, status: int, does: str, kind: type[WnodesError]
) -> None:
    programs.says("resize", status=status, does=does)
    with pytest.raises(WnodesError) as raised:
        ceph.rbd("resize", "volumes/x")
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("said", "is_answer"),
    [
        ("error: failed to lock: (16) Device or resource busy", True),
        ("ERROR: failed getting lock: (2) No such file or directory", True),
        ("couldn't connect to cluster: (2) No such file or directory", False),
        ("error opening pool volumes: (2) No such file or directory", False),
        ("", False),
    ],
)
def test_who_does_not_come_as_far_as_the_lock_was_not_refused_it(
    programs: Programs, ceph: Ceph, said: str, is_answer: bool
) -> None:
    programs.says("lock get", status=1, does=f'echo "{said}" >&2')
    if is_answer:
        assert not ceph.lock("header", "c", "hv1", 60, shared=False)
    else:
        with pytest.raises(UnknownError):
            ceph.lock("header", "c", "hv1", 60, shared=False)


def test_a_pool_of_which_half_is_told_has_no_room_and_is_not_swept(
    programs: Programs, pool: Rbd, caplog: pytest.LogCaptureFixture
) -> None:
    for words in ("df", "ls --long", "trash ls"):
        programs.says(words, "[{}]")
    assert not pool.has_room()
    pool.sweep()
    assert "keep their room for now" in caplog.text


def test_a_claim_that_took_too_long_to_ask_for_is_none(
    programs: Programs, pool: Rbd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might end before QEMU has opened the volume."""
    with pool.claim(ONE, readonly=False):
        pass
    monkeypatch.setattr(rbd, "_ASKING", 0.0)
    with pytest.raises(ConflictError, match="slow at present"), pool.claim(ONE, readonly=False):
        pytest.fail("it is claimed")
    assert len(programs.asked("lock get")) == len(programs.asked("lock info")) == 2


def test_a_snapshot_that_can_not_be_dropped_makes_no_copy_fail(
    programs: Programs, pool: Rbd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy, dropped = str(VOLUMES[1]), tmp_path / "dropped"
    programs.says(f"info volumes/{copy}", status=2)
    programs.says(f"status volumes/{copy}.copy", status=2)
    programs.says(
        "df", '{"pools": [{"name": "volumes", "stats": {"max_avail": 1e12, "stored": 0}}]}'
    )
    programs.says("pool stats", '{"images": {"provisioned_bytes": 0}}')
    for words in ("snap create", " cp ", "rename"):
        programs.says(words)
    programs.says("snap rm", does=f"[ -e '{dropped}' ] && exit 110; touch '{dropped}'; exit 2")
    pool.copy(ONE, copy, nullcontext(), lambda _: None)
    (renamed,) = programs.asked("rename")
    assert renamed.endswith(f"rename volumes/{copy}.copy volumes/{copy}")
    assert f"a snapshot of {ONE} keeps its room for now" in caplog.text
    dropped.unlink()
    programs.says("rename", status=5, does="echo 'rbd: rename error' >&2")
    with pytest.raises(WnodesError, match="rename error"):  # its own fault, not the snapshot's
        pool.copy(ONE, copy, nullcontext(), lambda _: None)


def test_room_that_a_copy_will_need_is_promised_to_nobody_else(
    programs: Programs, pool: Rbd
) -> None:
    """Its image is there only once the snapshot is."""
    copy, other = map(str, VOLUMES[1:3])
    for absent in (f"info volumes/{copy}", f"info volumes/{other}", f"status volumes/{copy}.copy"):
        programs.says(absent, status=2)
    room = (2 << 30) + (64 << 20)
    stats = f'{{"max_avail": {room}, "stored": 0}}'
    programs.says("df", f'{{"pools": [{{"name": "volumes", "stats": {stats}}}]}}')
    programs.says("pool stats", '{"images": {"provisioned_bytes": 0}}')
    programs.says("ls --long", "[]")
    for words in ("snap create", "snap rm", " cp ", "rename", "create --size"):
        programs.says(words)

    @contextmanager
    def moment() -> Iterator[None]:
        with pytest.raises(RejectedError, match="1 GiB are promised to nobody yet, 2 are asked"):
            pool.create(other, 2)
        listed = f'[{{"image": "{copy}.copy", "size": {1 << 30}}}]'
        programs.says("ls --long", listed)  # it is filled, and counts once
        programs.says("pool stats", f'{{"images": {{"provisioned_bytes": {1 << 30}}}}}')
        with pytest.raises(RejectedError, match="1 GiB are promised to nobody yet, 2 are asked"):
            pool.create(other, 2)
        programs.says("pool stats", '{"images": {"provisioned_bytes": 0}}')
        yield

    pool.copy(ONE, copy, moment(), lambda _: None)
    pool.create(other, 2)


def test_what_is_being_copied_is_not_deleted(programs: Programs, pool: Rbd) -> None:
    """Who reads a snapshot is no watcher of what it is of."""
    copy = str(VOLUMES[1])
    programs.says("snap ls", f'[{{"name": "of-an-administrator"}}, {{"name": "{copy}"}}]')
    programs.says(f"status volumes/{copy}.copy", '{"watchers": [{}]}')
    with pytest.raises(ConflictError, match="is being copied"):
        pool.delete(ONE)
    assert programs.asked("trash mv") == programs.asked("snap purge") == []
    programs.says(f"status volumes/{copy}.copy", status=2)  # its bait was killed
    pool.delete(ONE)
    assert programs.asked("trash mv")


def test_what_is_deleted_is_removed_by_one_thread(
    pool: Rbd, programs: Programs, tmp_path: Path
) -> None:
    """Each removal may take an hour, and nothing else counts how many volumes are deleted."""
    trash = tmp_path / "trash"
    trash.write_text("[]")
    programs.says("trash ls", does=f"cat '{trash}'")
    go_on = tmp_path / "go-on"
    programs.says("trash rm", does=f"until [ -e '{go_on}' ]; do sleep 0.1; done")
    before = {*threading.enumerate()}

    def more() -> int:
        return len({*threading.enumerate()} - before)

    trash.write_text(f'[{{"id": "1", "name": "{ONE}"}}]')
    pool.delete(ONE)
    eventually(lambda: programs.asked("trash rm"))
    trash.write_text(f'[{{"id": "2", "name": "{VOLUMES[1]}"}}, {{"id": "3", "name": "other"}}]')
    for _ in range(3):
        pool.delete(str(VOLUMES[1]))
    eventually(lambda: more() == 1)
    assert len(programs.asked("trash rm")) == 1
    go_on.touch()
    eventually(lambda: more() == 0)
    removed = [line.split()[-1] for line in programs.asked("trash rm")]
    assert removed == ["volumes/1", "volumes/2"]
