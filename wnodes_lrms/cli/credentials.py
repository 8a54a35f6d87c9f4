"""What a user's commands show the cloud service: a token, or a certificate or proxy.

Files and variables are those that other clients of grids know. One credential is shown at a time:
the one that is named, else a token, else a certificate. (Of two the service would take the token.)
"""

import os
import re
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

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
    token: str | None = None

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
    if token:
        return Credentials(token=_read(token))
    if not (cert or proxy):
        found = discovered(environment)
        if found:
            return Credentials(token=found)
    return Credentials(files=certificate(cert, key, proxy, environment))


def discovered(environment: Mapping[str, str]) -> str | None:
    """The user's token, by WLCG Bearer Token Discovery 1.0; None where there is none.

    Raises RejectedError for one that can't be used.
    """
    own = os.getuid()
    if environment.get("BEARER_TOKEN", "").strip():
        return _form(environment["BEARER_TOKEN"], "$BEARER_TOKEN")
    if environment.get("BEARER_TOKEN_FILE"):
        return _read(Path(environment["BEARER_TOKEN_FILE"]))
    folders = [environment.get("XDG_RUNTIME_DIR", ""), "/tmp"]  # noqa: S108 (where others put it)
    for folder in filter(None, folders):
        path = Path(folder) / f"bt_u{own}"
        if os.path.lexists(path):
            return _read(path, own=own)
    return None


def certificate(
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
    usual = proxy_place({})
    if usual.exists():
        return usual, usual
    globus = Path.home() / ".globus"
    return globus / "usercert.pem", globus / "userkey.pem"


def proxy_place(environment: Mapping[str, str]) -> Path:
    """Where the user's proxy is, or would be."""
    usual = f"/tmp/x509up_u{os.getuid()}"  # noqa: S108 (where every grid client has it)
    return Path(environment.get("X509_USER_PROXY") or usual)


def token_place(environment: Mapping[str, str]) -> Path:
    """The file that a new token of the user's goes to, by the same rules as it is found."""
    folder = environment.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 (as above)
    return Path(environment.get("BEARER_TOKEN_FILE") or Path(folder) / f"bt_u{os.getuid()}")


def _read(path: Path, own: int | None = None) -> str:
    """The token in a file; where nobody has named it, it has to be this user's (`own`).

    In /tmp anybody can leave one, and whoever took it would be somebody else. Raises RejectedError.
    """
    flags = os.O_RDONLY if own is None else os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if own is not None and not (stat.S_ISREG(found.st_mode) and found.st_uid == own):
                raise RejectedError(f"{path}: the token is not used: it is no file of this user's")
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
