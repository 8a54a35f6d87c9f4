"""The ordinary user of the site, and a group that he is in."""

import grp
import pwd
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import SiteError
from .layout import Layout, Memory
from .process import pids, run, started_at

USER = "griduser"
GROUP = "gridgroup"


def make(site: Layout, memory: Memory) -> None:
    """Make both, unless the machine has them already; those stay when the site goes."""
    if not _known(grp.getgrnam, GROUP):
        run(["groupadd", GROUP])
        memory.set("made_group", True)
    if not _known(pwd.getpwnam, USER):
        home = site.home / USER
        site.home.mkdir(parents=True, exist_ok=True)
        run(["useradd", "--create-home", "--home-dir", str(home), "--shell", "/bin/bash", USER])
        memory.set("made_user", True)
    if USER not in grp.getgrnam(GROUP).gr_mem:
        run(["usermod", "--append", "--groups", GROUP, USER])


def home() -> str:
    """The user's home."""
    return pwd.getpwnam(USER).pw_dir


def remove(site: Layout, memory: Memory) -> None:
    """Take away what `make` made, the home too. Raises SiteError if the user is busy."""
    if memory.get("made_user") and _known(pwd.getpwnam, USER):
        busy = _processes_of(pwd.getpwnam(USER).pw_uid)
        if busy:
            raise SiteError(
                f"{USER} can't be removed: processes {', '.join(map(str, busy))} are his",
                "end them, then `site down` again",
            )
        run(["userdel", USER])
    if memory.get("made_group") and _known(grp.getgrnam, GROUP):
        run(["groupdel", GROUP])
    shutil.rmtree(site.home, ignore_errors=True)


def _known(lookup: Callable[[str], object], name: str) -> bool:
    try:
        lookup(name)
    except KeyError:
        return False
    return True


def _processes_of(uid: int) -> Sequence[int]:
    found = []
    for pid in pids():
        try:
            owner = Path(f"/proc/{pid}").stat().st_uid
        except FileNotFoundError:
            continue
        if owner == uid and started_at(pid) is not None:
            found.append(pid)
    return found
