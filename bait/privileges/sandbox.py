"""Programs that read what users have made: disks, and the file systems on them.

Each runs as a user without rights, without a network, with no privileges to win back, and with
limits on time, memory, the size of a file and what it may say. When it ends, or is ended, all that
it has started ends with it. privileges/sandbox_exec.py, which starts it, sees to all that but the
time.
"""

import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from wnodes_lrms.errors import WnodesError
from wnodes_lrms.run import told

GUESTFS_USER = "wnodes-guestfs"
_MIB = 1 << 20
_UNABLE = "a program of the node can't work on the disk"
_SAID = 1 << 20  # bytes of output that are read
_PATIENCE = 600.0  # seconds to wait for a file that is lent to another user
_loans: dict[Path, tuple[int, int]] = {}  # file: whom it is lent to, how many times
_returned = threading.Condition()  # of _loans
_PROGRAM = (sys.executable, "-I", "-S", str(Path(__file__).with_name("sandbox_exec.py")))


@dataclass(frozen=True)
class Limits:
    """What a program may take."""

    seconds: float
    memory: int  # MiB of addresses, each process
    file: int  # MiB of the largest file that it writes


def run_confined(
    argv: tuple[str, ...],
    uid: int | None,
    limits: Limits,
    *,
    data: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end as the user with this number, and return its standard output.

    It gets `data` on its standard input, and nothing of this process's environment but PATH. None
    for `uid` is this process's own user, where libvirt names none for QEMU, or none can be chosen.
    Raises WnodesError with the last line that the program said if it fails or takes too long.
    """
    who = "-" if uid is None else str(uid)
    words = (who, str(limits.memory), str(limits.file), str(int(limits.seconds)))
    try:
        process = subprocess.Popen(
            [*_PROGRAM, *words, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "LC_ALL": "C.UTF-8",
                **(environment or {}),
            },
        )
    except OSError as error:
        raise WnodesError(f"{argv[0]}: {error.strerror}", told=_UNABLE) from error
    said = _talk(process, data, limits.seconds)
    if said is None:
        said_late = f"{argv[0]}: no answer within {limits.seconds:g} s"
        raise WnodesError(said_late, told=f"{_UNABLE} in time")
    output, errors = said
    if process.returncode != 0:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        why = "".join(c for c in lines[-1] if c.isprintable()) if lines else ""
        raise WnodesError(told(argv[0], why or f"exit status {process.returncode}"), told=_UNABLE)
    return output


def onlooker() -> int | None:
    """The uid of who looks at disks: nobody. QEMU's user has all the VMs, their disks and memory.

    None where this process can't choose who it is.
    """
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def guestfs_user() -> int:
    """The uid of the user that libguestfs runs as. Raises WnodesError if the node has none."""
    try:
        return pwd.getpwnam(GUESTFS_USER).pw_uid
    except KeyError as error:
        raise WnodesError(
            f"this node has no user {GUESTFS_USER}, as whom libguestfs opens disks:"
            f" `useradd --system --no-create-home --shell /usr/sbin/nologin {GUESTFS_USER}`"
        ) from error


@contextmanager
def lent(uid: int | None, *files: Path) -> Iterator[None]:
    """Give the user these files, of root's, while this lasts. They are private then as before.

    A file may be lent to one user several times at once; another user waits until it is back, and
    WnodesError is raised if that takes too long. One that is removed meanwhile, as a VM's that is
    deleted, is nobody's any more.
    """
    if uid is None:
        yield
        return
    with _returned:
        if not _returned.wait_for(lambda: not _lent_to_others(uid, files), _PATIENCE):
            which = ", ".join(str(file) for file in _lent_to_others(uid, files))
            said = f"{which}: lent to another user than {uid} for {_PATIENCE:g} s and longer"
            raise WnodesError(said, told="another program of the node still works on the disk")
        for file in files:
            _loans[file] = (uid, _loans.get(file, (uid, 0))[1] + 1)
    try:
        for file in files:
            os.chown(file, uid, -1, follow_symlinks=False)
        yield
    finally:
        with _returned:
            back = [file for file in files if _is_back(file)]
            _returned.notify_all()
            for file in back:
                with suppress(FileNotFoundError):
                    os.chown(file, 0, -1, follow_symlinks=False)
                    file.chmod(0o600)


def _lent_to_others(uid: int, files: Iterable[Path]) -> list[Path]:
    return [file for file in files if _loans.get(file, (uid, 0))[0] != uid]


def _is_back(file: Path) -> bool:
    """Note that one loan of a file is over; whether that was the last one."""
    uid, times = _loans.pop(file)
    if times > 1:
        _loans[file] = (uid, times - 1)
    return times == 1


def _talk(process: subprocess.Popen[bytes], data: bytes, seconds: float) -> tuple[str, str] | None:
    """What the program said on its two outputs; None if it did not end in time.

    Of one that says very much the beginning is kept, and all is read.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        process.terminate()

    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 (pipes)
    said: tuple[list[bytes], list[bytes]] = ([], [])
    readers = [
        threading.Thread(target=_read, args=(stream, kept), daemon=True)
        for stream, kept in zip((process.stdout, process.stderr), said, strict=True)
    ]
    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        for reader in readers:
            reader.start()
        with suppress(BrokenPipeError):
            process.stdin.write(data)
            process.stdin.close()
        process.wait()
        for reader in readers:
            reader.join()
    finally:
        timer.cancel()
    if late.is_set():
        return None
    output, errors = (b"".join(kept).decode("utf-8", "replace") for kept in said)
    return output, errors


def _read(stream: IO[bytes], kept: list[bytes]) -> None:
    room = _SAID
    with stream:
        while part := stream.read(65536):
            kept.append(part[:room])
            room = max(0, room - len(part))
