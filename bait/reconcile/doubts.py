"""Actions in doubt: since when each has stood in the plan, and what the log has said of it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bait.reconcile.plan import Act, Action
from wnodes_lrms.log import ids

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Line:
    """A line of the plan."""

    action: Action
    wait: float  # seconds until it may be acted on
    grounds: dict[str, str]  # what each source says


class Doubts:
    """What is in doubt on one node. Not safe to use from many threads."""

    def __init__(self) -> None:
        self.since: dict[tuple[Act, str], float] = {}  # when each doubt began, monotonic
        self._said: dict[tuple[Act, str], str] = {}

    def wait(self, action: Action, grace: float) -> float:
        """Seconds until it may be acted on: a doubt has to stand for `grace` seconds."""
        now = time.monotonic()
        return max(0.0, self._since(action, now) + grace - now) if action.doubtful else 0.0

    def _since(self, action: Action, now: float) -> float:
        return self.since.get((action.act, action.machine), now)

    def remember(self, lines: Sequence[Line]) -> None:
        """A doubt that did not stand in this plan is over; what is new is said, once."""
        now = time.monotonic()
        doubtful = [line.action for line in lines if line.action.doubtful]
        self.since = {(action.act, action.machine): self._since(action, now) for action in doubtful}
        said = {}
        for line in lines:
            action, stage = line.action, "in doubt" if line.wait else "due"
            key, words = (action.act, action.machine), f"{stage} {action.why}"
            said[key] = words
            if self._said.get(key) != words:
                when = f" in {line.wait:.0f} s, unless it changes" if line.wait else ""
                log.info(
                    "%s%s: %s", action.act, when, action.why, extra=ids(action.job, action.machine)
                )
        self._said = said
