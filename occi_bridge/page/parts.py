"""Puts the page together: its application, and the route that it has at the OCCI service."""

import os
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.routing import Route
from starlette.types import ASGIApp

from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.page import app, at_service, usage
from occi_bridge.page.belongings import NETWORKS, VOLUMES, Belongings
from occi_bridge.page.console import Console, Reader
from occi_bridge.page.images import Images
from occi_bridge.page.login import Login
from occi_bridge.page.new import New
from occi_bridge.page.read_only import Followed, ReadOnly
from occi_bridge.page.ssh_keys import Keys
from occi_bridge.page.terminal import Limits, Opener, Terminals
from occi_bridge.page.vms import Vms
from occi_bridge.service.service import BridgeService
from occi_bridge.store.database import Database
from occi_bridge.store.sessions import Sessions
from occi_bridge.store.ssh_keys import SshKeys
from wnodes_lrms.config.load import Page

_LOOK = 5.0  # seconds between two looks at a folder


def assemble(
    page: Page,
    ca_dir: str,
    service: BridgeService,
    authenticator: Authenticator,
    db: Database,
    read: Reader,
    opened: Opener,
    limits: Limits = Limits(),  # noqa: B008 (it is frozen)
) -> tuple[ASGIApp, list[Route]]:
    """The page's application, and the routes that the OCCI service has for it.

    VMs' consoles are read by `read`, and opened to type into by `opened`.
    """
    sessions, keys = Sessions(db), SshKeys(db)
    login = Login(page, authenticator, sessions, newest_in(ca_dir))
    pages = app.Pages(
        login=login,
        vms=Vms(service),
        console=Console(service, read),
        terminals=Terminals(page, service, login, sessions, opened, limits),
        new=New(service, keys, page.certificate_login or ""),
        volumes=Belongings(service, VOLUMES),
        networks=Belongings(service, NETWORKS),
        images=Images(service),
        keys=Keys(keys),
        usage=ReadOnly("usage", lambda user: usage.found(service.usage(user, time.time()))),
        site=Followed("site", lambda user: {"site": service.overview(user), "now": time.time()}),
    )
    routes = [at_service.route(page, authenticator, sessions)] if page.certificate_login else []
    return app.application(page, pages), routes


def newest_in(folder: str) -> Callable[[], float]:
    """When something in a folder changed last (epoch seconds), with some seconds' delay."""
    looked, newest = float("-inf"), 0.0

    def now() -> float:
        nonlocal looked, newest
        if time.monotonic() - looked > _LOOK:
            looked, newest = time.monotonic(), _newest(folder)
        return newest

    return now


def _changed(entry: os.DirEntry[str]) -> float:
    """When a file changed last; of a link to nowhere, the link; 0 for what has just gone."""
    for follow in (True, False):
        with suppress(FileNotFoundError):
            return entry.stat(follow_symlinks=follow).st_ctime
    return 0.0


def _newest(folder: str) -> float:
    try:
        with os.scandir(folder) as entries:
            times = [_changed(entry) for entry in entries]
        return max([os.stat(folder).st_ctime, *times])  # noqa: PTH116 (as hundreds beside it)
    except OSError:
        return float("inf")  # nobody is trusted by what can't be read
