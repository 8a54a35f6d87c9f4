"""`wnodes whoami`: how the cloud service sees a user, and why it refuses them."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from wnodes_lrms.cli.out import error, listing
from wnodes_lrms.errors import RejectedError, UnknownError
from wnodes_lrms.tls.client import trusting

_CA_DIR = "/etc/grid-security/certificates"
_PATIENCE = 30.0  # seconds
_LONGEST = 1 << 20  # bytes of the answer
_UNITS = {"memory": " MiB", "storage": " GiB", "walltime": " s"}

Url = Annotated[str, typer.Option(envvar="WNODES_URL", help="the service, as https://host:11443")]
CertFile = Annotated[Path | None, typer.Option(help="certificate; default: $X509_USER_CERT")]
KeyFile = Annotated[Path | None, typer.Option(help="its key; default: $X509_USER_KEY")]
ProxyFile = Annotated[Path | None, typer.Option(help="proxy; default: $X509_USER_PROXY")]
AsJson = Annotated[bool, typer.Option("--json", help="an object, for programs")]


def whoami(
    url: Url,
    cert: CertFile = None,
    key: KeyFile = None,
    proxy: ProxyFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell how the cloud service sees you: name, attributes, account, rights, quota.

    The exit code is 1 if it refuses you; then the reason is told.
    """
    import httpx  # takes longer to import than all else of `wnodes`

    files = _credential(cert, key, proxy, os.environ)
    try:
        context = trusting(os.environ.get("X509_CERT_DIR", _CA_DIR))
        context.load_cert_chain(*files)
    except OSError as fault:  # ssl.SSLError is one
        said = fault.strerror if fault.errno else str(fault)
        raise RejectedError(f"{' and '.join(map(str, files))} can't be used: {said}") from fault
    try:
        whole = f"{url.rstrip('/')}/whoami"
        with httpx.stream("GET", whole, verify=context, timeout=_PATIENCE) as answer:
            content = next(answer.iter_bytes(_LONGEST), b"")  # no more, however much comes
        seen = json.loads(content)
        refused = seen["refused"]
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        raise UnknownError(f"{url}: {fault}") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise UnknownError(
            f"{url} is not a wnodes-bridge: it answers {answer.status_code}"
        ) from fault
    if as_json:
        typer.echo(json.dumps(seen, indent=2))
    else:
        listing(
            [{"key": key, "value": value} for key, value in _rows(seen)], ("key", "value"), False
        )
    if refused is not None:
        error(f"refused: {refused}")
        raise typer.Exit(1)


def _credential(
    cert: Path | None, key: Path | None, proxy: Path | None, environment: Mapping[str, str]
) -> tuple[Path, Path]:
    """The files of certificate and key: those given, or the first that grid clients would take."""
    if proxy:
        return proxy, proxy
    if cert:
        return cert, key or cert
    if "X509_USER_PROXY" in environment:
        return (Path(environment["X509_USER_PROXY"]),) * 2
    if "X509_USER_CERT" in environment:
        own = environment["X509_USER_CERT"]
        return Path(own), Path(environment.get("X509_USER_KEY", own))
    usual = Path(f"/tmp/x509up_u{os.getuid()}")  # noqa: S108 (where every grid client has it)
    if usual.exists():
        return usual, usual
    globus = Path.home() / ".globus"
    return globus / "usercert.pem", globus / "userkey.pem"


def _rows(seen: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "name", seen["dn"]
    yield "attributes", " ".join(seen["fqans"])
    yield "account", seen["account"]
    for name, value in (seen["grant"] or {}).items():
        text = " ".join(value) if isinstance(value, list) else value
        yield name, f"{text}{_UNITS.get(name, '')}"
    for name, amount in (seen["quota"] or {}).items():
        used = "?" if amount["used"] is None else amount["used"]
        yield name, f"{used} of {amount['allowed']}{_UNITS.get(name, '')}"
