"""The errors of wnodes-lrms: one base, and what each kind means for the job that met it."""


class WnodesError(Exception):
    """A fault said in one line: what, where, what to do.

    `retry` tells whether the same request may succeed later or elsewhere; the LRMS then
    requeues the job. Where it is False, only a person can put it right, and the job is held.
    """

    retry = True
    exit_status = 1  # of the command `wnodes`

    def __init__(self, message: str = "", *, told: str = "") -> None:
        """`told` is the fault for users, where `message` has what a program or a library said."""
        super().__init__(message)
        self.told = told

    def words(self, about: str) -> str:
        """The fault in one line for users: with the cause in words, and never the text of a program
        or a library. That is in the bait's log, where `about` finds it.
        """
        if not self.told:
            return str(self).replace("\n", "; ")
        return f"{self.told} (the node's administrator finds more in the bait's log, under {about})"


class RejectedError(WnodesError):
    """The request can't be served as it stands: policy, an unknown tag, too little memory."""

    retry = False


class AbsentError(RejectedError):
    """There is no such VM, volume or network card here."""


class ConflictError(RejectedError):
    """The VM's state does not allow it, or something else has what is asked for."""


class ConfigError(WnodesError):
    """The configuration is wrong; `faults` names every fault with its place."""

    retry = False

    def __init__(self, where: str, faults: list[str]) -> None:
        self.where = where
        self.faults = faults
        super().__init__("\n".join(f"{where}: {fault}" for fault in faults))


class CancelledError(WnodesError):
    """The job ended while its VM was being made."""


class UnknownError(WnodesError):
    """A source did not answer: nothing follows from that, least of all that something is gone."""


class NotListedError(UnknownError):
    """The batch system does answer, and lists no such job on this node.

    The job may be about to begin, or the batch system about to remember: so it is asked again.
    """
