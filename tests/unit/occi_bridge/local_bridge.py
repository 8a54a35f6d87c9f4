"""A bridge as one process of tests has it: database, site, service, and a driver on demand."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from occi_bridge.driver import persistence
from occi_bridge.driver.actor import Actor
from occi_bridge.driver.bait_client import Bait
from occi_bridge.driver.driver import Driver
from occi_bridge.driver.leasing import Leasing
from occi_bridge.driver.spanning import Spanned, Spanning
from occi_bridge.identity.user import Identity, Kind, User
from occi_bridge.occi import schema
from occi_bridge.occi.messages import Entity, Value
from occi_bridge.occi.validate_new import New
from occi_bridge.service.offer import Site
from occi_bridge.service.service import BridgeService
from occi_bridge.store import heard, leader
from occi_bridge.store.database import Database
from occi_bridge.store.heard import Heard
from occi_bridge.store.rows import Compute
from tests.unit.occi_bridge.fake_baits import CLUSTER
from wnodes_lrms.config import load as configuration
from wnodes_lrms.config.load import Config, Grant

ANNA = "/C=IT/O=Test/CN=Anna"
BOB = "/C=IT/O=Test/CN=Bob"
OS_TPL = f"{schema.OWN}os_tpl#small_linux_x86_64"
START = f"{schema.INFRA}/compute/action#start"
STOP = f"{schema.INFRA}/compute/action#stop"
RESTART = f"{schema.INFRA}/compute/action#restart"
SUSPEND = f"{schema.INFRA}/compute/action#suspend"
SAVE = f"{schema.INFRA}/compute/action#save"


def keys(folder: Path) -> tuple[str, str]:
    """The bridge's key pair for orders: its private file's path, the public key as PEM."""
    file = folder / "order.key"
    if not file.exists():
        key = Ed25519PrivateKey.generate()
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    private = serialization.load_pem_private_key(file.read_bytes(), None)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return str(file), public.decode()


def settings(folder: Path, url: str, baits: Sequence[str], more: str) -> Config:
    file = folder / "wnodes.toml"
    file.write_text(
        f"""
cluster = "{CLUSTER}"
lrms = "slurm"
[images]
catalogue = "{folder}/images"
[bridge]
database = "{url}"
order_key = "{keys(folder)[0]}"
baits = {list(baits) or ["http://127.0.0.1:1"]}
[[bridge.network]]
name = "public"
kind = "nat"
public = true
[[bridge.network]]
name = "private"
kind = "bridge"
subnet = "10.1.0.0/29"
gateway = "10.1.0.1"
[[bridge.template]]
name = "small"
cores = 1
memory = 512
{more}
""".replace("'", '"')
    )
    return configuration.load(file)


def person(dn: str = ANNA, group: str = "", **grant: Any) -> User:
    known = Identity(Kind.CERTIFICATE, dn, (group,) if group else ())
    return User(known, "cloud01", Grant(match="*", **grant), dn)


class LocalBridge:
    """One bridge. Tests that have a driver run it inside `driving()`."""

    def __init__(
        self, folder: Path, db: Database, url: str, baits: Sequence[str], more: str
    ) -> None:
        self.config = settings(folder, url, baits, more)
        assert self.config.bridge
        self.key = Path(self.config.bridge.order_key).read_text()
        self.urls = list(baits)
        self.db = db
        self.site = Site(self.config)
        self.driver: Driver | None = None
        self.bait = Bait
        self._loop: asyncio.AbstractEventLoop | None = None
        self.service = BridgeService(self.db, self.site, self._wake)

    def _wake(self) -> None:
        if self.driver and self._loop:
            self._loop.call_soon_threadsafe(self.driver.wake)

    def heard(self, ago: float = 0.0) -> None:
        """Have a bait have answered."""
        heard.told(self.db, "http://127.0.0.1:1", Heard("hv1", time.time() - ago), silent=ago > 0)
        leader.lead(self.db, "nobody", 3600.0)
        leader.step_down(self.db, "nobody")

    def create(
        self,
        user: User,
        kind: str = schema.COMPUTE,
        links: Sequence[New] = (),
        mixins: Sequence[str] = (),
        **attributes: Value,
    ) -> Entity:
        """Make an entity; in the attributes' names "__" stands for a dot."""
        given = {name.replace("__", "."): value for name, value in attributes.items()}
        own = (OS_TPL,) if kind == schema.COMPUTE else ()
        return self.make(user, New(kind, (*own, *mixins), given, tuple(links)))

    def make(self, user: User, new: New) -> Entity:
        """The same of what a request has become."""
        return self.service.create(user, new, self.service.model(user))

    def row(self, entity: Entity) -> Compute:
        """The row of a VM."""
        [found] = [row for row in persistence.read_all(self.db)["computes"] if row.id == entity.id]
        assert isinstance(found, Compute)
        return found

    def new_driver(self, db: Database | None = None) -> Driver:
        db = db or self.db
        baits = {url: self.bait(url, context=False) for url in self.urls}
        actor = Actor(db, baits, Leasing(db, baits, self.site.nets, CLUSTER, self.key))
        spanning = Spanning(baits, Spanned(self.config.network.tunnels, self.site.vnis))
        return Driver(str(uuid.uuid4()), db, baits, actor, spanning)

    @contextlib.asynccontextmanager
    async def driving(self) -> AsyncIterator[Driver]:
        """A driver at work, told to stop at the end."""
        self.driver, self._loop = self.new_driver(), asyncio.get_running_loop()
        stop = asyncio.Event()
        task = asyncio.create_task(self.driver.run(stop))
        try:
            yield self.driver
        finally:
            stop.set()
            await task
            self.driver = None


async def until(condition: Callable[[], object], within: float = 20.0) -> None:
    """Wait for something that the driver brings about."""
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
