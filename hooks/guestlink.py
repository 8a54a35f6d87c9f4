"""wnodes-lrms: a job's machine, as its starter reaches it: over one SSH connection.

Standard library only.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from requeue import NoVmError, program_environment

# TERM is how an LRMS ends a job: all of the script's processes get it, as they would on the node.
# Any other signal is meant for the script itself (scancel --batch, sbatch --signal=B:…). IO and PWR
# are not here: they are how a starter ends itself for OpenPBS.
FORWARDED = (
    *("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "XCPU"),
    *("ABRT", "PROF", "SYS", "TRAP", "URG", "VTALRM", "WINCH"),
)
TO_ALL = ("HUP", "INT", "QUIT", "TERM")
_POLL = 0.01  # seconds
_LISTED, _SENT = "listed", "sent"  # notes of stage_in's, in the guest's folder
_SAYS = 1024  # bytes of an answer that a machine gives in words, or of what ssh says
_LOG = "ssh.log"  # in the folder of Guest: what ssh says is for the node's administrator
_OWN = 255  # ssh's exit code where the fault is its own, and not the command's
_CAUSES = (
    ("Host key verification failed", "its SSH server has not the key that was made for it"),
    ("Permission denied", "its SSH server does not know the job's owner, or their key"),
    ("Connection refused", "its SSH server does not run"),
    ("timed out", "it can't be reached"),
    ("No route", "it can't be reached"),
    ("losed", "its SSH server has closed the connection"),
    ("reset", "its SSH server has closed the connection"),
)


class Guest:
    """The machine, as reached over one SSH connection that all commands share."""

    def __init__(self, machine: dict[str, Any], user: str, folder: str) -> None:
        """`folder` is the user's own, and nobody else's: keys and the connection's socket go there.

        Names in it are relative, and ssh runs there: that of a UNIX socket may have but 107
        characters, and ssh reads some characters of a name otherwise than as they stand.
        """
        self.folder = folder
        for name in ("key", "known_hosts"):
            made = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(made, "w", encoding="utf-8") as file:
                file.write(machine[name])
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "ControlPath": "ssh",
            "GlobalKnownHostsFile": "none",
            "HostKeyAlgorithms": "ssh-ed25519",
            "IdentitiesOnly": "yes",
            "IdentityFile": "key",
            "KexAlgorithms": "curve25519-sha256,curve25519-sha256@libssh.org",
            "LogLevel": "ERROR",
            # Silence ends nothing: a VM may be held, suspended with its job, or its network down.
            # Whether it is lost the bait says, see watch.py.
            "ServerAliveInterval": "0",
            "StrictHostKeyChecking": "yes",
            "TCPKeepAlive": "no",
            "UserKnownHostsFile": "known_hosts",
        }
        self.ssh = ["ssh", "-T", "-F", "none", "-E", _LOG]
        for name, value in options.items():
            self.ssh += ["-o", f"{name}={value}"]
        self.name = f"{user}@{machine['address']}"
        self.sessions: list[subprocess.Popen[bytes]] = []  # the first is the connection itself

    def connect(self, command: str, data: bytes) -> None:
        """Open the connection, that stays, and run a first command on it. NoVmError.

        It is held by a process of the job's own process group and session. One that ssh itself puts
        into the background has a session of its own: some batch systems do not stop that one when
        they suspend the job, and it takes a guest that stands still for a dead one.
        """
        master = self._start(
            ["-o", "ControlMaster=yes", "-N", self.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        while not os.path.exists(f"{self.folder}/ssh") and master.poll() is None:
            time.sleep(_POLL)
        ended = master.poll()
        if ended is None:
            session = self.run(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            session.communicate(data)
            ended = session.returncode
        if ended != 0:
            said = ""
            with contextlib.suppress(OSError), open(f"{self.folder}/{_LOG}", "rb") as log:
                said = log.read(_SAYS).decode("utf-8", "replace")
            raise NoVmError(f"no SSH session in the VM: {why_none(ended, said)}", raw=said)

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:
        """Start a command on the open connection."""
        return self._start([self.name, command], **streams)

    def _start(self, words: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        session = subprocess.Popen(
            [*self.ssh, *words],
            cwd=self.folder,
            env=program_environment(),
            preexec_fn=block_signals,
            **streams,
        )
        self.sessions.append(session)
        return session

    def give_up(self) -> None:
        """End whatever waits for an answer of the machine."""
        for session in self.sessions:
            session.kill()

    def text(self, command: str) -> str:
        """The output of a short command, its beginning; empty if the machine does not answer."""
        session = self.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert session.stdout  # noqa: S101 (a pipe was asked for)
        with session.stdout:
            said = session.stdout.read(_SAYS)
        session.kill()  # whatever else it has to say
        session.wait()
        return said.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """End the connection; the machine is about to go."""
        self.give_up()
        for session in self.sessions:
            session.wait()


def why_none(status: int, said: str) -> str:
    """Why there is no session, from how ssh ended and what it said: 255 is its own code."""
    if status != _OWN:
        return (
            f"what carries the job there ended with {status}: the image needs sh and tar, and room"
        )
    found = (words for text, words in _CAUSES if text in said)
    return next(found, "its SSH server does not let the job in")


def block_signals() -> None:
    """In a child: the LRMS signals all processes of a job, and SSH has to outlive that.

    Blocked, not ignored: a multiplexed ssh sets handlers of its own and would end.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, f"SIG{name}") for name in FORWARDED})


def stage_in(guest: Guest, workdir: str, names: list[str]) -> None:
    """Copy declared files into the machine, and what links lead to. Raises NoVmError.

    What has been sent is written down, for stage_out.
    """
    if not names:
        return
    tops = [f"./{name}" for name in _outermost(names)]
    # tar does not see that a link leads to a folder around it, and would never end. And folders
    # come behind what is in them: busybox's tar can't write into one that is read-only.
    notes = [f"{guest.folder}/{name}" for name in (_LISTED, _SENT)]
    look = ["find", "-L", *tops, "-depth", "-fprint0", notes[0]]
    look += ["-type", "f", "-fprintf", notes[1], r"%s %b %T@ %p\0"]
    own = program_environment()
    if subprocess.run(look, cwd=workdir, env=own, check=False).returncode == 0:
        pack = ["tar", "-c", "-h", "-f", "-", "--no-recursion", "--null", "-T", notes[0]]
        pack += ["--sparse"] if _has_holes(guest) and "GNU" in guest.text("tar --version") else []
        packer = subprocess.Popen(pack, cwd=workdir, env=own, stdout=subprocess.PIPE)
        unpacker = guest.run(f"tar -x -C {shlex.quote(workdir)} -f -", stdin=packer.stdout)
        assert packer.stdout  # noqa: S101 (a pipe was asked for)
        packer.stdout.close()
        if unpacker.wait() == 0 and packer.wait() == 0:
            return
    raise NoVmError("WNODES_STAGE_IN: not all files could be copied in", retry=False)


def _has_holes(guest: Guest) -> bool:
    """Whether a file that is to be copied in takes less room than it is long."""
    return any(blocks * 512 < size for size, blocks, _, _ in _notes(guest))


def _notes(guest: Guest) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Of each file that was found for the machine: size, blocks of 512 bytes, time, name."""
    with contextlib.suppress(FileNotFoundError), open(f"{guest.folder}/{_SENT}", "rb") as notes:
        for note in notes.read().split(b"\0")[:-1]:
            size, blocks, changed, name = note.split(b" ", 3)
            yield int(size), int(blocks), changed, name


def _outermost(names: list[str]) -> list[str]:
    """Paths, each once, without those that are below another."""
    found: list[str] = []
    for name in sorted({os.path.normpath(name) for name in names}):
        if not any(top == "." or name.startswith(f"{top}/") for top in found):
            found.append(name)
    return [name for name in found if name == "." or "." not in found]


def sent(guest: Guest) -> dict[str, tuple[int, int]]:
    """Size, and time of the last change in nanoseconds, of each file that was copied in."""
    files = {}
    for size, _, changed, name in _notes(guest):
        seconds, _, rest = changed.partition(b".")
        times = int(seconds) * 10**9 + int(rest[:9].ljust(9, b"0"))
        files[os.path.normpath(os.fsdecode(name))] = size, times
    return files


def stage_out(guest: Guest, workdir: str, names: list[str]) -> list[str]:
    """Copy declared files back, and what links lead to; in words what has not come."""
    if not names:
        return []
    from results import receive  # only jobs with results need it

    packer = guest.run(
        f"cd {shlex.quote(workdir)} && tar -c -h -f - -- {shlex.join(names)}",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert packer.stdout  # noqa: S101 (a pipe was asked for)
    with packer.stdout as stream:
        try:
            troubles = receive(stream, workdir, names, sent(guest))
        except OSError as error:
            troubles = [f"{error.filename or workdir}: {error.strerror}"]
    if troubles:
        packer.kill()  # it may go on without end
    ended = packer.wait()
    return troubles or (["not all files could be copied back"] if ended else [])
