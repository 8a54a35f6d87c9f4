"""Draining a node where the batch system keeps the reason: by it a bait knows its own drain."""

from abc import ABC, abstractmethod

_OURS = "wnodes: "  # before the reason of a drain that a bait has asked for


class Drainable(ABC):
    """A node that can be drained with a reason."""

    def drain(self, reason: str) -> str:
        """See Lrms."""
        found, wanted = self._drained(), f"{_OURS}{reason}"
        if found is not None and not found.startswith(_OURS):
            return found or "no reason given"
        if found != wanted:
            self._begin_drain(wanted)
        return ""

    def resume(self) -> str:
        """See Lrms. Only a drain whose reason is ours is lifted."""
        found = self._drained()
        if found is None:
            return ""
        if not found.startswith(_OURS):
            return found or "no reason given"
        self._end_drain()
        return ""

    @abstractmethod
    def _drained(self) -> str | None:
        """Why the node is drained, None if it is not. Raises UnknownError."""

    @abstractmethod
    def _begin_drain(self, reason: str) -> None:
        """Drain it, or give its drain this reason. Raises UnknownError."""

    @abstractmethod
    def _end_drain(self) -> None:
        """Raises UnknownError."""
