"""A grid for tests: a CA with users, a VOMS server, the authorization files, and a service on TLS.

Test modules take the fixtures by `from tests.unit import ca` and `grid = ca.grid`.
"""

import contextlib
import functools
import http.client
import json
import logging
import shutil
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from starlette.applications import Starlette

from contrib.site.box.ca import Authority, Credential, new_key, write_lsc
from occi_bridge.identity import authenticator
from occi_bridge.identity.authenticator import Authenticator
from occi_bridge.service.quota import Amount
from occi_bridge.web import whoami
from tests.unit.conftest import eventually
from wnodes_lrms.config.load import Bridge, Grant
from wnodes_lrms.tls import server
from wnodes_lrms.tls.client import trusting

BASE = "/C=IT/O=Box"
VO = "testvo"


@functools.cache
def key(_whose: str) -> rsa.RSAPrivateKey:
    """The key of somebody in all grids: to make one takes longer than all else."""
    return new_key()


class Grid:
    """Everything of it in one folder, which nobody, too, can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificates = folder / "certificates"
        self.vomsdir = folder / "vomsdir"
        self.key = key("users")  # of all who need none of their own
        self.authority = Authority.make(f"{BASE}/CN=Box CA", key("authority"))
        self.authority.install(self.certificates)
        issue = self.authority.issue
        self.alice = issue(f"{BASE}/CN=Alice", key=key("alice"))
        self.host = issue(f"{BASE}/CN=localhost", hosts=("localhost", "127.0.0.1"), key=key("host"))
        self.host.write(folder / "hostcert.pem", folder / "hostkey.pem")
        self.server = issue(f"{BASE}/CN=voms.example", hosts=("voms.example",), key=key("voms"))
        write_lsc(self.vomsdir, VO, "voms.example", self.server)
        (folder / "gridmapdir").mkdir()

    @property
    def bridge(self) -> Bridge:
        """The configuration of a bridge here."""
        return Bridge(
            certificate=str(self.folder / "hostcert.pem"),
            key=str(self.folder / "hostkey.pem"),
            ca_dir=str(self.certificates),
            voms_dir=str(self.vomsdir),
            grid_mapfile=str(self.folder / "grid-mapfile"),
            voms_mapfile=str(self.folder / "voms-mapfile"),
            pool_dir=str(self.folder / "gridmapdir"),
            ban_file=str(self.folder / "ban_users.db"),
            baits=("https://localhost:8445",),
            grant=(Grant(match="/testvo/Role=pilot", machines=5), Grant(match="*")),
        )

    def user(self, name: str | x509.Name, **options: Any) -> Credential:
        """A user with the common key; a name without / is a CN."""
        if isinstance(name, str) and not name.startswith("/"):
            name = f"{BASE}/CN={name}"
        return self.authority.issue(name, key=self.key, **options)

    def map(self, *lines: str) -> None:
        """Write the grid-mapfile."""
        (self.folder / "grid-mapfile").write_text("".join(f"{line}\n" for line in lines))

    def chain(self, credential: Credential) -> tuple[bytes, ...]:
        """What TLS verifies for a credential of this CA's."""
        return (*credential.chain, *self.authority.own.chain)


def read_bundle(path: Path) -> Credential:
    """A credential from one file with certificate, key, issuers."""
    own, *issuers = x509.load_pem_x509_certificates(path.read_bytes())
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return Credential(own, key, tuple(issuers))


class Service:
    """An application on our TLS, in a thread."""

    def __init__(self, app: Any, grid: Grid, **options: Any) -> None:
        self.grid = grid
        bridge = grid.bridge
        flags = {"proxies": True, "require": False} | options
        sock = server.listener("127.0.0.1:0")
        self.port = sock.getsockname()[1]
        self.server = server.serve(
            app, "", bridge.certificate, bridge.key, bridge.ca_dir, sock=sock, **flags
        )
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()
        eventually(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()

    def context(self, credential: Credential | None) -> ssl.SSLContext:
        """A client's TLS with this credential."""
        context = trusting(str(self.grid.certificates))
        if credential:
            with tempfile.TemporaryDirectory() as folder:
                credential.write_bundle(Path(folder, "bundle"))
                context.load_cert_chain(Path(folder, "bundle"))
        return context

    def connect(self, credential: Credential | None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost", self.port, timeout=10, context=self.context(credential)
        )

    def ask(self, credential: Credential | None, path: str = "/whoami") -> Any:
        """The JSON answer to a GET. Raises OSError where TLS refuses."""
        with contextlib.closing(self.connect(credential)) as connection:
            connection.request("GET", path)
            return json.load(connection.getresponse())


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that other users may read, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="wnodes-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def common() -> Iterator[Grid]:
    """One that all tests may use; whoever changes a file of it takes `grid`."""
    with shared_folder() as folder:
        yield Grid(folder)


@pytest.fixture
def grid() -> Iterator[Grid]:
    """One of the test's own."""
    with shared_folder() as folder:
        yield Grid(folder)


@contextlib.contextmanager
def service(
    grid: Grid,
    used: Amount | None = None,
    bridge: Bridge | None = None,
    links: Any = None,
) -> Iterator[Service]:
    """A service that has /whoami, with all that stands before it, and users who have so much.

    `links` tells what tokens are linked to, and makes links.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_LOOK", 0.02)
        patch.setattr(authenticator, "_LOOK", 0.0)
        logging.getLogger("wnodes_lrms.tls.server").setLevel(logging.INFO)
        amount = (lambda _user: used) if used else None
        known = Authenticator(bridge or grid.bridge, dict if links is None else links)
        route = whoami.route(known, amount, links)
        app = Starlette(routes=[route])
        service = Service(app, grid)
        yield service
        service.stop()
