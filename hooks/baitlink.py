"""wnodes-lrms: what this node's bait says to a starter that asks for its job's machine.

Standard library only.
"""

from __future__ import annotations

import time
from typing import Any

from baitsocket import Patience, answers
from requeue import Job, NoVmError

BAIT_AWAY = 60.0  # seconds to wait for a bait that can't be reached, or is silent
TELL_AFTER = 5.0  # seconds, then the user hears what the job waits for


def attach(job: Job, path: str) -> dict[str, Any]:
    """The bait's description of the machine, once it is ready. Raises NoVmError."""
    begun, away = time.monotonic(), Patience(BAIT_AWAY)
    told, waits, silences = False, "", 0
    request = {"op": "attach", "job": job.number}
    while True:
        try:
            for answer in answers(path, request):
                if answer.get("state") == "ready":
                    return answer
                if answer.get("state") == "failed":
                    raise NoVmError(answer["message"], answer["retry"])
                if answer.get("busy"):
                    trouble = f"has {answer.get('error')}"
                    break
                if answer.get("ok") is False:
                    raise NoVmError(answer["error"], answer.get("retry", True))
                if not told and time.monotonic() - begun >= TELL_AFTER - 1:
                    told = True
                    job.say(f"waiting for its VM on node {job.node}: {answer.get('state')}")
                if answer.get("waits") and answer["waits"] != waits:
                    waits = answer["waits"]
                    job.say(f"waiting: {waits}")
            else:
                trouble = "closed the connection"
        except TimeoutError:
            trouble = f"does not answer ({path}): it hangs"
            silences += 1
        except OSError as error:
            trouble = f"can't be reached at {path}: {error.strerror}"
        except ValueError as error:
            raise NoVmError(
                f"the bait on node {job.node} says what is no answer ({path}): {error}"
            ) from None
        if away.left() <= 0 or silences > 1:  # each took half a minute
            raise NoVmError(f"the bait on node {job.node} {trouble}")
        if not told:
            told = True
            job.say(f"the bait on node {job.node} {trouble}; trying for {BAIT_AWAY:g} s")
        time.sleep(1)


def look(job: Job, path: str) -> dict[str, Any]:
    """What the bait says of a machine that was ready; nothing if the bait is away."""
    try:
        for answer in answers(path, {"op": "attach", "job": job.number}):
            if answer.get("state") in ("failed", "ready"):
                return answer
    except (OSError, ValueError):
        pass  # a bait may be restarted under a running job
    return {}


def failure(answer: dict[str, Any]) -> NoVmError | None:
    """What the bait has against the machine: nothing if it is well, or if the bait is away."""
    failed = answer.get("state") == "failed"
    return NoVmError(answer["message"], answer["retry"]) if failed else None
