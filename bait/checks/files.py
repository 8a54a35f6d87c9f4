"""What a node's checks look at in its files: images and their copies, room, who may write what."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx

from bait.checks import file_verdicts
from bait.checks.file_verdicts import Copy, Mode, PartSeen
from bait.machine.images import free_mib
from bait.machine.room import promised
from bait.machine.scratch import MKFS
from wnodes_lrms.config.load import Config
from wnodes_lrms.doctor import Check, fault, warning
from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.images import catalogue, examine, source, web
from wnodes_lrms.images.catalogue import Image, Part
from wnodes_lrms.run import LOCAL, run

_WEB = 3.0  # seconds for a web server to answer
_READING = 20.0  # seconds for reading cached files again
_MIB = 1 << 20
_LIBVIRT_MAY_START = ("/usr/bin", "/usr/sbin")  # by Debian's profile of its daemon
_LOCAL_PROFILES = Path("/etc/apparmor.d/local")
# Prints those of its arguments that the caller can't pass through.
_PASSES = 'for folder; do [ -x "$folder" ] || echo "$folder"; done'


def images(config: Config) -> Iterator[Check]:
    """A check for each image of the catalogue."""
    folder, cache = Path(config.images.catalogue), Path(config.images.cache_dir)
    tags = catalogue.tags(folder)
    if not tags:
        yield warning("images", f"{folder} lists none", "`wnodes image add`; see wnodes(1)")
    until = time.monotonic() + _READING
    for tag in tags:
        try:
            entry = catalogue.read(folder, tag)
        except WnodesError as error:
            said = str(error).replace("\n", "; ")
            yield fault(f"image {tag}", said, f"mend {folder / tag}.toml")
            continue
        yield _image(entry, cache, until, config.images.credentials)


def _image(entry: Image, cache: Path, until: float, credentials: str | None) -> Check:
    parts = [
        PartSeen(
            part.source,
            unreachable(part.source, credentials),
            copy_of(part, cache / part.sha256, until),
            cache / part.sha256,
        )
        for part in entry.parts
    ]
    return file_verdicts.image(entry.tag, parts, _unfit(entry, cache))


def _unfit(entry: Image, cache: Path) -> str | None:
    """Why no VM starts from an image, as far as its files tell that this node has."""
    places = {role: (Path(part.source), cache / part.sha256) for role, part in entry.roles.items()}
    here = {
        role: next((path for path in paths if path.is_file()), None)
        for role, paths in places.items()
    }
    try:
        examine.refuse_unfit(entry, {role: path for role, path in here.items() if path})
    except RejectedError as error:
        return str(error)
    except OSError:  # it is told of as a source that can't be had
        return None
    return None


def unreachable(where: str, credentials: str | None = None) -> str | None:
    """Why an image file can't be had: from its path, or by asking its web server for the head."""
    try:
        if where.startswith("/"):
            with Path(where).open("rb") as file:
                file.read(1)
            return None
        auth = web.login(credentials)
        answer = httpx.head(where, timeout=_WEB, follow_redirects=True, auth=auth)
        # Some servers give files and refuse to give their heads.
        if answer.is_error and answer.status_code not in (405, 501):
            return f"HTTP {answer.status_code}"
    except OSError as error:
        return error.strerror or str(error)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, WnodesError) as error:
        return str(error)
    return None


def copy_of(part: Part, path: Path, until: float) -> Copy:
    """The node's copy, read again unless that takes longer than `until` (monotonic seconds)."""
    if not path.exists():
        return Copy.ABSENT
    digest = hashlib.sha256()
    try:
        for chunk in source.read(str(path)):
            if time.monotonic() > until:
                return Copy.UNREAD
            digest.update(chunk)
    except WnodesError:
        return Copy.WRONG
    return Copy.RIGHT if digest.hexdigest() == part.sha256 else Copy.WRONG


def space(config: Config) -> Iterator[Check]:
    """Room for overlays and for the cache."""
    state, cache = Path(config.bait.state_dir), Path(config.images.cache_dir)
    free = free_mib(_existing(state)) - promised(state)
    yield file_verdicts.space(state, free, config.machine.min_free_disk)
    largest = max((rule.scratch_most or rule.scratch for rule in config.batch), default=0)
    if largest:
        room, able = free - config.machine.min_free_disk, shutil.which(MKFS) is not None
        yield file_verdicts.scratch(largest, room, able)
    used = sum(file.stat().st_size for file in cache.glob("*") if file.is_file()) // _MIB
    yield file_verdicts.cache_space(
        cache, free_mib(_existing(cache)), used, config.images.cache_limit
    )


def _existing(path: Path) -> Path:
    """The path, or the closest folder above it that is there."""
    return next(at for at in (path, *path.parents) if at.exists())


def permissions(config: Config, config_file: Path) -> Iterator[Check]:
    """Whether anybody but root could change what root trusts, and starters reach the socket."""
    folder = Path(config.images.catalogue)
    private = [config_file.absolute(), folder, *folder.glob("*.toml")]
    private += [
        Path(config.bait.state_dir),
        Path(config.bait.run_dir),
        Path(config.images.cache_dir),
    ]
    found = (
        file_verdicts.open_to_others(lineage(path.resolve()), os.geteuid())
        for path in private
        if path.exists()
    )
    yield from file_verdicts.permissions(dict.fromkeys(trouble for trouble in found if trouble))
    socket = Path(config.bait.socket)
    if socket.exists():
        yield file_verdicts.control_socket(socket, socket.stat().st_mode)


def lineage(path: Path) -> list[Mode]:
    """Who may write to the path and to each folder above it, from the top."""
    found = []
    for at in (*reversed(path.parents), path):
        status = at.stat()
        found.append(Mode(at, status.st_uid, status.st_gid, status.st_mode))
    return found


def apparmor_lets_start(program: Path) -> bool:
    """Whether AppArmor lets libvirt's daemon start it, by Debian's profile or the site's words."""
    if str(program.parent) in _LIBVIRT_MAY_START:
        return True
    profiles = [_LOCAL_PROFILES / f"usr.sbin.{name}" for name in ("libvirtd", "virtqemud")]
    added = [path.read_text() for path in profiles if path.is_file()]
    return any(
        line.strip().startswith(str(program)) for text in added for line in text.splitlines()
    )


def traversal(config: Config, qemu: tuple[int, int] | None) -> Check:
    """Whether QEMU, as this uid and gid, comes to the files of VMs."""
    if qemu is None:
        return file_verdicts.traversal(None, [])
    folders = (config.bait.state_dir, config.bait.run_dir, config.images.cache_dir)
    return file_verdicts.traversal(qemu[0], closed_to(*qemu, map(Path, folders)))


def closed_to(uid: int, gid: int, folders: Iterable[Path]) -> list[Path]:
    """The folders, or those above them, that a user can't pass. Tried as this user, so that
    access lists and security modules have their say."""
    chains = (at for folder in folders for at in (*reversed(folder.parents), folder))
    there = [str(at) for at in dict.fromkeys(chains) if at.exists()]
    argv = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--reset-env"]
    argv += ["sh", "-c", _PASSES, "sh", *there]
    return [Path(line) for line in run(argv, deadline=LOCAL).split()]
