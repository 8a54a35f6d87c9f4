"""Which cloud service, and what one is known by there: a small file of the user's.

The command runs on users' own hosts, where no configuration of a site is.
"""

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from wnodes_lrms.cli import owned
from wnodes_lrms.errors import ConfigError, RejectedError

_URL = re.compile(r"https://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?/?")
_NOWHERE = (
    "which cloud service? Set WNODES_URL to its URL, as https://host:11443; or have it remembered: "
    "wnodes cloud --url URL login"
)
_EVERYWHERE = frozenset({"0.0.0.0", "[::]", "::", ""})  # noqa: S104 (compared, not listened on)


@dataclass(frozen=True)
class Settings:
    """The file. `voms` is VO[:FQAN] and `oidc` a name, as given to `login` the last time.

    `audience` is what tokens are asked for, where the issuer's usual ones are not for the service.
    """

    url: str = ""
    voms: str = ""
    oidc: str = ""
    audience: str = ""


def folder(environment: Mapping[str, str]) -> Path:
    """Where a user's files of this command are, by the XDG base directory specification."""
    home = environment.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "wnodes"


def read(environment: Mapping[str, str]) -> Settings:
    """What the user's file says; nothing where there is none. Raises ConfigError."""
    path = _file(environment)
    try:
        with path.open("rb") as file:
            own = owned.is_safe(os.fstat(file.fileno()))
            tables = tomllib.load(file)
    except FileNotFoundError:
        return Settings()
    except OSError as fault:
        raise ConfigError(str(path), [fault.strerror or str(fault)]) from fault
    except ValueError as fault:  # of TOML, or of UTF-8
        raise ConfigError(str(path), [str(fault)]) from fault
    if not own:  # whoever writes to it would be shown what the user is known by
        raise ConfigError(str(path), ["not used: others may write to it: chown it, chmod go-w it"])
    known = {field.name for field in fields(Settings)}
    faults = [
        f"{key}: unknown; there are {', '.join(sorted(known))}" for key in tables.keys() - known
    ]
    faults += [f"{key}: text is needed" for key in known & tables.keys() if not _text(tables[key])]
    if faults:
        raise ConfigError(str(path), sorted(faults))
    return Settings(**tables)


def write(settings: Settings, environment: Mapping[str, str]) -> None:
    """Keep this in the user's file."""
    import tomli_w

    path = _file(environment)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    owned.keep(tomli_w.dumps({k: v for k, v in asdict(settings).items() if v}), path)


def audience(given: str, settings: Settings) -> str:
    """What a token for the service is to be for: its URL, as services are named in tokens (WLCG
    Common JWT Profile 1.3); "" where no service is known.
    """
    url = given or settings.url
    return url.rstrip("/").removesuffix(":443") if _URL.fullmatch(url) else ""


def kept_audience(given: str, settings: Settings) -> str:
    """What tokens are asked for there: what is remembered, if it is this very service. One that is
    for a service alone is not for another one to see."""
    return settings.audience if settings.audience == audience(given, settings) else ""


def service_url(given: str, settings: Settings) -> str:
    """The service's URL, without a slash at its end: given, or remembered, or the one of this host.

    Raises RejectedError where there is none, or it is none of HTTPS: what one is known by is shown
    to whoever answers.
    """
    url = given or settings.url or _of_this_host()
    if not url:
        raise RejectedError(_NOWHERE)
    return checked(url)


def checked(url: str) -> str:
    """A service's URL, without a slash at its end. Raises RejectedError if it is none."""
    if not _URL.fullmatch(url):
        raise RejectedError(f"«{url}» is not a service's URL, as https://host:11443")
    return url.rstrip("/")


def _of_this_host() -> str:
    """Where a bridge runs, which has the key of orders: that bridge."""
    from wnodes_lrms.config import load as configuration  # takes long to import

    path = configuration.path_in_use()
    if not os.access(path, os.R_OK):
        return ""
    bridge = configuration.load(path).bridge
    if not bridge or not os.access(bridge.order_key, os.F_OK):
        return ""
    host, _, port = bridge.listen.rpartition(":")
    return f"https://{socket.getfqdn() if host in _EVERYWHERE else host}:{port}"


def _file(environment: Mapping[str, str]) -> Path:
    return folder(environment) / "cloud.toml"


def _text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()
