"""An ordinary user of a node asks its bait for jobs: what others have, and what it costs."""

import json
import os
import re
import subprocess
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from contrib.site.box.layout import NODES
from tests.e2e.box import USER, call
from tests.e2e.lrms.slurm import Submit

# Connects once for each line of its input, sends the line, and after so many seconds prints what
# came last on each of the connections, or null.
CALLER = """
import socket, sys, time
links = []
for line in sys.stdin.buffer:
    link = socket.socket(socket.AF_UNIX)
    link.connect(sys.argv[1])
    link.sendall(line)
    links.append(link)
time.sleep(float(sys.argv[2]))
for link in links:
    link.setblocking(False)
    try:
        print(link.recv(65536).decode().strip().rpartition(chr(10))[2] or "null")
    except BlockingIOError:
        print("null")
"""
HOSTILE = ["-Q", "*", "", "1,2", "1 -u root", "12@attacker:15001", "../1", "1\n2", "1.batch", "0"]
STATE = Path(os.environ["WNODES_SITE"])


def asked(
    *requests: dict[str, object], seconds: float = 1, node: str = "hv1", user: str = USER
) -> list[Any]:
    """The last word that each request of the user's has been answered with so far."""
    socket = str(STATE / "run" / node / "bait.sock")
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    argv = ["runuser", "-u", user, "--", "/usr/bin/python3", "-I", "-c", CALLER, socket]
    done = subprocess.run(
        [*argv, str(seconds)], input=lines, capture_output=True, text=True, timeout=60, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def attach(job: str) -> dict[str, object]:
    """A starter's question."""
    return {"op": "attach", "job": job}


def questions() -> int:
    """How often root has asked Slurm's controller anything, by the controller's own count."""
    found = re.search(r"^\s*root\s*\(\s*0\)\s*count:(\d+)", call("sdiag"), re.MULTILINE)
    assert found
    return int(found[1])


def rows(table: str) -> int:
    """How many rows the ledgers of both nodes have in a table."""
    total = 0
    for node in NODES:
        (file,) = STATE.glob(f"*/{node}/ledger.sqlite")
        with closing(connect(file)) as db:
            total += db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
    return total


def test_a_user_cannot_have_slurm_flooded_with_questions_for_jobs_that_are_not_there() -> None:
    """A user of the node, who wants Slurm's controller to be of no use to others."""
    before = questions()
    asked(*[attach(str(900_000 + number)) for number in range(150)], seconds=5)
    # Both baits look for themselves now and then, and so does this test.
    assert questions() - before < 25


def test_a_users_own_plain_job_leaves_nothing_in_the_ledger(submit: Submit) -> None:
    """A user of the node, who wants the ledger, and with it /var, to become full."""
    job = submit("sleep 60", "--nodelist=hv1", image=None).wait("RUNNING")
    before, questions_before = (rows("machine"), rows("event")), questions()
    for answer in asked(*[attach(job.number)] * 100, seconds=4):
        assert answer is None or not answer.get("machine")
    assert (rows("machine"), rows("event")) == before
    assert questions() - questions_before < 50
    job.cancel()


@pytest.mark.parametrize("user", [USER, "clouduser"])
def test_what_is_no_job_id_is_refused_and_asked_of_nobody(user: str) -> None:
    """A user of the node, who wants root to ask Slurm in words of theirs."""
    before = questions()
    requests: list[dict[str, object]]
    requests = [{"op": op, "job": job} for op in ("attach", "again") for job in HOSTILE]
    requests.append({"op": "lease-ending", "job": "../1"})
    for request, answer in zip(requests, asked(*requests, user=user), strict=True):
        assert answer, request
        assert not answer["ok"], request
        assert re.search("no job id|a short text is needed", answer["error"]), request
    assert questions() - before < 10


def test_a_stranger_to_a_job_cannot_have_slurm_kept_busy_with_it(submit: Submit) -> None:
    """Another user of the node, who asks for a job of somebody's again and again."""
    job = submit("sleep 60", "--nodelist=hv1", image=None).wait("RUNNING")
    before = questions()
    answers = asked(*[attach(job.number)] * 100, seconds=5, user="clouduser")
    assert questions() - before < 25
    assert [answer["error"] for answer in answers] == [f"job {job.number} is not yours"] * 100
    job.cancel()
