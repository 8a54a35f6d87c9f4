"""wnodes-lrms: tell this node's bait that a job's allocation starts or has ended.

    hook.py prepare|release SOCKET JOB NODE [RESTART]

SOCKET is the bait's control socket; %n in it is the node's name as the LRMS says it. Run by the
prolog and epilog guards, as root, for jobs that wish for a machine. Where the LRMS does not tell
how often the job was started before, the bait asks for it. One message goes out, one answer is
read. The exit code is always 0: a prolog or epilog that fails takes the node or its queue out of
service, and no machine is worth that; the starter and the bait's own planner see to a job whose
message was lost. Trouble is one line with the job's id, on standard error and in syslog.

Standard library only, imported where needed: this is start-up time of every job with a machine.
"""

import sys

DEADLINES = {"prepare": 2.0, "release": 10.0}  # seconds, from the connection to the answer's end
# 12, 12.3 (an array's task), 12.server.site.org, 12[3].server: as LRMSs write them.
JOB_ID = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-_[]")

HOST = JOB_ID - frozenset("[]")  # a node's name, which becomes a part of a path


class TroubleError(Exception):
    """Why the bait did not do as asked, in words for the administrator."""


def first_answer(path: str, message: bytes, seconds: float) -> bytes:
    """Send one line to the socket at `path` and return the answer's first line.

    `seconds` bounds the whole exchange, not each step of it. Raises TroubleError."""
    from baitsocket import exchange

    try:
        return next(exchange(path, message, seconds), b"")
    except TimeoutError:
        raise TroubleError(f"no answer from the bait at {path} within {seconds:g} s") from None
    except OSError as error:
        raise TroubleError(f"no bait at {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise TroubleError(f"the bait's answer is not understood: {error}") from None


def tell(act: str, pattern: str, job: str, node: str, restart: str = "") -> None:
    """Tell the bait of the job. Raises TroubleError."""
    if not job or not JOB_ID.issuperset(job):
        raise TroubleError("there is no job id: is this run by the batch system?")
    if "%n" in pattern and not node:
        raise TroubleError("the node's name is not told, so the bait's socket is unknown")
    if not HOST.issuperset(node) or node.startswith((".", "-")):
        raise TroubleError(f"{node[:80]!a} is no node's name: is this run by the batch system?")
    if restart and not (restart.isascii() and restart.isdigit()):
        raise TroubleError("the count of restarts is no number: is this run by the batch system?")
    count = f',"restart":{int(restart)}' if restart else ""
    message = f'{{"op":"{act}","job":"{job}"{count}}}'.encode()
    answer = first_answer(pattern.replace("%n", node), message, DEADLINES[act])
    if answer.replace(b" ", b"").startswith(b'{"ok":true'):
        return

    import json

    try:
        reply = json.loads(answer)
    except ValueError:
        raise TroubleError(f"the bait's answer is not understood: {answer[:80]!r}") from None
    reply = reply if isinstance(reply, dict) else {}
    if reply.get("ok") is not True:
        raise TroubleError(f"the bait refused: {reply.get('error') or repr(answer[:80])}")


def report(act: str, job: str, trouble: str) -> None:
    """One line to standard error and to syslog: some LRMSs keep only the latter."""
    line = " ".join(f"wnodes: job {job or '?'}: {act}: {trouble}".split())
    import syslog

    syslog.openlog("wnodes-hook", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_ERR, line)
    print(line, file=sys.stderr)


def main(arguments: list[str]) -> None:
    act, _pattern, job, *_rest = [*arguments, "", "", ""]
    try:
        if len(arguments) not in (4, 5) or act not in DEADLINES:
            raise TroubleError("usage: hook.py prepare|release SOCKET JOB NODE [RESTART]")
        tell(*arguments)
    except TroubleError as trouble:
        report(act, job, str(trouble))
    except Exception as error:  # whatever it is, the node stays up
        report(act, job, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # root may, but nothing else belongs into this folder
    # The interpreter is isolated, and does not look beside this file by itself.
    sys.path.insert(0, __file__.rpartition("/")[0])
    main(sys.argv[1:])
