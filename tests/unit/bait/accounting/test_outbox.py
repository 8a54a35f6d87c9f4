"""The way into SSM's queue: dirq's own reader finds what is put there, whole and in order."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dirq.QueueSimple import QueueSimple

from bait.accounting.outbox import Outbox
from tests.unit.conftest import NOBODY, needs_root
from wnodes_lrms.errors import WnodesError


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    folder = tmp_path / "outgoing"
    folder.mkdir(mode=0o750)
    return folder


def take_all(queue: Path) -> list[str]:
    """What SSM does: lock, read, remove, tidy."""
    reader = QueueSimple(str(queue))
    texts = []
    for name in reader:
        assert reader.lock(name)
        texts.append(reader.get(name).decode("ascii"))
        reader.remove(name)
    reader.purge()
    return texts


def sent(outbox: Outbox, number: int, text: str) -> str:
    outbox.prepare(number, text)
    return outbox.hand_over(number)


def test_what_is_prepared_is_not_in_the_queue_yet(queue: Path) -> None:
    outbox = Outbox(queue, "hv1")
    outbox.prepare(1, "one")
    assert outbox.holds(1)
    assert (QueueSimple(str(queue)).count(), take_all(queue)) == (0, [])
    name = outbox.hand_over(1)
    assert not outbox.holds(1)
    assert (queue / name).read_text() == "one"
    assert take_all(queue) == ["one"]
    assert not outbox.holds(1)


def test_an_element_half_made_is_made_anew(queue: Path) -> None:
    outbox = Outbox(queue, "hv1")
    outbox.prepare(1, "old")
    (outbox.stage / "1.new").write_text("half")
    outbox.prepare(1, "new")
    outbox.hand_over(1)
    assert take_all(queue) == ["new"]


def test_the_order_stays_when_the_clock_is_set_back(
    queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(queue, "hv1")
    sent(outbox, 1, "first")
    monkeypatch.setattr(time, "time", lambda: 1e9)
    sent(outbox, 2, "second")
    monkeypatch.undo()
    sent(outbox, 3, "third")
    assert take_all(queue) == ["first", "second", "third"]


def test_other_producers_of_the_queue_are_not_in_the_way(queue: Path) -> None:
    theirs = QueueSimple(str(queue), granularity=1)
    for number in range(3):
        theirs.add(f"theirs {number}")
        sent(Outbox(queue, "hv1"), number, f"hv1 {number}")
        sent(Outbox(queue, "hv2"), number, f"hv2 {number}")
    assert len(take_all(queue)) == 9


def test_nothing_hidden_is_left(queue: Path) -> None:
    outbox = Outbox(queue, "hv1")
    sent(outbox, 1, "one")
    outbox.clear()
    assert take_all(queue) == ["one"]
    assert [path.name[0] for path in queue.iterdir()] in ([], ["6"])


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A queue of another user's, that they can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    queue = folder / "outgoing"
    queue.mkdir()
    queue.chmod(0o750)
    os.chown(queue, NOBODY.pw_uid, NOBODY.pw_gid)
    yield queue
    shutil.rmtree(folder)


@needs_root
@pytest.mark.parametrize("name", [".wnodes-hv1", ".wnodes-hv1/1", ".wnodes-hv1/1.new"])
def test_the_queues_owner_leads_root_nowhere(theirs: Path, tmp_path: Path, name: str) -> None:
    """Whose queue it is puts a link to a place of root's where a folder or file of ours goes."""
    secret = tmp_path / "roots"
    (secret / "1").mkdir(parents=True)
    (secret / "1" / "kept").write_text("root's")
    secret.chmod(0o700)
    (theirs / name).parent.mkdir(exist_ok=True)
    (theirs / name).symlink_to(secret if "new" not in name else secret / "1" / "kept")
    with pytest.raises(WnodesError):
        Outbox(theirs, "hv1").prepare(1, "one")
    assert (secret / "1" / "kept").read_text() == "root's"
    assert {path.stat().st_uid for path in (secret, *secret.rglob("*"))} == {0}


@needs_root
def test_the_queues_owner_has_none_of_roots_groups(theirs: Path) -> None:
    """They put a link to a file that root's group may write, as a daemon of root's is in it."""
    file = theirs.parent / "groups"
    file.write_text("root's")
    file.chmod(0o660)
    before = os.getgroups()
    os.setgroups([0])
    try:
        (theirs / ".wnodes-hv1").mkdir()
        (theirs / ".wnodes-hv1" / "1.new").symlink_to(file)
        with pytest.raises(WnodesError, match="Permission denied"):
            Outbox(theirs, "hv1").prepare(1, "one")
        assert file.read_text() == "root's"
        assert os.getgroups() == [0]
    finally:
        os.setgroups(before)


@needs_root
def test_what_is_done_for_others_is_over_with_it(theirs: Path, tmp_path: Path) -> None:
    groups = os.getgroups()
    sent(Outbox(theirs, "hv1"), 1, "one")
    (tmp_path / "mine").touch()
    assert (tmp_path / "mine").stat().st_uid == 0
    assert os.getgroups() == groups


@needs_root
def test_a_queue_of_roots_that_others_write_to_is_refused(queue: Path) -> None:
    queue.chmod(0o770)
    with pytest.raises(WnodesError, match="give it to SSM's user"):
        Outbox(queue, "hv1")


@needs_root
def test_the_queues_owner_can_take_what_root_put_there(theirs: Path) -> None:
    name = sent(Outbox(theirs, "hv1"), 1, "one")
    for path, mode in ((theirs / name, 0o640), ((theirs / name).parent, 0o750)):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
        assert status.st_mode & 0o777 == mode


@needs_root
def test_a_full_disk_is_said_and_does_no_harm(small_disk: Path) -> None:
    small_disk.chmod(0o755)
    outbox = Outbox(small_disk, "hv1")
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(WnodesError, match=r"No space left on device; nothing is lost"):
        outbox.prepare(1, "x" * 10_000)
    filler.unlink()
    sent(outbox, 1, "whole")
    assert take_all(small_disk) == ["whole"]


@pytest.mark.parametrize("what", ["nothing", "a file"])
def test_a_wrong_queue_is_said_at_once(tmp_path: Path, what: str) -> None:
    path = tmp_path / "queue"
    if what == "a file":
        path.touch()
    with pytest.raises(WnodesError, match=rf"queue {path}: .*set \[accounting\] queue"):
        Outbox(path, "hv1")


def test_a_queue_that_is_another_one_than_before_is_no_proof(queue: Path) -> None:
    with pytest.raises(WnodesError, match="message 1 was when this node stopped"):
        Outbox(queue, "hv1").holds(1)
