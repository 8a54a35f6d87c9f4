"""Wallclock: in the journal, once in the queue of APEL, the same in the batch system's records."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dirq.QueueSimple import QueueSimple

from tests.chaos.site import Box
from tests.e2e.box import call, wait_until
from tests.e2e.lrms.slurm import Submit, leases, the_lease
from tests.e2e.occi import Cloud, Key
from tests.unit.bait.accounting.apelrecords import records

QUEUE = Path(os.environ["WNODES_SITE"]) / "spool" / "apel"


def accounting(*words: str) -> Any:
    """What `wnodes accounting` says."""
    return json.loads(call("wnodes", "accounting", *words, "--json"))


def taken() -> list[dict[str, str]]:
    """All records in the queue, which is empty then, as SSM empties it."""
    reader = QueueSimple(str(QUEUE))
    found = []
    for name in reader:
        assert reader.lock(name)
        found += records(reader.get(name).decode("ascii"))
        reader.remove(name)
    return found


@pytest.fixture(autouse=True)
def start() -> Iterator[str]:
    """Nothing is left to publish of what was before; the time of then, for --since."""
    accounting("publish")
    taken()
    yield datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    accounting("publish")
    taken()


def slurm_knows_the_end(*jobs: str) -> None:
    def ended() -> bool:
        argv = ["sacct", "-X", "-n", "-P", "-j", ",".join(jobs), "--format=End"]
        ends = call(*argv).split()
        return len(ends) == len(jobs) and "Unknown" not in ends

    wait_until(ended, 30, "Slurm's accounting has the jobs' ends")


def test_a_cloud_machines_wallclock_is_told_once(start: str, alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    job = the_lease().number
    assert len(accounting("publish")) == 1
    (open_,) = taken()
    assert (open_["Status"], "EndTime" in open_) == ("started", False)

    machine.act("suspend", method="suspend")
    machine.wait("suspended")
    time.sleep(3)
    machine.act("start")
    machine.wait("active")
    machine.act("stop", method="poweroff")
    machine.wait("inactive")
    wait_until(lambda: not leases(), 30, "its lease is freed")

    (usage,) = accounting("list", "--since", start)
    identity = machine.path.rpartition("/")[2]
    assert (usage["machine"], usage["job"], usage["kind"]) == (identity, job, "cloud")
    assert (usage["clock"], usage["cores"], usage["memory"]) == ("closed", 1, 256)
    assert usage["held"] >= 3
    assert usage["wall"] > 0

    assert len(accounting("publish")) == 1
    (record,) = taken()
    assert record["Status"] == "completed"
    assert (record["VMUUID"], record["MachineName"]) == (open_["VMUUID"], identity)
    assert (record["GlobalUserName"], record["FQAN"]) == (usage["dn"], usage["fqan"])
    assert record["GlobalUserName"].lower().endswith("/cn=alice")
    assert (record["SiteName"], record["LocalUserId"]) == ("WNODES-BOX", "cloudpilot")
    assert int(record["SuspendDuration"]) == round(usage["held"])
    assert accounting("publish") == []

    slurm_knows_the_end(job)
    mark = call("sacct", "-X", "-n", "-P", "-j", job, "--format=AdminComment").strip()
    assert mark == f"wnodes_lease={record['VMUUID']}"
    assert accounting("reconcile", "--since", start) == []


def test_a_batch_machine_is_recorded_and_not_published(start: str, submit: Submit) -> None:
    job = submit("sleep 3").wait("COMPLETED")
    wait_until(lambda: not job.machines(), 30, "its VM is gone")
    (usage,) = accounting("list", "--since", start)
    assert (usage["kind"], usage["job"], usage["clock"]) == ("batch", job.number, "closed")
    assert usage["wall"] >= 3
    assert accounting("publish") == []
    slurm_knows_the_end(job.number)
    assert accounting("reconcile", "--since", start) == []


def test_no_answer_of_slurms_accounting_is_no_difference(
    start: str, submit: Submit, daemons: Box
) -> None:
    submit("true").wait("COMPLETED")
    with daemons.down("slurmdbd"):
        done = subprocess.run(
            ["wnodes", "accounting", "reconcile", "--since", start],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Problem talking to the database" in done.stderr
