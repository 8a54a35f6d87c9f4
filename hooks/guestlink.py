"""wnodes-lrms: a job's machine, as its starter reaches it: over one SSH connection.

Standard library only.
"""

import os
import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from hooks.batch import NoMachineError
else:  # beside this file, see starter.py
    from batch import NoMachineError

# TERM is how an LRMS ends a job: all of the script's processes get it, as they would on the node.
# Any other signal is meant for the script itself (scancel --batch, sbatch --signal=B:…).
FORWARDED = ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "XCPU")
TO_ALL = ("HUP", "INT", "QUIT", "TERM")
_POLL = 0.01  # seconds
_SAYS = 1024  # bytes of an answer that a machine gives in words


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
            # A VM that was suspended with its job may go on some time after ssh does. The bait's
            # word on it is asked every few seconds, see watch.py; this is TCP's own patience.
            "ServerAliveCountMax": "60",
            "ServerAliveInterval": "15",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": "known_hosts",
        }
        self.ssh = ["ssh", "-T", "-F", "none"]
        for name, value in options.items():
            self.ssh += ["-o", f"{name}={value}"]
        self.name = f"{user}@{machine['address']}"
        self.sessions: list[subprocess.Popen[bytes]] = []  # the first is the connection itself

    def connect(self, command: str, data: bytes) -> None:
        """Open the connection, that stays, and run a first command on it. NoMachineError.

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
            raise NoMachineError(f"no SSH session in the machine (ssh ended {ended})")

    def run(self, command: str, **streams: Any) -> subprocess.Popen[bytes]:
        """Start a command on the open connection."""
        return self._start([self.name, command], **streams)

    def _start(self, words: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        session = subprocess.Popen(
            [*self.ssh, *words], cwd=self.folder, preexec_fn=block_signals, **streams
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


def block_signals() -> None:
    """In a child: the LRMS signals all processes of a job, and SSH has to outlive that.

    Blocked, not ignored: a multiplexed ssh sets handlers of its own and would end.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, f"SIG{name}") for name in FORWARDED})


def stage_in(guest: Guest, workdir: str, names: list[str]) -> None:
    """Copy declared files into the machine, and what links lead to. Raises NoMachineError."""
    if not names:
        return
    # tar does not see that a link leads to a folder around it, and would never end.
    look = ["find", "-L", *(f"./{name}" for name in names)]
    turns = subprocess.run(look, cwd=workdir, stdout=subprocess.DEVNULL, check=False).returncode
    if turns == 0:
        packer = subprocess.Popen(
            ["tar", "-c", "-h", "-C", workdir, "-f", "-", "--", *names], stdout=subprocess.PIPE
        )
        unpacker = guest.run(f"tar -x -C {shlex.quote(workdir)} -f -", stdin=packer.stdout)
        assert packer.stdout  # noqa: S101 (a pipe was asked for)
        packer.stdout.close()
        if unpacker.wait() == 0 and packer.wait() == 0:
            return
    raise NoMachineError("WNODES_STAGE_IN: not all files could be copied in", retry=False)


def stage_out(guest: Guest, workdir: str, names: list[str]) -> list[str]:
    """Copy declared files back, and what links lead to; in words what has not come."""
    if not names:
        return []
    if TYPE_CHECKING or __package__:  # only jobs with results need it
        from hooks.results import receive
    else:
        from results import receive

    packer = guest.run(
        f"cd {shlex.quote(workdir)} && tar -c -h -f - -- {shlex.join(names)}",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert packer.stdout  # noqa: S101 (a pipe was asked for)
    with packer.stdout as stream:
        try:
            troubles = receive(stream, workdir, names)
        except OSError as error:
            troubles = [f"{error.filename or workdir}: {error.strerror}"]
    if troubles:
        packer.kill()  # it may go on without end
    ended = packer.wait()
    return troubles or (["not all files could be copied back"] if ended else [])
