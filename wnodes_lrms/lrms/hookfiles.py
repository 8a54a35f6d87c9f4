"""Puts the hooks of a batch system in place, compares them, and takes them off again.

Each write is a whole file that appears at once, and is made only where something differs. What is
not recognisably ours is never overwritten or removed.
"""

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from wnodes_lrms.errors import RejectedError, WnodesError
from wnodes_lrms.folders import LISTED, have
from wnodes_lrms.lrms import madefolders
from wnodes_lrms.lrms.hookset import File, Hooks, HookSet, Link, Place, content_of, is_ours


class HooksInUseError(WnodesError):
    """The batch system still names the hooks; `lines` are what must be set before they can go."""

    retry = False

    def __init__(self, hooks: Hooks, lines: list[str]) -> None:
        self.lines = lines
        super().__init__(
            f"{hooks.where} still names the hooks, and jobs fail where hooks are gone; nothing was"
            f" removed. Set these, {hooks.remedy}, and try again: " + "; ".join(lines)
        )


@dataclass(frozen=True)
class Outcome:
    """`changed`: what was written, moved or removed. `lines`: what the batch system's
    configuration does not say yet. `left`: what was found and not touched, with the reason."""

    changed: tuple[str, ...]
    lines: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A difference between what is there and what should be."""

    what: str
    where: str
    remedy: str


def install(hooks: Hooks) -> Outcome:
    """Write what is missing or differs. Can be run again at any time.

    Raises RejectedError where a file that is not ours stands in the way, ConfigError where the
    batch system's configuration can't be read, OSError where a write fails."""
    wanted = hooks.plan()
    _refuse_foreign(wanted)
    changed: list[str] = []
    if not hooks.folder.is_dir():
        note = madefolders.note(hooks.folder)
        have(hooks.folder, LISTED)
        changed.append(str(hooks.folder))
        if note:
            _write(note, hooks.owner)
    _set_owner(hooks.folder, 0o755, hooks.owner)
    for place in wanted.adopt:
        _set_aside(place)
        changed.append(f"{place.path} -> {place.aside}")
    changed += [str(file.path) for file in wanted.files if _write(file, hooks.owner)]
    changed += [str(link.path) for link in wanted.links if _link(link)]
    return Outcome(tuple(changed), (*wanted.lines, *wanted.advice))


def check(hooks: Hooks) -> list[Finding]:
    """Every difference from what `install` would leave, and every line that is missing."""
    again = "run `wnodes hooks install` again"
    try:
        wanted = hooks.plan()
    except RejectedError as error:
        return [Finding(str(error), hooks.where, "then " + again)]
    adopted = {place.path for place in wanted.adopt}
    findings: list[Finding] = []
    for file in wanted.files:
        what: str | None
        if file.path in adopted:
            what = "the site's own file stands here, so image requests are not seen"
        else:
            what = _difference(file, hooks.owner)
        if what:
            findings.append(Finding(what, str(file.path), again))
    if hooks.folder.is_dir() and (wrong := _wrong_mode(hooks.folder.stat(), 0o755, hooks.owner)):
        findings.append(Finding(wrong, str(hooks.folder), again))
    findings += [
        Finding(f"does not lead to {link.target}", str(link.path), again)
        for link in wanted.links
        if not _leads(link)
    ]
    return findings + [
        Finding(f"lacks {line}", hooks.where, f"set it and {hooks.remedy}") for line in wanted.lines
    ]


def remove(hooks: Hooks) -> Outcome:
    """Take everything of ours off, and put the site's own files back as they were.

    Raises HooksInUseError, before anything is removed, while the batch system names the hooks."""
    if lines := hooks.take_back():
        raise HooksInUseError(hooks, lines)
    links = hooks.links()
    made = madefolders.noted(hooks.folder)
    changed: list[str] = []
    left: list[str] = []
    for place in hooks.places():
        _give_back(place, hooks.folder.is_dir(), changed, left)
    for path in links:
        path.unlink()
        changed.append(str(path))
    for path in sorted(hooks.folder.iterdir()) if hooks.folder.is_dir() else ():
        content = content_of(path)
        if content is not None and is_ours(content):
            path.unlink()
            changed.append(str(path))
        else:
            left.append(f"{path}: not ours")
    if hooks.folder.is_dir() and not left:
        hooks.folder.rmdir()
        changed.append(str(hooks.folder))
        with contextlib.suppress(OSError):  # somebody has put something there since
            for folder in made:
                folder.rmdir()
                changed.append(str(folder))
    return Outcome(tuple(changed), left=tuple(left))


def write_policy(hooks: Hooks) -> bool:
    """Bring the table of tags up to date, if hooks are installed here; whether it changed."""
    table = hooks.policy()
    return table is not None and hooks.folder.is_dir() and _write(table, hooks.owner)


def _give_back(place: Place, installed: bool, changed: list[str], left: list[str]) -> None:
    ours, own = content_of(place.path), content_of(place.aside)
    if ours is not None and is_ours(ours):
        if own is not None:
            place.aside.replace(place.path)
            changed.append(f"{place.aside} -> {place.path}")
        else:
            place.path.unlink()
            changed.append(str(place.path))
    elif own is not None and installed:
        if own == ours:
            place.aside.unlink()
            changed.append(str(place.aside))
        else:
            left.append(f"{place.aside}: an earlier file of the site's, which only it knows")


def _refuse_foreign(wanted: HookSet) -> None:
    adopted = {place.path for place in wanted.adopt}
    for file in wanted.files:
        if file.path in adopted:
            continue
        content = content_of(file.path)
        if (content is not None and not is_ours(content)) or file.path.is_dir():
            raise RejectedError(f"{file.path} is there already and not ours: move it away first")
    for link in wanted.links:
        if os.path.lexists(link.path) and not link.path.is_symlink():
            raise RejectedError(f"{link.path} is there already and not ours: move it away first")


def _set_aside(place: Place) -> None:
    """Give the site's file its second name. A hard link keeps its owner, mode and times, and
    leaves no moment in which the batch system finds none."""
    if place.aside.exists() and place.aside.samefile(place.path):
        return  # an install that was interrupted
    spare = place.aside.with_name(f".{place.aside.name}.{os.getpid()}")
    os.link(place.path, spare, follow_symlinks=False)
    spare.replace(place.aside)


def _write(file: File, owner: int) -> bool:
    if _difference(file, owner) is None:
        return False
    descriptor, name = tempfile.mkstemp(dir=file.path.parent, prefix=f".{file.path.name}.")
    spare = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.content)
        _set_owner(spare, file.mode, owner)
        spare.replace(file.path)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise
    return True


def _link(link: Link) -> bool:
    if _leads(link):
        return False
    # The dot keeps the spare out of the site's pattern.
    spare = link.path.with_name(f".{link.path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        spare.unlink()
    spare.symlink_to(link.target)
    spare.replace(link.path)
    return True


def _leads(link: Link) -> bool:
    return link.path.is_symlink() and link.path.readlink() == link.target


def _set_owner(path: Path, mode: int, owner: int) -> None:
    if path.stat().st_uid != owner:
        os.chown(path, owner, -1)
    path.chmod(mode)


def _difference(file: File, owner: int) -> str | None:
    content = content_of(file.path)
    if content is None:
        return "is missing"
    if content != file.content:
        return "differs from what belongs here"
    return _wrong_mode(file.path.stat(), file.mode, owner)


def _wrong_mode(status: os.stat_result, mode: int, owner: int) -> str | None:
    if status.st_uid != owner:
        return f"belongs to uid {status.st_uid}, not {owner}"
    if stat.S_IMODE(status.st_mode) != mode:
        return f"has mode {stat.S_IMODE(status.st_mode):o}, not {mode:o}"
    return None
