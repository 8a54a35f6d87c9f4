"""The users of the site: an ordinary one, those that leases run as, the bridge's own."""

import grp
import os
import pwd
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import SiteError
from .layout import Layout, Memory
from .process import pids, run, started_at

USER = "griduser"
GROUP = "gridgroup"  # that the ordinary user is in
CLOUD_USERS = ("clouduser", "cloudpilot")
BRIDGE = "wnodes-bridge"
NOBODY = "nobody"
GRACE = "grace"  # a cloud user who has a token, and no certificate
GUESTFS = "wnodes-guestfs"  # the name that the product has for it
APART = "WNODES_APART"  # set by contrib/site/with
_NOWHERE = ("--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin")


def make(site: Layout, memory: Memory) -> None:
    """Make all, unless the machine has them already; those stay when the site goes.

    On a site that is apart its /etc is its own: another site's users in it mean nothing here.
    """
    site.home.mkdir(parents=True, exist_ok=True)
    if APART in os.environ and not memory.get("made_users"):
        for user in (USER, *CLOUD_USERS, BRIDGE, GUESTFS):
            if _known(pwd.getpwnam, user):
                run(["userdel", "--force", user])
    if not _known(grp.getgrnam, GROUP):
        memory.set("made_group", True)
        run(["groupadd", GROUP])
    home = str(site.home / USER)
    _add(memory, USER, "--create-home", "--home-dir", home, "--shell", "/bin/bash")
    for user in CLOUD_USERS:
        _add(memory, user, *_NOWHERE)
    for user in (BRIDGE, GUESTFS):
        _add(memory, user, "--system", "--user-group", *_NOWHERE)
    if USER not in grp.getgrnam(GROUP).gr_mem:
        run(["usermod", "--append", "--groups", GROUP, USER])


def home() -> str:
    """The ordinary user's home."""
    return pwd.getpwnam(USER).pw_dir


def remove(site: Layout, memory: Memory) -> None:
    """Take away what `make` made, the home too. Raises SiteError if a user is busy."""
    for user in memory.get("made_users", []):
        if _known(pwd.getpwnam, user):
            busy = _processes_of(pwd.getpwnam(user).pw_uid)
            if busy:
                raise SiteError(
                    f"{user} can't be removed: processes {', '.join(map(str, busy))} are theirs",
                    "end them, then `site down` again",
                )
            run(["userdel", user])
    if memory.get("made_group") and _known(grp.getgrnam, GROUP):
        run(["groupdel", GROUP])
    shutil.rmtree(site.home, ignore_errors=True)


def _add(memory: Memory, user: str, *options: str) -> None:
    if not _known(pwd.getpwnam, user):
        # Before it is made: else one that a crash leaves would stay for ever.
        memory.set("made_users", sorted({*memory.get("made_users", []), user}))
        run(["useradd", *options, user])


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
