"""wnodes-lrms: what this node's bait says to a starter that asks for its job's machine.

Standard library only.
"""

import json
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from hooks.batch import Job, NoMachineError
else:  # beside this file, see starter.py
    from batch import Job, NoMachineError

# The bait speaks at least every 5 s while it works on a machine; this is "it hangs".
SILENCE = 30.0  # seconds
LONGEST = 131072  # bytes of an answer
BAIT_AWAY = 60.0  # seconds to wait for a bait that can't be reached, as in a restart
SLICE = 1.0  # seconds: at most so much of a time in which the job was suspended counts as waiting
TELL_AFTER = 5.0  # seconds, then the user hears what the job waits for


class Patience:
    """Seconds to wait, of which those do not pass in which this process is stopped: the batch
    system may suspend a job for hours."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._at = time.monotonic()

    def left(self) -> float:
        """Seconds that are left; to be asked at least once in a SLICE."""
        now = time.monotonic()
        self._left -= min(now - self._at, SLICE)
        self._at = now
        return self._left


def attach(job: Job, path: str) -> dict[str, Any]:
    """The bait's description of the machine, once it is ready. Raises NoMachineError."""
    begun, away = time.monotonic(), Patience(BAIT_AWAY)
    told, waits = False, ""
    while True:
        try:
            for answer in answers(job, path):
                if answer.get("state") == "ready":
                    return answer
                if answer.get("state") == "failed":
                    raise NoMachineError(answer["message"], answer["retry"])
                if answer.get("busy"):
                    trouble = f"has {answer.get('error')}"
                    break
                if answer.get("ok") is False:
                    raise NoMachineError(answer["error"], answer.get("retry", True))
                if not told and time.monotonic() - begun >= TELL_AFTER - 1:
                    told = True
                    job.say(f"waiting for its machine on node {job.node}: {answer.get('state')}")
                if answer.get("waits") and answer["waits"] != waits:
                    waits = answer["waits"]
                    job.say(f"waiting: {waits}")
            else:
                trouble = "closed the connection"
        except TimeoutError:
            raise NoMachineError(
                f"the bait on node {job.node} does not answer ({path}): it hangs"
            ) from None
        except OSError as error:
            trouble = f"can't be reached at {path}: {error.strerror}"
        except ValueError as error:
            raise NoMachineError(
                f"the bait on node {job.node} says what is no answer ({path}): {error}"
            ) from None
        if away.left() <= 0:
            raise NoMachineError(f"the bait on node {job.node} {trouble}")
        if not told:
            told = True
            job.say(f"the bait on node {job.node} {trouble}; trying for {BAIT_AWAY:g} s")
        time.sleep(1)


def answers(job: Job, path: str) -> Iterator[dict[str, Any]]:
    """What the bait says to a request to attach. Raises OSError, TimeoutError, ValueError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(SILENCE)
        link.connect(path)
        link.sendall(json.dumps({"op": "attach", "job": job.number}).encode() + b"\n")
        for line in lines(link):
            answer = json.loads(line)
            if not isinstance(answer, dict):
                raise ValueError("no JSON object")
            yield answer


def lines(link: socket.socket) -> Iterator[bytes]:
    """What comes, line by line, each whole within SILENCE. Raises OSError, TimeoutError, ValueError
    for one without end."""
    data, patience = b"", Patience(SILENCE)
    while True:
        line, end, rest = data.partition(b"\n")
        if end:
            yield line
            data, patience = rest, Patience(SILENCE)
            continue
        if len(data) > LONGEST:
            raise ValueError("a line without end")
        left = patience.left()
        link.settimeout(max(0.001, min(left, SLICE)))
        try:
            piece = link.recv(4096)
        except TimeoutError:
            if left <= SLICE:
                raise
            continue
        if not piece:
            return
        data += piece


def look(job: Job, path: str) -> dict[str, Any]:
    """What the bait says of a machine that was ready; nothing if the bait is away."""
    try:
        for answer in answers(job, path):
            if answer.get("state") in ("failed", "ready"):
                return answer
    except (OSError, ValueError):
        pass  # a bait may be restarted under a running job
    return {}


def failure(answer: dict[str, Any]) -> NoMachineError | None:
    """What the bait has against the machine: nothing if it is well, or if the bait is away."""
    failed = answer.get("state") == "failed"
    return NoMachineError(answer["message"], answer["retry"]) if failed else None
