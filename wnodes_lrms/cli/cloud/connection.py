"""From the options of `wnodes cloud`, which all its commands have in common, to the service."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from wnodes_lrms.cli import credentials
from wnodes_lrms.cli.cloud import client, settings
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.errors import RejectedError


@dataclass(frozen=True)
class Connection:
    """What the options say; all else is found when a command needs it."""

    url: str = ""
    cert: Path | None = None
    key: Path | None = None
    proxy: Path | None = None
    token: Path | None = None

    def service(self, patience: float = client.PATIENCE, tries: int = 3) -> Service:
        """The service. Raises RejectedError, ConfigError."""
        url = settings.service_url(self.url, settings.read(os.environ))
        return Service(url, self.shown(), patience, tries)

    def shown(self) -> credentials.Credentials:
        """What the service is shown. Raises RejectedError."""
        shown = credentials.chosen(self.cert, self.key, self.proxy, self.token, os.environ)
        if shown.files and not shown.files[0].exists():
            raise RejectedError(
                f"{shown.files[0]} is not there, and no token is found: get a proxy or a token by"
                " wnodes cloud login --voms VO, or --oidc NAME"
            )
        return shown


def of(ctx: typer.Context) -> Connection:
    """The connection that a command of `wnodes cloud` is to use."""
    found = ctx.find_object(Connection)
    assert found  # noqa: S101 (the callback of `wnodes cloud` has set it)
    return found


def opened(ctx: typer.Context) -> AbstractContextManager[Service]:
    """The service, for as long as this lasts."""
    return closing(of(ctx).service())


def completing(ctx: typer.Context, patience: float) -> AbstractContextManager[Service]:
    """The service for a command line that is still being typed: no callback has run yet."""
    here: Any = ctx
    while here.parent is not None and "token" not in here.params:
        here = here.parent
    given: Mapping[str, Any] = here.params
    paths = {name: given.get(name) for name in ("cert", "key", "proxy", "token")}
    files = {name: Path(value) for name, value in paths.items() if value}
    return closing(Connection(given.get("url") or "", **files).service(patience, tries=1))
