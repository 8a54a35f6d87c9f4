"""Whether the bridge's own user can get at the files that it needs: root can't see that by trying.

The kernel is asked, as that user: it knows groups, access lists and each folder on the way.
"""

import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path

from occi_bridge.processes import page_files
from occi_bridge.store.database import sqlite_file
from wnodes_lrms.config.load import Bridge
from wnodes_lrms.doctor import Check, fault, ok, unknown
from wnodes_lrms.errors import UnknownError, WnodesError
from wnodes_lrms.run import run, run_as

_NAME = "own user"
_UNIT = "wnodes-bridge.service"
_DEADLINE = 10.0  # seconds
# Pairs of an operator of test(1) and a path: those that don't hold are said again.
_ASK = 'while [ $# -gt 0 ]; do [ "$1" "$2" ] || printf "%s\\0%s\\0" "$1" "$2"; shift 2; done'
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}  # root's own is not for others to read
_VERBS = {"-r": "read", "-w": "write", "-x": "enter"}

Test = tuple[str, Path]  # an operator of test(1), and what it is about


def checks(bridge: Bridge) -> Iterator[Check]:
    """What that user lacks. Nothing where this is not root, who alone can ask as another."""
    if os.geteuid() != 0:
        return
    user = _own_user(bridge.database)
    if user is None:
        seen = f"{_UNIT} names no user, and nobody but root has the database"
        yield unknown(_NAME, seen, "install the unit of contrib/systemd, and see its User=")
        return
    try:
        missing = refused(user, [test for test in _needed(bridge) if test[1].exists()])
    except WnodesError as error:
        yield unknown(_NAME, f"{user.pw_name}: {error}")
        return
    for test, why in missing:
        verb, path = _VERBS[test[0]], test[1]
        seen = f"{path}: {user.pw_name}, whom the bridge runs as, may not {verb} it"
        if why is None:
            yield fault(_NAME, seen, f"let them {verb} it: see chown, chgrp, chmod and setfacl")
        else:
            yield fault(_NAME, f"{seen}, nor enter {why}", f"setfacl -m u:{user.pw_name}:x {why}")
    if not missing:
        yield ok(_NAME, f"{user.pw_name} may use all that [bridge] names")


def _needed(bridge: Bridge) -> Iterator[Test]:
    files = [bridge.certificate, bridge.key, bridge.order_key]
    files += page_files(bridge, bridge.page) if bridge.page else ()
    lists = (bridge.grid_mapfile, bridge.voms_mapfile, bridge.ban_file)
    for path in (*files, *lists):
        yield "-r", Path(path)
    for folder in (bridge.ca_dir, bridge.voms_dir):
        yield from (("-r", Path(folder)), ("-x", Path(folder)))
    if bridge.issuer:
        yield from (("-w", Path(bridge.issuer_dir)), ("-x", Path(bridge.issuer_dir)))
        yield from (
            ("-r", Path(each.client_secret)) for each in bridge.issuer if each.client_secret
        )
    if database := sqlite_file(bridge.database):  # SQLite makes files beside it
        yield from (("-w", database), ("-w", database.parent))


def _own_user(database: str) -> pwd.struct_passwd | None:
    """Whom systemd runs the bridge as; where that does not tell, who has its database."""
    try:
        show = ["systemctl", "show", "--property=User", "--value", _UNIT]
        name = run(show, deadline=_DEADLINE).strip()
    except WnodesError:
        name = ""
    file = sqlite_file(database)
    try:
        if name:
            return pwd.getpwnam(name)
        # The folder first: a file in it may have been made by root, by mistake.
        there = [path for path in (file.parent, file) if path.exists()] if file else []
        owner = next((uid for path in there if (uid := path.stat().st_uid)), None)
        return None if owner is None else pwd.getpwuid(owner)
    except KeyError:
        return None


def refused(user: pwd.struct_passwd, tests: Sequence[Test]) -> list[tuple[Test, Path | None]]:
    """The tests that fail for a user, and the first folder on the way that they may not enter.

    Raises WnodesError if it can't be found out.
    """
    above = {folder for _, path in tests for folder in path.parents}
    asked = [*tests, *(("-x", folder) for folder in above)]
    words = [word for operator, path in asked for word in (operator, str(path))]
    done = run_as(
        user, ["sh", "-c", _ASK, "sh", *words], deadline=_DEADLINE, environment=_ENVIRONMENT
    )
    told = done.output.split("\0")[:-1]
    pairs = zip(told[::2], told[1::2], strict=False)
    failed = {(operator, Path(path)) for operator, path in pairs}
    if done.status != 0 or len(told) % 2 or not failed <= set(asked):  # that user has a hand in it
        raise UnknownError("what the kernel lets that user do could not be found out")
    return [(test, _obstacle(test[1], failed)) for test in tests if test in failed]


def _obstacle(path: Path, failed: set[Test]) -> Path | None:
    """The outermost folder above it that can't be entered."""
    return next((folder for folder in reversed(path.parents) if ("-x", folder) in failed), None)
