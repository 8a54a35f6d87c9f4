"""`wnodes cloud login` and `logout`: what a user is known by, got, renewed and given up."""

import os
import re
import time
from contextlib import closing
from dataclasses import replace
from typing import Annotated

import typer

from wnodes_lrms.cli import credentials
from wnodes_lrms.cli.cloud import settings, standing, tokens, voms
from wnodes_lrms.cli.cloud.client import Service
from wnodes_lrms.cli.cloud.connection import Connection, of
from wnodes_lrms.cli.cloud.faults import ServiceError
from wnodes_lrms.cli.cloud.settings import Settings
from wnodes_lrms.cli.credentials import Credentials
from wnodes_lrms.cli.out import line, progress
from wnodes_lrms.errors import RejectedError, WnodesError

_PATIENCE = 5.0  # seconds for the service to say whether it takes a token
_FOR_OTHERS = re.compile(r"not for this service \(aud\): (\S+)")  # as the service says it

Voms = Annotated[
    str, typer.Option("--voms", metavar="VO[:FQAN]", help="by a proxy with attributes of this VO")
]
Oidc = Annotated[
    str, typer.Option("--oidc", metavar="NAME", help="by a token of this account of oidc-agent's")
]


def login(ctx: typer.Context, vo: Voms = "", oidc: Oidc = "") -> None:
    """Get, or renew, what the service knows you by: a VOMS proxy, or a token.

    Which one is remembered, and so is --url of `wnodes cloud`: the next time `login` is enough.
    """
    if vo and oidc:
        raise RejectedError("--voms or --oidc: one of them")
    connection = of(ctx)
    kept = settings.read(os.environ)
    wanted = Settings(kept.url, vo, oidc) if vo or oidc else kept
    if _typed(ctx):
        url = settings.service_url(connection.url, kept)
        wanted = replace(wanted, url=url, audience=kept.audience if wanted == kept else "")
    if wanted.voms:
        _by_voms(connection, wanted)
    elif wanted.oidc:
        wanted = _by_token(connection, wanted)
    elif wanted == kept:
        raise RejectedError("by what? Give --voms VO, or --oidc NAME; the next time it is known")
    if wanted != kept:
        settings.write(wanted, os.environ)


def logout(ctx: typer.Context) -> None:
    """Remove the proxy and the token that are yours on this host."""
    connection = of(ctx)
    proxy = connection.proxy or credentials.proxy_place(os.environ)
    token = connection.token or credentials.token_place(os.environ)
    if token.exists():
        token.unlink()
        line(f"{token} is gone")
    if os.environ.get("BEARER_TOKEN"):
        progress("BEARER_TOKEN is set in this shell: unset BEARER_TOKEN")
    credentials.verify_proxy(proxy)  # what is destroyed is overwritten first
    if proxy.exists():
        voms.destroy(proxy)
        line(f"{proxy} is gone")


def _by_voms(connection: Connection, wanted: Settings) -> None:
    place = connection.proxy or credentials.proxy_place(os.environ)
    voms.get(wanted.voms, place, connection.cert, connection.key)
    left = standing.ago(voms.left(place))
    line(f"{place}: {left} left, for {' '.join(voms.attributes(place))}")
    mine = Credentials((place, place))
    if refused := _refusal(connection.url or wanted.url, mine):
        progress(f"but {refused}")
    _tell_what_comes_first(replace(connection, cert=None, key=None), mine)


def _by_token(connection: Connection, wanted: Settings) -> Settings:
    """Get a token, and what is to be remembered of it. Raises RejectedError.

    The place of tokens is one for all programs of the user's. So it is one as the issuer usually
    has them; only if the service says that it is for others, it is one for this service alone. No
    service is believed which other name a token should be for: it could be another service's.
    """
    place = connection.token or credentials.token_place(os.environ)
    asked = settings.kept_audience(connection.url, wanted)
    tokens.get(wanted.oidc, place, asked)
    mine = credentials.chosen(None, None, None, place, os.environ)
    own, url = settings.audience(connection.url, wanted), connection.url or wanted.url
    refused = _refusal(url, mine)
    others = _FOR_OTHERS.search(str(refused)) if refused else None
    if others and others[1] == own != asked:
        wanted = replace(wanted, audience=own)
        tokens.get(wanted.oidc, place, own)
        mine = credentials.chosen(None, None, None, place, os.environ)
        progress(f"the token is for {own} alone: the service takes no others")
        refused = _refusal(url, mine)
    end = standing.token_end(mine.token or "")
    line(f"{place}: {standing.ago(end - time.time())} left" if end is not None else str(place))
    if refused:
        progress(f"but {refused}")
    _tell_what_comes_first(connection, mine)
    return wanted


def _refusal(url: str, mine: Credentials) -> ServiceError | None:
    """Why the service does not take it; None where it does, or is not known, or away."""
    try:
        with closing(Service(settings.checked(url), mine, _PATIENCE, tries=1)) as service:
            service.get("/-/")
    except ServiceError as fault:
        return fault if fault.unknown_user else None
    except WnodesError:
        pass  # the next command will tell
    return None


def _tell_what_comes_first(connection: Connection, mine: Credentials) -> None:
    """Say so where not this is what the service will be shown."""
    shown = connection.shown()
    if shown.token and shown.token != mine.token:
        progress("but a token of yours comes before it: unset BEARER_TOKEN and BEARER_TOKEN_FILE,")
        progress(f"and remove {credentials.token_place({})}, to be known by this one")
    elif shown.files and shown.files != mine.files:
        progress(f"but {shown.files[0]} comes before it: unset X509_USER_CERT to be known by this")


def _typed(ctx: typer.Context) -> bool:
    """Whether the user has typed --url; a variable is not for us to remember."""
    above = ctx.parent
    source = above.get_parameter_source("url") if above else None
    return source is not None and source.name == "COMMANDLINE"
