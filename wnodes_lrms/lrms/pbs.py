"""What Torque and OpenPBS have in common: names of jobs, sizes, and what is asked about a job.

Sources: qstat(1B), and get_server.c and parse_jobid.c of both. A job's name is `12.server`, or
`12[3].server` for a task of an array. Without `@server` behind it a command asks the server that
the name has in it, whoever named that: so it is always there.
"""

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.draining import Drainable
from wnodes_lrms.lrms.drmaa.native import given
from wnodes_lrms.lrms.jobid import JobId, grammar, listed
from wnodes_lrms.lrms.lease import Request
from wnodes_lrms.run import run

_HOST = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?"
# With a port where it is not the usual one; Torque takes several, that stand in for each other.
_SERVERS = re.compile(rf"{_HOST}(:\d{{1,5}})?(,{_HOST}(:\d{{1,5}})?)*", re.ASCII)

_SIZE = re.compile(r"(\d+)([kmgtp]?)([bw]?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_WORD = 8  # bytes that a «w» stands for
_DEADLINE = 10.0

ENVIRONMENT = ("PBS_CONF_FILE", "PBS_DEFAULT", "PBS_HOME", "PBS_EXEC")  # read by libraries

job_id = grammar(rf"\d{{1,15}}(\[\d{{0,10}}\])?(\.{_HOST})?")


def parse_size(text: str) -> int:
    """Bytes in a size such as `500mb`, `1gb`, `2097152kb`, `512` or `64kw`.

    Raises UnknownError if it is none.
    """
    found = _SIZE.fullmatch(text)
    if not found:
        raise UnknownError(f"«{text}» is no size")
    scale: int = 1024 ** _POWERS[found[2].lower()]
    return int(found[1]) * scale * (_WORD if found[3].lower() == "w" else 1)


def operand(job: JobId, server: str) -> tuple[str, str]:
    """The end of a command's arguments: no option any more, and the job as this server knows it."""
    return "--", f"{job}@{server}"


def named(name: str, user: str) -> Sequence[JobId]:
    """The jobs of a user that the server has by a name, by qselect(1B). Raises UnknownError."""
    argv = ["qselect", "-u", user, "-N", name]
    return listed(job_id, "qselect", ask(*argv))


def is_gone(said: UnknownError) -> bool:
    """Whether qstat has failed because the server, which does answer, has no such job any more."""
    return any(words in str(said) for words in ("Unknown Job Id", "Job has finished"))


def server_in(text: str, where: str) -> str:
    """The server that a configuration names. Raises UnknownError if there is none."""
    server = re.sub(r"\s*,\s*", ",", text.strip())
    if not _SERVERS.fullmatch(server):
        raise UnknownError(f"{where} names no server of the batch system: {server[:80]!a}")
    return server


def settings(conf: Path) -> Iterator[tuple[str, str]]:
    """The lines of pbs.conf(5); none if the file can't be read."""
    try:
        lines = conf.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip()


def native(request: Request) -> list[str]:
    """What a lease says alike to both, through pbs-drmaa."""
    return ["-r", "n", *given(("-A ", request.account), ("-q ", request.partition))]


class PbsNode(Drainable):
    """The batch system of one node, through its own commands. See Lrms."""

    job_id = staticmethod(job_id)

    def __init__(self, node: str) -> None:
        self.node = node

    def where(self, job: JobId) -> str | None:
        """See Lrms."""
        try:
            return self._place(job, self._listing(job))
        except UnknownError as error:
            if is_gone(error):
                return None
            raise

    @abstractmethod
    def _listing(self, job: JobId) -> str:
        """What qstat tells of the job, in full."""

    @abstractmethod
    def _place(self, job: JobId, listing: str) -> str | None:
        """Where that runs, as in `where`."""

    @abstractmethod
    def _server(self) -> str:
        """The server of this node's own configuration. Raises UnknownError if there is none."""

    def _about(self, job: JobId, *command: str) -> str:
        """What a command says or does about a job of the server that this node has."""
        return ask(*command, *operand(job, self._server()))


def ask(*argv: str) -> str:
    """What a command of the batch system says. Raises UnknownError."""
    return run(argv, deadline=_DEADLINE, unknown=True)
