"""wnodes-lrms: what a starter does about its machine while the job runs in it.

Standard library only.
"""

from __future__ import annotations

import subprocess
import time

import payload
from baitlink import failure, look
from guestlink import Guest
from requeue import Job, NoVmError

LOOK = 10.0  # seconds between two questions whether the machine still lives


def watch(
    job: Job,
    path: str,
    guest: Guest,
    shutdown: float | None,
    lost: list[NoVmError],
) -> None:
    """End the sessions of a machine that has failed: SSH by itself would wait for minutes.

    And tell the machine when the time of its shutdown is set, changed or taken back.
    """
    while True:
        time.sleep(LOOK)
        answer = look(job, path)
        found = failure(answer)
        if found:
            lost.append(found)
            guest.give_up()
            return
        wanted = answer.get("shutdown") if answer else shutdown
        if wanted != shutdown and announce(guest, wanted):
            shutdown = wanted


def announce(guest: Guest, shutdown: float | None) -> bool:
    """Tell the machine when it is to be shut down (seconds since the epoch), or that it isn't.

    Whether that was done. A file's name never stands for half of its content.
    """
    files = [f"{payload.GUEST}/{name}" for name in payload.SHUTDOWN]
    if shutdown:
        words = [f"mkdir -p {payload.GUEST}/machinefeatures {payload.GUEST}/jobfeatures"]
        words += [f"echo {int(shutdown)} >{file}.new && mv {file}.new {file}" for file in files]
    else:
        words = [f"rm -f {file}" for file in files]
    telling = guest.run(" && ".join(words), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return telling.wait(LOOK) == 0
    except subprocess.TimeoutExpired:  # whether the machine is lost is for others to find out
        telling.kill()
        return False
