"""Starts a program that reads what users have made; see privileges/sandbox.py. Standard library
only.

    privileges/sandbox_exec.py UID MEMORY FILE SECONDS PROGRAM [ARGUMENT...]

The program runs as the user with this number (-: as this process's own), in that user's groups,
with no privileges to win back, without a network, and with limits on each of its processes: MiB of
addresses, MiB of a file that it writes, seconds of CPU time. When it ends, or when this process is
told to, or when this process's own parent ends, whatever the program has started is killed.
"""

import contextlib
import ctypes
import os
import platform
import pwd
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import NoReturn

_MIB = 1 << 20
# prctl(2)
_PARENT_DEATH, _SECCOMP, _CHILD_SUBREAPER, _NO_NEW_PRIVILEGES = 1, 22, 36, 38
_FILTER = 2  # seccomp(2): a program of BPF decides
# Of seccomp(2) and linux/audit.h. io_uring makes sockets, too; calls above _X32 are another ABI's.
_X86_64, _SOCKET, _IO_URING_SETUP, _X32, _AF_UNIX = 0xC000003E, 41, 425, 0x40000000, 1
_KILL, _ALLOW, _NOT_PERMITTED = 0x80000000, 0x7FFF0000, 0x00050001
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # places in struct seccomp_data
_NO_NETWORK = (  # operation, steps to skip if true, if false, operand
    (_LOAD, 0, 0, _ARCHITECTURE),
    (_EQUAL, 1, 0, _X86_64),
    (_RETURN, 0, 0, _KILL),
    (_LOAD, 0, 0, _NUMBER),
    (_AT_LEAST, 4, 0, _X32),
    (_EQUAL, 3, 0, _IO_URING_SETUP),
    (_EQUAL, 0, 3, _SOCKET),
    (_LOAD, 0, 0, _FIRST_ARGUMENT),
    (_EQUAL, 1, 0, _AF_UNIX),
    (_RETURN, 0, 0, _NOT_PERMITTED),
    (_RETURN, 0, 0, _ALLOW),
)

_libc = ctypes.CDLL(None, use_errno=True)


def main(uid: str, memory: str, file: str, seconds: str, *argv: str) -> int:
    """See the head of this file; the program's exit code, or 128 and its signal."""
    _prctl(_CHILD_SUBREAPER, 1)  # what its processes leave behind becomes this one's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _prctl(_PARENT_DEATH, signal.SIGTERM)
    program = os.fork()
    if program == 0:
        _become(uid, int(memory), int(file), int(seconds), argv)
    try:
        _, status = os.waitpid(program, 0)
    finally:
        _end_all()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become(uid: str, memory: int, file: int, seconds: int, argv: tuple[str, ...]) -> NoReturn:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for what, most in (
            (resource.RLIMIT_AS, memory * _MIB),
            (resource.RLIMIT_FSIZE, file * _MIB),
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(what, (most, most))
        if uid != "-":
            user = pwd.getpwuid(int(uid))
            os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        _prctl(_NO_NEW_PRIVILEGES, 1)
        _close_network()
        os.execvp(argv[0], argv)  # noqa: S606 (an argument list)
    except BaseException as error:
        print(f"can't be started: {error}", file=sys.stderr, flush=True)
    os._exit(127)


def _close_network() -> None:
    """No socket but UNIX ones. On other processors than the VMs' there is no such filter."""
    if platform.machine() != "x86_64":
        return
    steps = b"".join(struct.pack("=HBBI", *step) for step in _NO_NETWORK)
    kept = ctypes.create_string_buffer(steps, len(steps))
    program = struct.pack("@HP", len(_NO_NETWORK), ctypes.addressof(kept))
    _prctl(_SECCOMP, _FILTER, ctypes.create_string_buffer(program, len(program)))


def _end_all() -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)  # not reaped yet, so it is still that process
            os.waitpid(-1, 0)


def _prctl(what: int, *values: object) -> None:
    given = [*values, *[0] * (4 - len(values))]
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in given]
    if _libc.prctl(what, *words) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
