"""Connections to a bait's control socket, which is open to everybody."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.site import Box
from tests.e2e.box import machines, wait_until
from tests.e2e.lrms.slurm import Submit

# Each connection begins a request and never ends it: a byte now and then.
GREEDY = """
import os, socket, sys, time
os.setgroups([])
os.setgid(65534)
os.setuid(int(sys.argv[2]))
links = [socket.socket(socket.AF_UNIX) for _ in range(700)]
for link in links:
    link.connect(sys.argv[1])
print(flush=True)
while True:
    for link in links:
        try:
            link.send(b"[")
        except OSError:
            pass
    time.sleep(2)
"""


@contextmanager
def _greedy(socket: Path, *uids: int) -> Iterator[None]:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", GREEDY, socket, str(uid)], cwd="/", stdout=subprocess.PIPE
        )
        for uid in uids
    ]
    try:
        for process in running:
            assert process.stdout
            assert process.stdout.read(1) == b"\n"
        yield
    finally:
        for process in running:
            with process:
                process.kill()


def test_two_users_who_take_all_connections_stop_nobody(submit: Submit, daemons: Box) -> None:
    """Two users of the node want its other jobs to get no machine."""
    pid = daemons.pid("bait-hv1")
    with _greedy(daemons.site.root / "run" / "hv1" / "bait.sock", 1, 2):
        job = submit("echo done", "--nodelist=hv1").wait()
        assert (job.output, job.exit_code, job.field("Restarts")) == ("done\n", "0:0", "0"), (
            job.error
        )
        machines()
        # A request has a time in which all of it has to be there.
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 200, 30, "they are let go")  # noqa: PTH208
    assert daemons.pid("bait-hv1") == pid
