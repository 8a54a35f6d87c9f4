"""What the bridge's processes do: the workers, which answer, and the driver."""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from occi_bridge.consoles import Consoles
from occi_bridge.driver.actor import Actor
from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.bait_connection import client_context
from occi_bridge.driver.driver import Driver
from occi_bridge.driver.leasing import Leasing
from occi_bridge.driver.spanning import Spanned, Spanning
from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.page.parts import assemble
from occi_bridge.service.offer import Site
from occi_bridge.service.service import BridgeService
from occi_bridge.store.database import Database
from occi_bridge.store.links import Links
from occi_bridge.web import whoami
from occi_bridge.web.app import application
from wnodes_lrms.config.load import Bridge, Config, Page
from wnodes_lrms.console import LONGEST
from wnodes_lrms.errors import ConfigError
from wnodes_lrms.tls import server as https
from wnodes_lrms.tls.context import stamp_of

_LOOK = 30.0  # seconds between two looks whether certificates have changed

log = logging.getLogger(__name__)


def answer(config: Config, wake: int, sock: socket.socket, page_sock: socket.socket | None) -> None:
    """A worker: the OCCI service, and the page, on listening sockets that all workers share.

    `wake` is an eventfd(2) that the driver of this bridge listens to.
    """
    bridge = _bridge(config)
    db = Database(bridge.database)
    service = BridgeService(db, Site(config), functools.partial(os.eventfd_write, wake, 1))
    links = Links(db)
    authenticator = Authenticator(bridge, links)
    who = whoami.route(authenticator, service.used, links)
    routes, more = [who], []
    if page := bridge.page:
        consoles = Consoles(bridge)
        its, logins = assemble(
            page, bridge.ca_dir, service, authenticator, db, consoles.read, consoles.opened
        )
        routes += logins
        files = page_files(bridge, page)
        where = (its, page.listen, *files, bridge.ca_dir)
        more = [https.door(*where, ask=False, messages=LONGEST, sock=page_sock)]
    app = application(service, authenticator, routes)
    server = https.serve(
        app,
        bridge.listen,
        bridge.certificate,
        bridge.key,
        bridge.ca_dir,
        proxies=True,
        require=False,
        sock=sock,
        more=more,
    )
    server.run()
    db.close()


def page_files(bridge: Bridge, page: Page) -> tuple[str, str]:
    """The page's host certificate and its key."""
    return page.certificate or bridge.certificate, page.key or bridge.key


def drive(config: Config, wake: int, holder: str) -> None:
    """The driver of the bridge that `holder` names, until SIGTERM.

    It also ends when its certificates have changed, to be started anew.
    """
    asyncio.run(_drive(config, wake, holder))


async def _drive(config: Config, wake: int, holder: str) -> None:
    bridge = _bridge(config)
    stamp = _stamp(bridge)
    context = client_context(bridge.certificate, bridge.key, bridge.ca_dir)
    baits = {url: Bait(url, context) for url in bridge.baits}
    db = Database(bridge.database)
    key = order_key(bridge)
    site = Site(config)
    leasing = Leasing(db, baits, site.nets, config.cluster, key)
    actor = Actor(db, baits, leasing)
    spanning = Spanning(baits, Spanned(config.network.tunnels, site.vnis))
    driver = Driver(holder, db, baits, actor, spanning)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(wake, _woken, wake, driver)
    watch = asyncio.create_task(_watch(bridge, stamp, stop))
    await driver.run(stop)
    watch.cancel()
    for bait in baits.values():
        await bait.close()
    db.close()


def _woken(wake: int, driver: Driver) -> None:
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(wake)
    driver.wake()


async def _watch(bridge: Bridge, before: object, stop: asyncio.Event) -> None:
    while await asyncio.to_thread(_stamp, bridge) == before:
        await asyncio.sleep(_LOOK)
    log.info("certificates or keys have changed: the driver starts anew with them")
    stop.set()


def _stamp(bridge: Bridge) -> object:
    files = (bridge.certificate, bridge.key, bridge.order_key)
    return [
        stamp_of(bridge.ca_dir),
        *(Path(file).stat().st_mtime_ns for file in files if Path(file).exists()),
    ]


def order_key(bridge: Bridge) -> str:
    """The private key that signs orders, as PEM. Raises ConfigError if it is none for that."""
    try:
        text = Path(bridge.order_key).read_text()
        key = load_pem_private_key(text.encode(), None)
    except OSError as error:
        raise ConfigError(bridge.order_key, [f"can't be read: {error.strerror}"]) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(bridge.order_key, ["is not a private key in PEM form"]) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(bridge.order_key, ["is not an Ed25519 key"])
    return text


def _bridge(config: Config) -> Bridge:
    assert config.bridge  # noqa: S101 (for mypy: __main__ has looked)
    return config.bridge
