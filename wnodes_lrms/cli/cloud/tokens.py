"""Bearer tokens by the programs that users have for them: oidc-token, or htgettoken."""

import re
import shutil
from pathlib import Path

from wnodes_lrms.cli import owned
from wnodes_lrms.cli.cloud.programs import ask
from wnodes_lrms.errors import RejectedError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN = re.compile(r"[!-~]+")


def get(name: str, place: Path) -> None:
    """Have a new token put at a place.

    `name` is an account of oidc-agent's, whose program oidc-token is, or an issuer of htgettoken's.
    What is there stays until the new one has come. Raises RejectedError.
    """
    if not _NAME.fullmatch(name):
        raise RejectedError(f"«{name}» is not the name of an account of oidc-agent")
    if shutil.which("oidc-token"):
        ended = ask(["oidc-token", name], "oidc-agent")
        token = ended.output.strip()
        if ended.status != 0 or not _TOKEN.fullmatch(token):
            raise RejectedError(f"no token of «{name}»: {_meaning(ended.errors, name)}")
        keep(token, place)
    elif shutil.which("htgettoken"):
        # It may show a URL to be visited, so what it says is for the user.
        ended = ask(["htgettoken", "-i", name, "-o", str(place)], "htgettoken", show=True)
        if ended.status != 0:
            raise RejectedError(f"no token of «{name}»: htgettoken has said why")
    else:
        raise RejectedError(
            "no program here gets tokens: install oidc-agent (or htgettoken), and set it up once"
            f" by oidc-gen {name}"
        )


def keep(token: str, place: Path) -> None:
    """Put a token into a file that is its user's alone. Raises RejectedError.

    In /tmp another's file can't be replaced, and none is written through.
    """
    try:
        owned.keep(token + "\n", place)
    except OSError as fault:
        raise RejectedError(f"{place}: the token can't be kept there: {fault.strerror}") from fault


def _meaning(said: str, name: str) -> str:
    """What oidc-token (4.2) has said, in words; else its last line, without the program's name."""
    if "did not receive any response" in said:
        return f'oidc-agent is not running: eval "$(oidc-agent)", then oidc-add {name}'
    if "No account configured" in said:
        return f"oidc-agent has no such account: oidc-gen {name} makes it"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return re.sub(r"^(?:oidc-token: )?(?:Error: )?", "", lines[-1]) if lines else "it says nothing"
