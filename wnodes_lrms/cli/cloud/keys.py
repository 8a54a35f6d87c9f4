"""What goes into a new VM from its user's files: a public SSH key, data for the first boot."""

import base64
from collections.abc import Sequence
from pathlib import Path

from wnodes_lrms.errors import RejectedError

_USUAL: Sequence[str] = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")  # in ~/.ssh
_MOST_KEY = 16384  # characters, as the service takes them
_MOST_DATA = 49152  # characters of base64


def public_key(path: Path) -> str:
    """The key in a file. Raises RejectedError for what is none, first of all for a private key."""
    path = path.expanduser()
    text = _content(path, _MOST_KEY).decode("utf-8", "replace").strip()
    if "PRIVATE KEY" in text or text.startswith("PuTTY-User-Key-File"):
        raise RejectedError(
            f"{path} is a private key, which never leaves your host: give its public half,"
            f" {_public_of(path)}"
        )
    if not text:
        raise RejectedError(f"{path} is empty: a public SSH key is needed")
    if "\n" in text or len(text.split()) < 2:
        raise RejectedError(f"{path} is not one public SSH key, as ssh-keygen makes it (….pub)")
    return text


def usual_key() -> Path | None:
    """The key of a user who names none: the first that ssh would use."""
    found = (Path.home() / ".ssh" / name for name in _USUAL)
    return next((path for path in found if path.exists()), None)


def private_half(public: Path | None) -> Path | None:
    """The private key beside a public one; None where it is not there (an agent may have it)."""
    if not public or public.suffix != ".pub":
        return None
    path = public.expanduser().with_suffix("")
    return path if path.exists() else None


def user_data(path: Path) -> str:
    """The content of a file, in base64. Raises RejectedError if it is too long."""
    return base64.b64encode(_content(path, _MOST_DATA // 4 * 3)).decode()


def _content(path: Path, most: int) -> bytes:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(most + 1)
    except OSError as fault:
        raise RejectedError(f"{path} can't be read: {fault.strerror}") from fault
    if len(content) > most:
        raise RejectedError(f"{path} is too long: the service takes {most} bytes of it at most")
    return content


def _public_of(path: Path) -> Path | str:
    beside = path.with_name(f"{path.name}.pub")
    return beside if beside.exists() else f"which ssh-keygen -y -f {path} prints"
