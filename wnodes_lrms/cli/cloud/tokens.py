"""Bearer tokens by the programs that users have for them: oidc-token, or htgettoken.

Neither is told a secret, nor tells one but for the token itself, on its standard output or in a
file.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from wnodes_lrms.cli import owned
from wnodes_lrms.cli.cloud.programs import ask
from wnodes_lrms.errors import RejectedError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN = re.compile(r"[!-~]+")
_LEAST = 300  # seconds that a token is good for when it comes
# What oidc-token (4.2) says, and what it means.
_MEANINGS: Sequence[tuple[str, str]] = (
    (
        "did not receive any response",
        'oidc-agent is not running: eval "$(oidc-agent)", then oidc-add {name}',
    ),
    ("No account configured", "oidc-agent has no such account: oidc-gen {name} makes it"),
)


def get(name: str, place: Path, audience: str = "") -> None:
    """Have a new token put at a place; for an `audience` alone, or else as its issuer has it.

    `name` is an account of oidc-agent's, whose program oidc-token is, or an issuer of htgettoken's.
    What is there stays until the new one has come. Raises RejectedError.
    """
    if not _NAME.fullmatch(name):
        raise RejectedError(f"«{name}» is not the name of an account of oidc-agent")
    if renews_by_itself():
        keep(_of_agent(name, audience), place)
    elif shutil.which("htgettoken"):
        # It may show a URL to be visited, so what it says is for the user.
        argv = ["htgettoken", "-i", name, "-o", str(place)]
        argv += [f"--audience={audience}"] if audience else []
        if ask(argv, "htgettoken", show=True).status != 0:
            raise RejectedError(f"no token of «{name}»: htgettoken has said why")
    else:
        raise RejectedError(
            "no program here gets tokens: install oidc-agent (or htgettoken), and set it up once"
            f" by oidc-gen {name}"
        )


def renews_by_itself() -> bool:
    """Whether a token is to be had here without a question to the user: oidc-agent is there."""
    return shutil.which("oidc-token") is not None


def _of_agent(name: str, audience: str) -> str:
    """A token of oidc-agent's, which keeps them: never one that is almost over. Raises
    RejectedError.
    """
    argv = ["oidc-token", f"--time={_LEAST}", *(("--aud", audience) if audience else ()), name]
    ended = ask(argv, "oidc-agent")
    token = ended.output.strip()
    if ended.status != 0 or not _TOKEN.fullmatch(token):
        what = f"«{name}» for {audience}" if audience else f"«{name}»"
        raise RejectedError(f"no token of {what}: {_meaning(ended.errors, name)}")
    return token


def keep(token: str, place: Path) -> None:
    """Put a token into a file that is its user's alone. Raises RejectedError.

    In /tmp another's file can't be replaced, and none is written through.
    """
    try:
        owned.keep(token + "\n", place)
    except OSError as fault:
        raise RejectedError(f"{place}: the token can't be kept there: {fault.strerror}") from fault


def _meaning(said: str, name: str) -> str:
    """What oidc-token has said, in words; else its last line, without the program's name."""
    known = next((words for part, words in _MEANINGS if part in said), None)
    if known:
        return known.format(name=name)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return re.sub(r"^(?:oidc-token: )?(?:Error: )?", "", lines[-1]) if lines else "it says nothing"
