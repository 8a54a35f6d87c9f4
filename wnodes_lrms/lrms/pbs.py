"""What Torque and OpenPBS have in common: the names of jobs, and whom a command asks about one.

Sources: qstat(1B), and get_server.c and parse_jobid.c of both. A job's name is `12.server`, or
`12[3].server` for a task of an array. Without `@server` behind it a command asks the server that
the name has in it, whoever named that: so it is always there.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from wnodes_lrms.errors import UnknownError
from wnodes_lrms.lrms.drmaa.native import given
from wnodes_lrms.lrms.jobid import JobId, grammar
from wnodes_lrms.lrms.lease import Request
from wnodes_lrms.run import run

_HOST = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?"
# With a port where it is not the usual one; Torque takes several, that stand in for each other.
_SERVERS = re.compile(rf"{_HOST}(:\d{{1,5}})?(,{_HOST}(:\d{{1,5}})?)*", re.ASCII)

_DEADLINE = 10.0

ENVIRONMENT = ("PBS_CONF_FILE", "PBS_DEFAULT", "PBS_HOME", "PBS_EXEC")  # read by libraries

job_id = grammar(rf"\d{{1,15}}(\[\d{{0,10}}\])?(\.{_HOST})?")


def operand(job: JobId, server: str) -> tuple[str, str]:
    """The end of a command's arguments: no option any more, and the job as this server knows it."""
    return "--", f"{job}@{server}"


def named(name: str, user: str) -> Sequence[JobId]:
    """The jobs of a user that the server has by a name, by qselect(1B). Raises UnknownError."""
    argv = ["qselect", "-u", user, "-N", name]
    return [job_id(word) for word in run(argv, deadline=_DEADLINE, unknown=True).split()]


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
