"""One download however many ask, nothing unverified, nothing in use evicted."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bait.machine.images import Cache, free_mib, refuse_references
from tests.unit.conftest import NOBODY, TAG, Web, eventually, needs_root, part_of
from wnodes_lrms.errors import CancelledError, WnodesError
from wnodes_lrms.images import source
from wnodes_lrms.images.catalogue import Image, Part

MIB = 1 << 20


def go_on() -> None:
    pass


def image(disk: Part, form: str = "raw", kernel: Part | None = None) -> Image:
    return Image.model_validate(
        {"tag": TAG, "format": form, "disk": disk, "kernel": kernel, "context": "script"}
    )


def nobody() -> None:
    """This process's own user looks at disks."""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 100, set, nobody)


def names(cache: Cache) -> set[str]:
    return {path.name for path in cache.folder.iterdir() if path.suffix != ".seen"}


def test_a_copy_that_was_written_to_is_fetched_again(cache: Cache, web: Web) -> None:
    part = web.add("/a", os.urandom(MIB))
    cache.fetch(image(part), go_on)
    with cache.path(part).open("r+b") as file:
        file.write(b"damaged")
    cache.fetch(image(part), go_on)
    assert source.sha256(str(cache.path(part))) == part.sha256
    assert web.requests["/a"] == 2


def test_a_copy_that_was_only_touched_is_verified_and_kept(cache: Cache, web: Web) -> None:
    part = web.add("/a", os.urandom(MIB))
    cache.fetch(image(part), go_on)
    os.utime(cache.path(part))
    for _ in range(2):
        cache.fetch(image(part), go_on)
    assert web.requests["/a"] == 1


def test_twenty_callers_are_one_download(cache: Cache, web: Web) -> None:
    web.pause = 0.2
    disk, kernel = web.add("/disk", os.urandom(3 * MIB)), web.add("/kernel", b"kernel" * 1000)
    start = threading.Barrier(20)

    def ask(_number: int) -> None:
        start.wait()
        cache.fetch(image(disk, kernel=kernel), go_on)

    assert not any(cache.path(part).exists() for part in image(disk, kernel=kernel).parts)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(ask, range(20)))
    assert web.requests == {"/disk": 1, "/kernel": 1}
    assert cache.path(disk).read_bytes() == web.files["/disk"]
    assert cache.path(kernel).read_bytes() == web.files["/kernel"]
    assert cache.path(disk).stat().st_mode & 0o777 == 0o644
    assert names(cache) == {disk.sha256, kernel.sha256}
    assert all(cache.path(part).exists() for part in image(disk, kernel=kernel).parts)


def test_a_second_bait_start_downloads_nothing_and_clears_halves(cache: Cache, web: Web) -> None:
    disk = web.add("/disk", b"x" * MIB)
    cache.fetch(image(disk), go_on)
    (cache.folder / f"{'0' * 64}.part").write_text("half of it")
    again = Cache(cache.folder, 100, set, nobody)
    again.fetch(image(disk), go_on)
    assert web.requests["/disk"] == 1
    assert names(cache) == {disk.sha256}


def test_an_image_that_changes_in_the_catalogue_is_another_file(cache: Cache, web: Web) -> None:
    old, new = web.add("/old", b"old"), web.add("/new", b"new")
    cache.fetch(image(old), go_on)
    cache.fetch(image(new), go_on)
    assert names(cache) == {old.sha256, new.sha256}


def test_a_wrong_checksum_never_comes_into_the_cache(cache: Cache, web: Web) -> None:
    disk = web.add("/disk", b"as it was")
    web.files["/disk"] = b"as somebody changed it"
    with pytest.raises(WnodesError, match=f"{TAG}.*checksum.*{disk.sha256[:16]}") as caught:
        cache.fetch(image(disk), go_on)
    assert caught.value.retry
    assert names(cache) == set()
    web.files["/disk"] = b"as it was"
    cache.fetch(image(disk), go_on)
    assert cache.path(disk).read_bytes() == b"as it was"


def test_a_download_broken_off_leaves_nothing_and_may_go_better(cache: Cache, web: Web) -> None:
    disk = web.add("/disk", os.urandom(4 * MIB))
    web.broken["/disk"] = 3 * MIB
    with pytest.raises(WnodesError, match="peer closed"):
        cache.fetch(image(disk), go_on)
    assert names(cache) == set()
    web.broken.clear()
    cache.fetch(image(disk), go_on)
    assert names(cache) == {disk.sha256}


def test_the_next_caller_tries_again_when_the_first_one_failed(cache: Cache, web: Web) -> None:
    disk = web.add("/disk", b"x" * MIB)
    web.broken["/disk"] = 10
    web.pause = 0.1
    start = threading.Barrier(4)

    def ask(_number: int) -> str:
        start.wait()
        try:
            cache.fetch(image(disk), go_on)
        except WnodesError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(ask, range(4)))
    assert all("peer closed" in text for text in told)
    assert names(cache) == set()


def test_cancelling_stops_a_download(cache: Cache, web: Web) -> None:
    disk = web.add("/disk", os.urandom(8 * MIB))
    seen = 0

    def stop_at_the_third() -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        cache.fetch(image(disk), stop_at_the_third)
    assert names(cache) == set()


def is_cancelled_at_once(cache: Cache, disk: Part, keep_on: Callable[[], None]) -> bool:
    """Whether a fetch that is cancelled by `keep_on` ends before the server has said more."""
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(CancelledError):
            cache.fetch(image(disk), keep_on)
        ended.set()

    threading.Thread(target=ask).start()
    return ended.wait(60)


def test_cancelling_does_not_wait_for_somebody_elses_download(cache: Cache, web: Web) -> None:
    disk = web.add("/disk", b"x" * MIB)
    web.speaks.clear()
    first = threading.Thread(target=cache.fetch, args=(image(disk), go_on))
    first.start()
    eventually(lambda: web.requests["/disk"])

    def cancelled() -> None:
        raise CancelledError("cancelled")

    assert is_cancelled_at_once(cache, disk, cancelled)
    web.speaks.set()
    first.join()
    assert names(cache) == {disk.sha256}


def test_cancelling_does_not_wait_for_a_source_that_stands_still(cache: Cache, web: Web) -> None:
    disk = web.add("/disk", b"x" * MIB)
    web.speaks.clear()

    def cancelled() -> None:
        if web.requests["/disk"]:
            raise CancelledError("cancelled")

    assert is_cancelled_at_once(cache, disk, cancelled)


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def with_backing_file(folder: Path) -> Path:
    (folder / "secret").write_bytes(bytes(MIB))
    disk = folder / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", folder / "secret", disk)
    return disk


def with_data_file(folder: Path) -> Path:
    disk = folder / "split.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={folder}/data", disk, "1M")
    return disk


def with_a_backing_file_that_is_not_here(folder: Path) -> Path:
    disk = with_backing_file(folder)
    (folder / "secret").unlink()
    return disk


@pytest.mark.parametrize(
    "make", [with_backing_file, with_data_file, with_a_backing_file_that_is_not_here]
)
def test_a_disk_that_reads_other_files_is_refused(
    cache: Cache, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    disk = part_of(make(tmp_path))
    with pytest.raises(WnodesError, match="refers to another file"):
        cache.fetch(image(disk, "qcow2"), go_on)
    assert names(cache) == set()


def test_a_raw_disk_is_not_read_as_anything_else(cache: Cache, tmp_path: Path) -> None:
    """Said to be raw, its guest sees a qcow2 header as bytes: nothing of the node is read."""
    disk = part_of(with_backing_file(tmp_path))
    cache.fetch(image(disk, "raw"), go_on)
    assert names(cache) == {disk.sha256}


def test_a_disk_of_another_format_is_refused(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no disk\n" * 100)
    with pytest.raises(WnodesError) as caught:
        cache.fetch(image(part_of(tmp_path / "text"), "qcow2"), go_on)
    said = f"image {TAG}: its disk is damaged, or not in the format qcow2 ("
    assert caught.value.words("7").startswith(said)  # its user knows neither cache nor qemu-img
    assert names(cache) == set()


# Whoever has QEMU's uid, as a guest that took over its QEMU, opens what they can and says what.
GRAB = """
import os, sys
print(flush=True)
while not os.path.exists(sys.argv[2]):
    try:
        file = os.open(sys.argv[1], os.O_RDWR)
    except OSError:
        continue
    os.pwrite(file, b"EVIL", 0)
    print("written", flush=True)
    break
"""


@needs_root
@pytest.mark.integration
def test_who_looks_at_a_disk_can_not_write_to_it(tmp_path: Path, disk: Path) -> None:
    cache = Cache(tmp_path / "cache", 100, set, lambda: NOBODY.pw_uid)
    for at in (cache.folder, *cache.folder.parents[:-1]):
        at.chmod(at.stat().st_mode | 0o711)
    part = part_of(disk)
    place = cache.path(part)
    argv = [sys.executable, "-IS", "-c", GRAB, str(place.with_suffix(".part")), str(place)]
    who = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, **who) as grabbing:  # type: ignore[call-overload]
        assert grabbing.stdout.readline() == b"\n"
        cache.fetch(image(part, "qcow2"), go_on)
        assert grabbing.stdout.read() == b""
    assert part_of(place).sha256 == part.sha256


def test_a_good_disk_is_taken(cache: Cache, disk: Path) -> None:
    refuse_references(disk, image(part_of(disk), "qcow2"), None)
    cache.fetch(image(part_of(disk), "qcow2"), go_on)
    assert names(cache) == {part_of(disk).sha256}


def test_the_least_recently_used_go_first_and_never_one_in_use(tmp_path: Path, web: Web) -> None:
    used: set[str] = set()
    cache = Cache(tmp_path / "cache", 4, lambda: used, nobody)
    parts = {name: web.add(f"/{name}", os.urandom(MIB)) for name in "abcdef"}
    for number, name in enumerate("abcd"):
        cache.fetch(image(parts[name]), go_on)
        os.utime(cache.path(parts[name]).with_suffix(".seen"), (number, number))
    used.add(parts["a"].sha256)
    cache.fetch(image(parts["b"]), go_on)  # used again: now the youngest
    cache.fetch(image(parts["e"]), go_on)
    assert names(cache) == {parts[name].sha256 for name in "abde"}
    assert web.requests["/b"] == 1
    used.update(part.sha256 for part in parts.values())
    cache.fetch(image(parts["f"]), go_on)  # above the limit, but all are in use
    assert names(cache) == {parts[name].sha256 for name in "abdef"}
    used.clear()
    cache.fetch(image(parts["f"]), go_on)
    assert parts["f"].sha256 in names(cache)
    assert len(names(cache)) == 4


def test_eviction_and_downloads_at_the_same_time(tmp_path: Path, web: Web) -> None:
    """Files come, are renamed and go under the eyes of each eviction."""
    parts = [web.add(f"/{number}", os.urandom(MIB)) for number in range(6)]
    used: set[str] = set()
    cache = Cache(tmp_path / "cache", 2, lambda: used, nobody)

    def ask(number: int) -> None:
        cache.fetch(image(parts[number % 6]), go_on)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(120)))
    assert sum(path.stat().st_size for path in cache.folder.iterdir() if not path.suffix) <= 2 * MIB


@needs_root
def test_a_full_disk_is_said_and_leaves_room_again(small_disk: Path, web: Web) -> None:
    cache = Cache(small_disk / "cache", 100, set, nobody)
    disk = web.add("/disk", os.urandom(3 * MIB))
    before = free_mib(small_disk)
    with pytest.raises(WnodesError, match=f"{small_disk}/cache: No space left"):
        cache.fetch(image(disk), go_on)
    assert names(cache) == set()
    assert free_mib(small_disk) == before
    small = web.add("/small", os.urandom(MIB))
    cache.fetch(image(small), go_on)
    assert names(cache) == {small.sha256}


@needs_root
@pytest.mark.parametrize("form", ["told", "file", "endless", "kernel"])
def test_what_has_no_room_fills_no_disk(
    small_disk: Path, web: Web, tmp_path: Path, form: str
) -> None:
    """A source of any kind that is larger than the room there is: nothing of it is written where
    that can be told before, and a part of the disk stays free where it can't."""
    cache = Cache(small_disk / "cache", 100, set, lambda: None)
    large = web.add("/large", os.urandom(3 * MIB))
    disk = web.add("/small", b"small")
    if form == "file":
        (tmp_path / "large").write_bytes(web.files["/large"])
        large = part_of(tmp_path / "large")
    elif form == "endless":
        web.endless.add("/large")
    least = shutil.disk_usage(small_disk).free
    stopped = threading.Event()

    def watch() -> None:
        nonlocal least
        while not stopped.is_set():
            least = min(least, shutil.disk_usage(small_disk).free)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        wanted = image(disk, kernel=large) if form == "kernel" else image(large)
        with pytest.raises(WnodesError, match="No space left"):
            cache.fetch(wanted, go_on)
    finally:
        stopped.set()
        thread.join()
    assert not list(cache.folder.glob("*.part"))
    assert least >= (MIB // 50 if form == "endless" else MIB * 3 // 2)


@needs_root
def test_room_is_made_of_what_nobody_uses(small_disk: Path, web: Web) -> None:
    used: set[str] = set()
    cache = Cache(small_disk / "cache", 100, lambda: used, lambda: None)
    parts = [web.add(f"/{number}", os.urandom(MIB * 3 // 4)) for number in range(4)]
    used.add(parts[0].sha256)
    for part in parts[:3]:
        cache.fetch(image(part), go_on)
    assert names(cache) == {parts[0].sha256, parts[2].sha256}
    used.add(parts[2].sha256)
    with pytest.raises(WnodesError, match="No space left"):
        cache.fetch(image(parts[3]), go_on)
    assert names(cache) == {parts[0].sha256, parts[2].sha256}
