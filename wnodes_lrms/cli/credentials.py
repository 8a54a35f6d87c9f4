"""What a user's commands show the cloud service: a token, or a certificate or proxy.

Files and variables are those that other clients of grids know. One credential is shown at a time:
the one that is named, else a token, else a certificate. (Of two the service would take the token.)
"""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from wnodes_lrms.cli import owned
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.tls.client import trusting

_CA_DIR = "/etc/grid-security/certificates"
_LONGEST = 65536  # bytes of a file with a token
_TOKEN = re.compile(r"[!-~]+")

Url = Annotated[str, typer.Option(envvar="WNODES_URL", help="the service, as https://host:11443")]
CertFile = Annotated[Path | None, typer.Option(help="certificate; default: $X509_USER_CERT")]
KeyFile = Annotated[Path | None, typer.Option(help="its key; default: $X509_USER_KEY")]
ProxyFile = Annotated[Path | None, typer.Option(help="proxy; default: $X509_USER_PROXY")]
TokenFile = Annotated[
    Path | None, typer.Option(help="token; default: $BEARER_TOKEN_FILE, or bt_u<uid>")
]


@dataclass(frozen=True)
class Credentials:
    """What is shown: files of certificate and key, or a token, or both."""

    files: tuple[Path, Path] | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def context(self, environment: Mapping[str, str]) -> ssl.SSLContext:
        """TLS to the service. Raises RejectedError if the files can't be used."""
        folder = environment.get("X509_CERT_DIR", _CA_DIR)
        known = "X509_CERT_DIR" in environment or Path(folder).is_dir()
        context = trusting(folder if known else None)
        if self.files:
            try:
                context.load_cert_chain(*self.files)
            except OSError as fault:  # ssl.SSLError is one
                said = fault.strerror if fault.errno else str(fault)
                names = " and ".join(map(str, self.files))
                raise RejectedError(f"{names} can't be used: {said}") from fault
        return context


def chosen(
    cert: Path | None,
    key: Path | None,
    proxy: Path | None,
    token: Path | None,
    environment: Mapping[str, str],
) -> Credentials:
    """The credential of the options, or the one that is found. Raises RejectedError."""
    if token or not (cert or proxy):
        held = bearer(token, environment)
        if held:
            return Credentials(token=held)
    return Credentials(files=certificate(cert, key, proxy, environment))


def bearer(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """The token in a file that is named, or the one that is found. Raises RejectedError."""
    return _read(file) if file else discovered(environment)


def kept_token(place: Path) -> str | None:
    """The token in the file that a new one would go to; None where none can be read there."""
    try:
        return _read(place)
    except RejectedError:
        return None


def discovered(environment: Mapping[str, str]) -> str | None:
    """The user's token, by WLCG Bearer Token Discovery 1.0; None where there is none.

    Raises RejectedError for one that can't be used.
    """
    if environment.get("BEARER_TOKEN", "").strip():
        return _form(environment["BEARER_TOKEN"], "$BEARER_TOKEN")
    if environment.get("BEARER_TOKEN_FILE"):
        return _read(Path(environment["BEARER_TOKEN_FILE"]))
    folders = [environment.get("XDG_RUNTIME_DIR", ""), "/tmp"]  # noqa: S108 (where others put it)
    for folder in filter(None, folders):
        path = Path(folder) / f"bt_u{os.geteuid()}"
        if os.path.lexists(path):
            return _read(path, found=True)
    return None


def certificate(
    cert: Path | None, key: Path | None, proxy: Path | None, environment: Mapping[str, str]
) -> tuple[Path, Path]:
    """The files of certificate and key: those given, or the first that grid clients would take.

    Raises RejectedError for a proxy at the usual place that is not the user's own.
    """
    place = proxy
    if not (place or cert) and "X509_USER_PROXY" in environment:
        place = Path(environment["X509_USER_PROXY"])
    elif not (place or cert) and "X509_USER_CERT" not in environment:
        usual = proxy_place({})
        place = usual if os.path.lexists(usual) else None
    if place:
        verify_proxy(place)
        return place, place
    return own_certificate(cert, key, environment)


def own_certificate(
    cert: Path | None, key: Path | None, environment: Mapping[str, str]
) -> tuple[Path, Path]:
    """The files of certificate and key where no proxy will do."""
    if cert:
        return cert, key or cert
    if "X509_USER_CERT" in environment:
        own = environment["X509_USER_CERT"]
        return Path(own), Path(environment.get("X509_USER_KEY", own))
    globus = Path.home() / ".globus"
    return globus / "usercert.pem", globus / "userkey.pem"


def verify_proxy(path: Path) -> None:
    """See that what is at the usual place of proxies is the user's own, whoever has named it.

    Raises RejectedError.
    """
    if path == proxy_place({}) and os.path.lexists(path):
        owned.verify(path, "proxy", owned.PRIVATE)


def proxy_place(environment: Mapping[str, str]) -> Path:
    """Where the user's proxy is, or would be."""
    usual = f"/tmp/x509up_u{os.geteuid()}"  # noqa: S108 (where every grid client has it)
    return Path(environment.get("X509_USER_PROXY") or usual)


def token_place(environment: Mapping[str, str]) -> Path:
    """The file that a new token of the user's goes to, by the same rules as it is found."""
    folder = environment.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 (as above)
    return Path(environment.get("BEARER_TOKEN_FILE") or Path(folder) / f"bt_u{os.geteuid()}")


def _read(path: Path, *, found: bool = False) -> str:
    """The token in a file; one that was `found`, or is in /tmp under its usual name, has to be
    this user's. Raises RejectedError.
    """
    usual = found or path == token_place({})
    try:
        with owned.opened(path, "token", owned.WRITABLE) if usual else path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as fault:
        raise RejectedError(f"{path}: the token can't be read: {fault.strerror}") from fault
    if len(content) > _LONGEST:
        raise RejectedError(f"{path}: has more than {_LONGEST} bytes: that is no token")
    return _form(content.decode("latin-1"), str(path))


def _form(text: str, where: str) -> str:
    text = text.strip()
    if not _TOKEN.fullmatch(text):
        raise RejectedError(f"{where}: has no token in it")
    return text
