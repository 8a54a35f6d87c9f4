"""Says to a QEMU what it is to do, over its monitor's socket (QMP)."""

import json
import socket
from pathlib import Path
from typing import Any

from ..box.errors import SiteError


def tell(path: Path, line: str, seconds: float) -> None:
    """Have a line of the human monitor done; comes back when it is. Raises SiteError."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(seconds)
            link.connect(str(path))
            with link.makefile("rw") as stream:
                stream.readline()  # its greeting
                _execute(stream, "qmp_capabilities")
                said = _execute(stream, "human-monitor-command", {"command-line": line})
    except (OSError, ValueError) as error:
        raise SiteError(f"QEMU does not do «{line}»: {error}", "see its log") from error
    if said:
        raise SiteError(f"QEMU does not do «{line}»: {said}", "see its log")


def _execute(stream: Any, command: str, arguments: dict[str, str] | None = None) -> Any:
    """What it returns; what it tells unasked in between is passed over. Raises ValueError."""
    stream.write(json.dumps({"execute": command, "arguments": arguments or {}}) + "\n")
    stream.flush()
    for line in stream:
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"]["desc"])
        if "return" in answer:
            return answer["return"]
    raise ValueError("it has ended")
