"""From a VM that runs to a login in it, by the user's own ssh."""

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from wnodes_lrms.cli.cloud import settings
from wnodes_lrms.errors import RejectedError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def arguments(
    vm: Mapping[str, str],
    user: str,
    identity: Path | None,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> list[str]:
    """The command line of ssh into a VM (its row).

    Addresses are given to one VM after the other, so a host key is remembered for the VM's id, in a
    file of our own. Raises RejectedError for what is no address or no id.
    """
    if not _ID.fullmatch(vm["id"]):
        raise RejectedError(f"«{vm['id']}» is not a VM's id")
    address = _address(vm["address"])
    if not address:
        raise RejectedError(f"VM {vm['id']}: «{vm['address']}» is not an address")
    known = settings.folder(environment) / "known_hosts"
    options = [
        f"HostKeyAlias=wnodes-{vm['id']}",
        f'UserKnownHostsFile="{known}"',
        "StrictHostKeyChecking=accept-new",
    ]
    words = [word for option in options for word in ("-o", option)]
    words += ["-i", str(identity)] if identity else []
    return ["ssh", *words, "-l", user, "--", address, *command]


def _address(text: str) -> str:
    """An IP address as ssh takes it; "" for all else, and for one with a zone.

    A zone (RFC 4007) is a card of this host, which no service knows, and Python takes any text.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return "" if isinstance(address, ipaddress.IPv6Address) and address.scope_id else str(address)


def become(argv: list[str]) -> NoReturn:
    """Let this process become ssh, with the user's terminal. Raises RejectedError without one."""
    folder = settings.folder(os.environ)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (the terminal becomes ssh's)
    except FileNotFoundError as fault:
        raise RejectedError("there is no ssh on this host: install OpenSSH's client") from fault
