"""A process that holds one DRMAA session for one user: `python -m wnodes_lrms.lrms.drmaa.worker
USER`.

Lines of JSON come in on standard input, one answer a line goes out. It is a process of its own
because DRMAA knows one session a process, submits as whom the process runs, and because the
libraries crash and hang; see lrms/drmaa/client.py for the other side. The library is the one that
DRMAA_LIBRARY_PATH names. What the library prints goes to standard error.
"""

import contextlib
import json
import os
import pwd
import select
import sys
from typing import Any

import drmaa
from drmaa import errors

_IDLE = 600  # seconds without a request, then the process ends: users come and go
_REFUSED = (
    errors.AuthorizationException,
    errors.ConflictingAttributeValuesException,
    errors.DeniedByDrmException,
    errors.InvalidArgumentException,
    errors.InvalidAttributeFormatException,
    errors.InvalidAttributeValueException,
)
_STATES = {
    drmaa.JobState.QUEUED_ACTIVE: "pending",
    drmaa.JobState.SYSTEM_ON_HOLD: "pending",
    drmaa.JobState.USER_ON_HOLD: "pending",
    drmaa.JobState.USER_SYSTEM_ON_HOLD: "pending",
    drmaa.JobState.RUNNING: "running",
    drmaa.JobState.SYSTEM_SUSPENDED: "running",
    drmaa.JobState.USER_SUSPENDED: "running",
    drmaa.JobState.USER_SYSTEM_SUSPENDED: "running",
    drmaa.JobState.DONE: "ended",
    drmaa.JobState.FAILED: "gone",  # some libraries say so of jobs that they do not know
}
_OVER = ("ended", "gone")


def become(user: pwd.struct_passwd) -> None:
    """From now on this process is the user's, with their groups and no way back."""
    if os.geteuid() != user.pw_uid:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def submit(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Run a job; its id."""
    template = session.createJobTemplate()
    try:
        template.jobName = request["name"]
        template.remoteCommand = request["program"]
        template.jobEnvironment = request["environment"]
        template.nativeSpecification = request["native"]
        template.workingDirectory = "/"
        template.outputPath = ":/dev/null"
        template.joinFiles = True
        return {"job": session.runJob(template)}
    finally:
        session.deleteJobTemplate(template)


def states(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The state of each job; the session forgets those that have ended."""
    found = {job: state_of(session, job) for job in request["jobs"]}
    for job, state in found.items():
        if state in _OVER:
            reap(session, job)
    return {"states": found}


def state_of(session: Any, job: str) -> str:
    """One of lease.LeaseState, or `gone`: it has failed, or the library knows no such job."""
    try:
        return _STATES.get(session.jobStatus(job), "unknown")
    except errors.InvalidJobException:
        return "gone"


def reap(session: Any, job: str) -> None:
    """Take what the library keeps of a job that has ended."""
    with contextlib.suppress(errors.DrmaaException):  # not of this session, or not quite over
        session.wait(job, drmaa.Session.TIMEOUT_NO_WAIT)


def cancel(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    """End a job; one that has ended is success."""
    try:
        session.control(request["job"], drmaa.JobControlAction.TERMINATE)
    except errors.DrmaaException:
        if state_of(session, request["job"]) not in _OVER:
            raise
    return {}


def system(session: Any, _request: dict[str, Any]) -> dict[str, Any]:
    """What the library calls its LRMS."""
    return {"drms": f"{session.drmsInfo} {session.drmaaImplementation}"}


_OPS = {"system": system, "submit": submit, "states": states, "cancel": cancel}


def answer(session: Any, line: bytes) -> dict[str, Any]:
    """Do what one line asks for; `refused` tells a refusal from no answer."""
    request = json.loads(line)
    try:
        return {"ok": True, **_OPS[request["op"]](session, request)}
    except errors.DrmaaException as error:
        refused = isinstance(error, _REFUSED)
        return {"ok": False, "refused": refused, "error": f"{type(error).__name__}: {error}"}


def main(name: str) -> None:
    """Serve until standard input ends, or nobody asks for long."""
    become(pwd.getpwnam(name))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = drmaa.Session()
    session.initialize()
    while select.select([sys.stdin], [], [], _IDLE)[0]:
        line = sys.stdin.buffer.readline()  # never two at once: the other side waits
        if not line:
            break
        print(json.dumps(answer(session, line)), file=replies, flush=True)
    session.exit()


if __name__ == "__main__":
    main(*sys.argv[1:])
