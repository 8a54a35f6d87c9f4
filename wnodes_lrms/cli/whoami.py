"""`wnodes whoami`: how the cloud service sees a user, and why it refuses them."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from wnodes_lrms.cli import credentials
from wnodes_lrms.cli.cloud import settings, standing
from wnodes_lrms.cli.cloud.connection import vet
from wnodes_lrms.cli.credentials import CertFile, Credentials, KeyFile, ProxyFile, TokenFile, Url
from wnodes_lrms.cli.out import error, listing, progress, utc
from wnodes_lrms.errors import RejectedError, UnknownError

_PATIENCE = 30.0  # seconds
_LONGEST = 1 << 20  # bytes of the answer
_UNITS = {"memory": " MiB", "storage": " GiB", "walltime": " s"}

AsJson = Annotated[bool, typer.Option("--json", help="an object, for programs")]
Link = Annotated[
    bool, typer.Option("--link", help="show certificate and token together: both are you")
]
Unlink = Annotated[
    bool, typer.Option("--unlink", help="the token stands for itself again, not for a certificate")
]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask before --link, for scripts")]


def whoami(
    url: Url = "",
    cert: CertFile = None,
    key: KeyFile = None,
    proxy: ProxyFile = None,
    token: TokenFile = None,
    link: Link = False,
    unlink: Unlink = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Tell how the cloud service sees you: name, attributes, account, rights, quota.

    You show the token or certificate that the options name, else the token that is found, else the
    certificate. The exit code is 1 if you are refused; then the reason is told.
    """
    if link:
        if unlink:
            raise RejectedError("--link and --unlink can't be had together")
        known = _both(cert, key, proxy, token)
    elif unlink:
        known = _token_alone(cert, proxy, token)
    else:
        known = credentials.chosen(cert, key, proxy, token, os.environ)
    kept = settings.read(os.environ)
    service = settings.service_url(url, kept)
    vet(known, service, kept)
    if link and not yes:
        _agree(known)
    seen = _ask(service, known, "POST" if link else "DELETE" if unlink else "GET")
    if as_json:
        typer.echo(json.dumps(seen, indent=2))
    else:
        listing(
            [{"key": key, "value": value} for key, value in _rows(seen)], ("key", "value"), False
        )
    if seen["refused"] is not None:
        error(f"refused: {seen['refused']}")
        raise typer.Exit(1)


def _both(
    cert: Path | None, key: Path | None, proxy: Path | None, token: Path | None
) -> Credentials:
    """A certificate of the user's own and a token. Raises RejectedError.

    A proxy does not do; not even one that is at the usual place, as another may have left it there.
    """
    if proxy:
        raise RejectedError("--link needs your own certificate and no proxy: name it with --cert")
    held = credentials.bearer(token, os.environ)
    if not held:
        raise RejectedError("--link needs a token too: name its file with --token")
    return Credentials(credentials.own_certificate(cert, key, os.environ), held)


def _token_alone(cert: Path | None, proxy: Path | None, token: Path | None) -> Credentials:
    """The token whose link is to go. Raises RejectedError."""
    held = credentials.bearer(token, os.environ)
    if cert or proxy or not held:
        raise RejectedError("--unlink needs the token alone: name its file with --token")
    return Credentials(token=held)


def _agree(both: Credentials) -> None:
    """Ask at the terminal whether these two are the user. Raises RejectedError."""
    assert both.files  # noqa: S101 (as _both has it)
    progress(f"certificate: {standing.certificate_name(both.files[0])}")
    progress(f"token: {standing.token_name(both.token or '')}")
    if not sys.stdin.isatty():
        raise RejectedError("--link asks at a terminal whether both are you; in a script: --yes")
    if not typer.confirm("Are both you? The token will have what the certificate has", err=True):
        raise RejectedError("nothing was linked")


def _ask(url: str, known: Credentials, method: str) -> Any:
    """The service's answer. Raises RejectedError, UnknownError."""
    import httpx  # takes longer to import than all else of `wnodes`

    context = known.context(os.environ)
    try:
        with httpx.stream(
            method,
            f"{url}/whoami",
            verify=context,
            timeout=_PATIENCE,
            headers=known.headers,
        ) as answer:
            content = next(answer.iter_bytes(_LONGEST), b"")  # no more, however much comes
        seen = json.loads(content)
        _ = seen["refused"], seen["dn"]
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        raise UnknownError(f"{url}: {fault}") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise UnknownError(
            f"{url} is not a wnodes-bridge: it answers {answer.status_code}"
        ) from fault
    return seen


def _rows(seen: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    name, owner = seen.get("subject") or seen["dn"], seen.get("owner")
    yield "name", name
    if seen.get("kind"):
        yield "known by", seen["kind"]
    if seen.get("ignored"):
        yield "not counted", f"the certificate of {seen['ignored']}"
    if owner and owner != name:
        yield "linked to", owner
    for each in seen.get("links") or ():
        yield "linked", f"{each['subject']} to {each['dn']}, {utc(each['created'])}"
    yield "attributes", " ".join(seen["fqans"])
    if seen.get("may") is not None:
        yield "limited to", " ".join(seen["may"])
    yield "account", seen["account"]
    for name, value in (seen["grant"] or {}).items():
        text = " ".join(value) if isinstance(value, list) else value
        yield name, f"{text}{_UNITS.get(name, '')}"
    for name, amount in (seen["quota"] or {}).items():
        used = "?" if amount["used"] is None else amount["used"]
        yield name, f"{used} of {amount['allowed']}{_UNITS.get(name, '')}"
