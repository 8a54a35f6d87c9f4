"""Processes that are called like what libvirt starts for machines."""

import subprocess
import sys

from tests.chaos.site import Box
from tests.e2e.box import wait_until
from tests.e2e.lrms.slurm import Submit
from wnodes_lrms.model import machine_id

WAIT = "import sys; print(flush=True); sys.stdin.read()"


def test_a_process_called_like_a_qemu_blocks_no_job_and_no_end(
    submit: Submit, daemons: Box
) -> None:
    """A user of the node wants the next job to get no machine, or its machine to have no end."""
    done = submit("echo done", "--nodelist=hv1").wait()
    machine = machine_id("box", str(int(done.number) + 1), 0)
    folder = daemons.site.root / "spool" / "hv1" / "machines" / machine
    # The program's own words come first; they are no more looked at than its name. There are many
    # of them, so that who ends one has not done with them.
    words = ["-c", WAIT, "-uuid", machine, f"file={folder}/disk.qcow2"]
    posing = [
        subprocess.Popen(
            ["/usr/bin/qemu-system-x86_64", *words],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user="nobody",
            cwd="/",
        )
        for _ in range(12)
    ]
    try:
        for process in posing:
            assert process.stdout
            process.stdout.readline()
        job = submit("echo done", "--nodelist=hv1")
        assert machine_id("box", job.number, 0) == machine
        job.wait(seconds=60)
        assert (job.output, job.exit_code) == ("done\n", "0:0"), job.error
        wait_until(lambda: not job.machines(), 20, "its VM has ended")
        # Nor has anybody ended what is no machine's.
        assert [process.poll() for process in posing] == [None] * len(posing)
    finally:
        for process in posing:
            process.communicate()
