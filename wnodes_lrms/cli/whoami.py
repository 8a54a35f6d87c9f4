"""`wnodes whoami`: how the cloud service sees a user, and why it refuses them."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from wnodes_lrms.cli import credentials
from wnodes_lrms.cli.cloud import settings
from wnodes_lrms.cli.credentials import CertFile, Credentials, KeyFile, ProxyFile, TokenFile, Url
from wnodes_lrms.cli.out import error, listing, utc
from wnodes_lrms.errors import RejectedError, UnknownError

_PATIENCE = 30.0  # seconds
_LONGEST = 1 << 20  # bytes of the answer
_UNITS = {"memory": " MiB", "storage": " GiB", "walltime": " s"}

AsJson = Annotated[bool, typer.Option("--json", help="an object, for programs")]
Link = Annotated[
    bool, typer.Option("--link", help="show certificate and token together: both are you")
]


def whoami(
    url: Url = "",
    cert: CertFile = None,
    key: KeyFile = None,
    proxy: ProxyFile = None,
    token: TokenFile = None,
    link: Link = False,
    as_json: AsJson = False,
) -> None:
    """Tell how the cloud service sees you: name, attributes, account, rights, quota.

    You show the token or certificate that the options name, else the token that is found, else the
    certificate. The exit code is 1 if you are refused; then the reason is told.
    """
    shown = credentials.chosen(cert, key, proxy, token, os.environ)
    if link:
        given = shown.token or credentials.discovered(os.environ)
        if not given:
            raise RejectedError("--link needs a token too: name its file with --token")
        files = credentials.certificate(cert, key, proxy, os.environ)
        shown = Credentials(files, given)
    service = settings.service_url(url, settings.read(os.environ))
    seen = _ask(service, shown, "POST" if link else "GET")
    if as_json:
        typer.echo(json.dumps(seen, indent=2))
    else:
        listing(
            [{"key": key, "value": value} for key, value in _rows(seen)], ("key", "value"), False
        )
    if seen["refused"] is not None:
        error(f"refused: {seen['refused']}")
        raise typer.Exit(1)


def _ask(url: str, shown: Credentials, method: str) -> Any:
    """The service's answer. Raises RejectedError, UnknownError."""
    import httpx  # takes longer to import than all else of `wnodes`

    context = shown.context(os.environ)
    try:
        with httpx.stream(
            method,
            f"{url}/whoami",
            verify=context,
            timeout=_PATIENCE,
            headers=shown.headers,
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
