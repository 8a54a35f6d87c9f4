"""Hooks of a batch system as values: the files that belong there, and what only the site may set.

What they are for one LRMS is decided in its folder; lrms/hookfiles.py writes and compares
them. The batch system's own configuration is the site's: what to set there is told, never written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wnodes_lrms.config.load import Config

MARK = b"wnodes-lrms"  # stands near the top of every file of ours, and tells them from the site's
LEASE_PROGRAM = "wnodes-lease"
# What runs stands behind what it imports: jobs start and end while the files are written.
STARTER_FILES = (
    *("baitsocket.py", "requeue.py", "run.sh", "payload.py", "baitlink.py", "untar.py"),
    *("results.py", "guestlink.py", "streams.py", "watch.py", "starter.py"),
)


@dataclass(frozen=True)
class File:
    path: Path
    content: bytes
    mode: int


@dataclass(frozen=True)
class Link:
    path: Path
    target: Path


@dataclass(frozen=True)
class Place:
    """Where a file of ours stands in place of the site's own, and where that one waits."""

    path: Path
    aside: Path


@dataclass(frozen=True)
class HookSet:
    """All that is to be there.

    `lines`: what the batch system's configuration lacks; `advice`: what it may have besides.
    `adopt`: the places where the site's own file stands now, and is to be set aside.
    """

    files: tuple[File, ...]
    links: tuple[Link, ...] = ()
    lines: tuple[str, ...] = ()
    adopt: tuple[Place, ...] = ()
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """Where the hooks go, and what they are told: the bait's socket (with %n) and the retries."""

    folder: Path
    socket: str
    retries: int
    owner: int = 0  # uid


def site_of(config: Config) -> Site:
    """What most batch systems' hooks need."""
    return Site(Path(config.hooks.folder), config.bait.socket, config.retries)


class Folder(Protocol):
    """Where the hooks of any batch system go."""

    @property
    def folder(self) -> Path: ...
    @property
    def owner(self) -> int: ...


class Hooks(Protocol):
    """The hooks of one batch system, as this site has it."""

    site: Folder

    @property
    def folder(self) -> Path:
        """Where our own files go."""
        return self.site.folder

    @property
    def owner(self) -> int:
        """The uid that they belong to."""
        return self.site.owner

    @property
    def where(self) -> str:
        """What the lines are set in: a file, or a command's name."""

    @property
    def remedy(self) -> str:
        """What makes the batch system see such a line: completes «set it and …»."""

    def plan(self) -> HookSet:
        """What is to be there. Raises RejectedError where the site's own files can't be told or
        kept, ConfigError where its configuration can't be read."""

    def take_back(self) -> list[str]:
        """What must change in the batch system's configuration before the hooks can go."""

    def places(self) -> tuple[Place, ...]:
        """Where a file of ours may stand in place of the site's own."""
        return ()

    def links(self) -> list[Path]:
        """Links of ours in folders of the site."""
        return []

    def policy(self) -> File | None:
        """The file that must follow each change of the catalogue, if there is one."""


def is_ours(content: bytes) -> bool:
    """Whether a file of this content is one of ours."""
    return MARK in content[:512]


def content_of(path: Path) -> bytes | None:
    """A regular file's bytes; None if there is none (a dangling link counts as none)."""
    try:
        return path.read_bytes() if path.is_file() else None
    except FileNotFoundError:
        return None
