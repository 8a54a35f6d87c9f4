"""An issuer of tokens for tests, on TLS with the certificate of the grid's CA.

Test modules take the fixtures by `from tests.unit import issuers` and `issuer = issuers.issuer`.
"""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from contrib.site.box import issuer as box
from contrib.site.box.issuer import Server, Signer
from tests.unit.ca import VO, Grid, key
from wnodes_lrms.config.load import Bridge
from wnodes_lrms.config.load import Issuer as Settings

AUDIENCE = "https://bridge.example:11443"
SUBJECT = "grace"


@functools.cache
def signer(kid: str) -> Signer:
    """A key in all tests."""
    return Signer(key("tokens"), kid)


@functools.cache
def curve(kid: str) -> Signer:
    """Another kind of key."""
    return Signer(ec.generate_private_key(ec.SECP256R1()), kid)


class LocalIssuer:
    """A server, and what makes tokens of its own."""

    def __init__(self, grid: Grid, server: Server) -> None:
        self.grid = grid
        self.server = server
        self.told = server.issuer
        self.told.signers[:] = [signer("first")]
        self.url = self.told.url

    @property
    def subject(self) -> str:
        """Whom its tokens are about."""
        return f"{self.url}#{SUBJECT}"

    def settings(self, **changes: Any) -> Settings:
        """How a bridge is told of it."""
        usual: dict[str, Any] = {
            "url": self.url,
            "audiences": (AUDIENCE,),
            "profile": "wlcg",
            "vos": (VO,),
            "ca_dir": str(self.grid.certificates),
        }
        return Settings.model_validate(usual | changes)

    def bridge(self, **changes: Any) -> Bridge:
        """The configuration of a bridge that takes its tokens."""
        folder = self.grid.folder / "issuers"
        update = {"issuer": (self.settings(**changes),), "issuer_dir": str(folder)}
        return self.grid.bridge.model_copy(update=update)

    def claims(self, **more: Any) -> dict[str, Any]:
        """Those of a good token, with changes; "__" in a name stands for a dot."""
        named = {name.replace("__", "."): value for name, value in more.items()}
        return box.claims(self.url, named.pop("sub", SUBJECT), AUDIENCE, **named)

    def token(self, **more: Any) -> bytes:
        """A good token, with changes to its claims."""
        return self.told.signers[0].sign(self.claims(**more)).encode()


@pytest.fixture
def issuer(grid: Grid) -> Iterator[LocalIssuer]:
    """One that is up for this test."""
    server = Server(0, grid.folder / "hostcert.pem", grid.folder / "hostkey.pem")
    thread = server.begin()
    yield LocalIssuer(grid, server)
    server.shutdown()
    server.server_close()
    thread.join(5)
