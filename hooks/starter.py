"""wnodes-lrms: runs a job's script inside the job's own machine.

    starter.py LRMS SOCKET RETRIES JOB NODE script INTERPRETER SCRIPT [ARGUMENT…]
    starter.py LRMS SOCKET RETRIES JOB NODE spooled SHELL
    starter.py LRMS SOCKET RETRIES JOB NODE command PROGRAM [ARGUMENT…]

The LRMS starts it in place of the script, as the job's owner. An empty INTERPRETER leaves that to
the script's own first line; a spooled script is one whose path is a line on the standard input; a
command is run as it stands, and no file of it travels. It asks this
node's bait for the machine, carries the script, its environment and its declared files there over
SSH, connects the standard streams, passes signals on, and ends as the script ended. When there is
no machine it says why, and has the LRMS requeue or hold the job.

What travels is in payload.py, the SSH connection in guestlink.py, the talk with the bait in
baitlink.py; watch.py is for the time in which the job runs, and requeue.py asks the LRMS. Standard
library only: all of it runs on every node and for every job with a machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, NoReturn

if __name__ == "__main__":  # isolated, the interpreter does not look beside this file by itself
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import payload
from baitlink import attach, failure, look
from guestlink import FORWARDED, TO_ALL, Guest, stage_in, stage_out
from requeue import SYSTEMS, Job, NoVmError
from streams import Stream
from watch import watch

# How a script ended, in words that come from the machine, whose image may be anybody's.
ENDS = re.compile(r"exit [0-9]{1,3}|signal ([1-9]|[1-5][0-9]|6[0-4])")
# Seconds that a script has to set its traps before it gets a signal that came in the VM's boot:
# on the node it would have set them long before.
TO_TRAP = 2.0


class Signals:
    """Signals that arrive: kept until the script runs, passed on from then."""

    def __init__(self) -> None:
        self.guest: Guest | None = None
        self.early: list[str] = []
        self.undo = contextlib.ExitStack()  # before the end, however it comes
        for name in FORWARDED:
            signal.signal(getattr(signal, f"SIG{name}"), self.arrive)

    def arrive(self, number: int, _frame: object) -> None:
        name = signal.Signals(number).name.removeprefix("SIG")
        if self.guest:
            self.send(name)
        elif name in TO_ALL:
            self.undo.close()
            die(number)  # nothing runs yet that could end in an orderly way
        else:
            self.early.append(name)

    def open(self, guest: Guest) -> None:
        """The script is being started in this machine: pass on what arrives, and what has."""
        self.guest = guest
        for name in self.early:
            self.send(name, after=TO_TRAP)

    def send(self, name: str, after: float = 0) -> None:
        """`after` so many seconds of the script's."""
        assert self.guest  # noqa: S101
        group = "-" if name in TO_ALL else ""
        pid, wait = f"{payload.GUEST}/pid", f"sleep {after:g}; " if after else ""
        self.guest.run(
            f"n=0; until [ -f {pid} ] || [ $n = 50 ]; do sleep 0.1; n=$((n+1)); done; "
            f"{wait}kill -{name} {group}$(cat {pid})",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def die(number: int) -> NoReturn:
    """End as a process ends that the signal kills."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # KILL and STOP can't be set, nor need to be
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def give_up(job: Job, trouble: NoVmError, retries: int) -> NoReturn:
    """Say why there is no machine, and have the LRMS requeue the job, or hold it."""
    job.say(str(trouble))
    if trouble.raw:
        job.log(trouble.raw)
    try:
        tries = job.tries()
    except (OSError, ValueError):
        tries = retries
    if trouble.retry and tries < retries:
        sys.exit(job.requeue(f"{tries + 2} of {retries + 1}"))
    sys.exit(job.hold(str(trouble)))


def run_inside(job: Job, path: str, signals: Signals, form: str, words: list[str]) -> str:
    """Run the payload in a machine; `exit N` or `signal N`. Raises NoVmError."""
    import pwd

    machine = attach(job, path)
    if "key" not in machine:
        raise NoVmError(f"the bait on node {job.node} is of an earlier version: restart it")
    folder = tempfile.mkdtemp(prefix="wnodes-")
    signals.undo.callback(shutil.rmtree, folder, ignore_errors=True)
    guest = Guest(machine, pwd.getpwuid(os.getuid()).pw_name, folder)
    lost: list[NoVmError] = []
    watched = (job, path, guest, machine.get("shutdown"), lost)
    threading.Thread(target=watch, args=watched, daemon=True).start()
    try:
        end = run_payload(job, guest, machine, signals, payload.read(form, words))
    except NoVmError as trouble:
        if not lost:
            time.sleep(1)  # the bait hears of a machine's end when SSH does, or a moment later
            lost.append(failure(look(job, path)) or trouble)
        raise lost[0] from None
    if lost:
        raise lost[0]
    guest.close()
    return end


def run_payload(
    job: Job,
    guest: Guest,
    machine: dict[str, Any],
    signals: Signals,
    load: tuple[list[str], dict[str, bytes]],
) -> str:
    """Carry the payload into the machine, and wait for its end. Raises NoVmError."""
    argv, files = load
    workdir = os.getcwd()
    travel = not payload.below(workdir, machine["shares"])
    wanted, results = payload.declared("WNODES_STAGE_IN"), payload.declared("WNODES_STAGE_OUT")
    facts = {name: text.encode() for name, text in payload.features(job, machine).items()}
    packed = payload.bundle(argv, {**files, **facts}, workdir, machine.get("scratch", ""))
    # A directory that is not shared is made by its owner; where they may not, `cd` will say so.
    make = f" && {{ mkdir -p {shlex.quote(workdir)} || :; }} 2>/dev/null" if travel else ""
    guest.connect(f"tar -x -C {payload.GUEST} -f -{make}", packed)
    if travel:
        stage_in(guest, workdir, wanted)
    session = guest.run(
        f"exec sh {payload.GUEST}/run", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert session.stdout and session.stderr  # noqa: S101, PT018 (pipes were asked for)
    streams = {"output": Stream(session.stdout, 1), "error": Stream(session.stderr, 2)}
    signals.open(guest)
    status = session.wait()
    unwritten = [(name, stream.trouble()) for name, stream in streams.items()]
    troubles = [f"standard {name}: {trouble}" for name, trouble in unwritten if trouble]
    if status < 0:  # by `watch`; to ask the machine anything more would take minutes
        raise NoVmError("the session in the VM was ended")
    end = f"exit {status}" if 0 <= status <= 128 else guest.text(f"cat {payload.GUEST}/end")
    if not ENDS.fullmatch(end):
        raise NoVmError("the VM was lost while the script ran in it")
    for trouble in stage_out(guest, workdir, results) if travel else []:
        troubles.append(f"WNODES_STAGE_OUT: {trouble}")
    for trouble in troubles:
        job.say(trouble)
        end = "exit 1" if end == "exit 0" else end
    return end


def main(
    lrms: str, pattern: str, retries: str, number: str, node: str, form: str, *words: str
) -> NoReturn:
    """See the head of this file."""
    signals = Signals()
    path = pattern.replace("%n", node)
    job = SYSTEMS[lrms](number, node, path)
    try:
        with signals.undo:
            end = run_inside(job, path, signals, form, list(words))
    except NoVmError as trouble:
        signals.guest = None  # who ends the job now ends this process
        give_up(job, trouble, int(retries))
    how, code = end.split()
    if how == "signal":
        die(int(code))
    sys.exit(int(code))


if __name__ == "__main__":
    main(*sys.argv[1:])
