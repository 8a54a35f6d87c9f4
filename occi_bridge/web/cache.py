"""Answers already rendered, kept for as long as nothing changes."""

from collections.abc import Hashable

from occi_bridge.occi.render import Answer

_LIMIT = 64 * 1024 * 1024  # bytes of answers; a listing of 2,000 VMs in JSON has about 2 MB


class Cache:
    """Answers by what they depend on, all of one revision of the service."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._revision: int | None = None
        self._answers: dict[Hashable, Answer] = {}
        self._size = 0

    def get(self, revision: int, key: Hashable) -> Answer | None:
        """The answer, if it has been put at this revision."""
        if revision != self._revision:
            self._empty(revision)
        return self._answers.get(key)

    def put(self, revision: int, key: Hashable, answer: Answer) -> None:
        """Keep an answer of this revision. When there is no more room, all others go."""
        size = len(answer.body) + len(repr(answer.headers)) + len(repr(key))
        if revision != self._revision or self._size + size > self._limit:
            self._empty(revision)
        if size <= self._limit and key not in self._answers:
            self._answers[key] = answer
            self._size += size

    def _empty(self, revision: int) -> None:
        self._revision = revision
        self._answers.clear()
        self._size = 0
