"""contrib/scale: what its figures are made of, and what it simulates."""

import math
import subprocess
from pathlib import Path

import pytest

from contrib.scale import guests
from contrib.scale.__main__ import Found, growth, summary
from contrib.scale.configure import people
from contrib.scale.gauges import exponent, listings, percentile, rpcs
from contrib.scale.plan import Size
from contrib.scale.stages import queue_times

SDIAG = """\
Jobs submitted: 3
Remote Procedure Call statistics by message type
\tREQUEST_PARTITION_INFO                  ( 2009) count:18     ave_time:3154   total_time:56780
\tREQUEST_JOB_INFO                        ( 2003) count:13     ave_time:11176  total_time:145300
\tREQUEST_JOB_INFO_SINGLE                 ( 2021) count:2      ave_time:5604   total_time:22416

Remote Procedure Call statistics by user
\troot            (       0) count:57     ave_time:7203   total_time:410590
"""


def test_what_sdiag_says_of_requests() -> None:
    counts = rpcs(SDIAG)
    assert counts == {
        "REQUEST_PARTITION_INFO": 18,
        "REQUEST_JOB_INFO": 13,
        "REQUEST_JOB_INFO_SINGLE": 2,
    }
    assert listings(counts) == 15


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, -0.5])
def test_a_power_is_found_again(power: float) -> None:
    sizes = [20.0, 200.0, 2000.0]
    assert exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_one_size_tells_no_growth() -> None:
    assert math.isnan(exponent([20.0, 20.0], [1.0, 2.0]))


def test_percentiles() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (51.0, 100.0)
    assert math.isnan(percentile([], 0.5))


def test_a_nodes_room_is_a_fifth_more_than_it_gets() -> None:
    assert Size(100, 2000).slots == 24
    assert Size(10, 20).names[-1] == "n010"


def test_users_are_added_to_those_that_there_are() -> None:
    passwd, group = people("root:x:0:0::/root:/bin/sh\n", "root:x:0:\n")
    lines = passwd.splitlines()
    assert (lines[1], len(lines)) == ("u001:x:20001:20001::/tmp:/bin/sh", 502)
    assert len({line.split(":")[2] for line in lines}) == 502
    assert group.endswith("scale:x:20001:\n")


def test_how_long_a_lease_has_waited_in_slurms_queue() -> None:
    log = """\
[2026-11-27T23:59:58.500] _slurm_rpc_submit_batch_job: JobId=7 InitPrio=1 usec=416
[2026-11-27T23:59:58.700] _slurm_rpc_submit_batch_job: JobId=8 InitPrio=1 usec=416
[2026-11-27T23:59:59.000] sched: Allocate JobId=7 NodeList=n004 #CPUs=1 Partition=main
[2026-11-27T23:59:59.900] sched/backfill: _start_job: Started JobId=8 in main on n004
"""
    assert queue_times(log) == pytest.approx([0.5, 1.2])


# -- guests ----------------------------------------------------------------------------------------


def test_a_guest_greets_once_it_has_had_its_time_to_boot() -> None:
    booting = guests.Guests(3.0)
    assert not booting.ready("127.64.0.2", 10.0)
    assert not booting.ready("127.64.0.2", 12.9)
    assert booting.ready("127.64.0.2", 13.0)
    assert not booting.ready("127.64.0.3", 13.0)


def test_an_address_that_nobody_has_asked_for_a_while_is_another_guests() -> None:
    booting = guests.Guests(3.0)
    booting.ready("127.64.0.2", 10.0)
    assert booting.ready("127.64.0.2", 14.0)
    assert not booting.ready("127.64.0.2", 20.0)


def test_what_plays_ssh_waits_as_long_as_the_script_does(tmp_path: Path) -> None:
    ssh = tmp_path / "program"
    guests.write_ssh(ssh)

    def run(command: str, given: str) -> int:
        argv = [str(ssh), "-T", "user@127.64.0.2", command]
        return subprocess.run(argv, input=given, text=True, cwd=tmp_path, check=False).returncode

    assert run("tar -x -C /g -f -", "#!/bin/sh\n#\nsleep 0\necho done\n") == 0
    assert (tmp_path / "payload").read_text() == "sleep 0\n"
    assert run("exec sh /g/run", "") == 0


# -- the last line ---------------------------------------------------------------------------------


def test_the_last_line_is_of_the_largest_size() -> None:
    from contrib.scale.__main__ import Run

    found: Found = {
        "10": {"cloud 20": {"bait_cpu_s_per_vm": 1.0}},
        "100": {
            "cloud 200": {"bait_cpu_s_per_vm": 1.0},
            "cloud 2000": {"bait_cpu_s_per_vm": 1.0, "bait_mib": 97.06},
            "mixed 2000": {"post_p99_ms": 12.0},
            "faults": {"failover_s": 15.0},
        },
    }
    runs = (Run(10, (20,), (20,), 0.0), Run(100, (200,), (200, 2000), 0.0))
    last = summary(runs, found, {"lost": 0, "doubled": 0, "stuck": 0})
    assert (last["nodes"], last["vms"], last["bait_mib"]) == (100, 2000, 97.06)
    assert (last["post_p99_ms"], last["failover_s"], last["lost"]) == (12.0, 15.0, 0)
    assert (last["doubled"], last["stuck"]) == (0, 0)
    assert (last["bait_exponent"], last["hung_ratio"]) == (0.0, None)
    assert growth(found, "nothing") is None
