"""What goes wrong for a user of the cloud service, each with an exit status for scripts."""

from collections.abc import Mapping

from wnodes_lrms.errors import RejectedError, UnknownError, WnodesError

_DENIED, _ABSENT, _CONFLICT, _AWAY, _INTERRUPTED = 3, 4, 5, 6, 130
_STATUSES: Mapping[int, tuple[int, str]] = {  # of HTTP: the exit status, and what to say first
    401: (_DENIED, "the service does not know who you are"),
    403: (_DENIED, "refused"),
    404: (_ABSENT, "not found"),
    409: (_CONFLICT, "conflict"),
    503: (_AWAY, "not now"),
}


class ServiceError(WnodesError):
    """The service has refused something, in a sentence of its own."""

    retry = False

    def __init__(self, status: int, sentence: str, again: int = 0) -> None:
        """`status` is HTTP's; `again` the seconds after which to try again, if it says so."""
        self.status = status
        self.sentence = sentence
        self.again = again
        sentence += f"; try again in {again} s" if again else ""
        self.exit_status, first = _STATUSES.get(status, (1, ""))
        super().__init__(f"{first}: {sentence}" if first else sentence)

    @property
    def unknown_user(self) -> bool:
        """Whether it may be about what the user is known by, and not about what they asked for."""
        return self.exit_status == _DENIED


class NoneSuchError(RejectedError):
    """Nothing has the name that was given."""

    exit_status = _ABSENT


class AwayError(UnknownError):
    """The service can't be reached, or does not answer."""

    exit_status = _AWAY


class InterruptedByUserError(WnodesError):
    """The user has pressed Ctrl-C while something was waited for, which goes on."""

    exit_status = _INTERRUPTED
