"""From the options of `wnodes cloud`, which all its commands have in common, to the service."""

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from wnodes_lrms.cli import credentials
from wnodes_lrms.cli.cloud import client, settings, standing, tokens
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.cli.cloud.settings import Settings
from wnodes_lrms.cli.out import progress
from wnodes_lrms.errors import RejectedError


@dataclass(frozen=True)
class Connection:
    """What the options say; all else is found when a command needs it."""

    url: str = ""
    cert: Path | None = None
    key: Path | None = None
    proxy: Path | None = None
    token: Path | None = None

    def service(self) -> Service:
        """The service. Raises RejectedError, ConfigError."""
        return Service(self._service_url, self._for_it(), renew=self.renewed)

    def hurried(self, patience: float) -> Service:
        """The service, asked once, for `patience` seconds at most. Raises the same."""
        return Service(self._service_url, self._for_it(), patience, tries=1)

    @property
    def _service_url(self) -> str:
        return settings.service_url(self.url, settings.read(os.environ))

    def _for_it(self) -> credentials.Credentials:
        shown = self.shown()
        vet(shown, self._service_url, settings.read(os.environ))
        return shown

    def shown(self) -> credentials.Credentials:
        """What the service is shown. Raises RejectedError."""
        shown = credentials.chosen(self.cert, self.key, self.proxy, self.token, os.environ)
        if shown.files and not shown.files[0].exists():
            raise RejectedError(
                f"{shown.files[0]} is not there, and no token is found: get a proxy or a token by"
                " wnodes cloud login --voms VO, or --oidc NAME"
            )
        return shown

    def renewed(self) -> credentials.Credentials | None:
        """What the service is shown once the credential of before has ended.

        It may have been renewed elsewhere meanwhile; else oidc-agent gives a new token, if `login`
        has remembered that, without a question. None where neither is so: what ends with a pass
        phrase is the user's to renew. Raises RejectedError, ConfigError.
        """
        shown = self.shown()
        if _goes_on(shown):
            return shown
        kept, place = settings.read(os.environ), self.token or credentials.token_place(os.environ)
        ours = shown.token and shown.token == credentials.kept_token(place)
        if not (ours and kept.oidc and tokens.renews_by_itself()):
            return None
        tokens.get(kept.oidc, place, settings.kept_audience(self._service_url, kept))
        shown = self.shown()
        if not _goes_on(shown):  # another one comes before it
            return None
        progress(f"the token had expired: a new one of «{kept.oidc}» is in {place}")
        return shown


def vet(shown: credentials.Credentials, url: str, kept: Settings) -> None:
    """Raises RejectedError for a token that `login` got for another service alone: whoever sees it
    could be known there by it."""
    alone = bool(kept.audience) and standing.audiences(shown.token or "") == [kept.audience]
    if alone and not settings.kept_audience(url, kept):
        raise RejectedError(
            f"the token is for {kept.audience} alone, and this is {url}: get one for that by"
            f" wnodes cloud --url {url} login"
        )


def _goes_on(shown: credentials.Credentials) -> bool:
    end = standing.end(shown)
    return end is not None and end > time.time() + client.SKEW


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
    return closing(Connection(given.get("url") or "", **files).hurried(patience))
