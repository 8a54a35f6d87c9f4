"""lease.py as the LRMS runs it: a process of its own, before a real UNIX socket.

The bait's side is a server that answers as a test says; the end-to-end tests have the real one.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import eventually
from tests.unit.scripted_bait import ScriptedBait, streams

pytestmark = pytest.mark.integration

LEASE = "99999999-0000-4000-8000-000000000000"
PROGRAM = Path(__file__).parents[3] / "hooks" / "lease.py"
Answers = Callable[[dict[str, Any]], Iterator[Any]]


class Site:
    """A node with room for a bait, and the lease programs that run there."""

    def __init__(self, folder: Path) -> None:
        (folder / "hv1").mkdir()
        self.path = folder / "hv1" / "bait.sock"
        self.pattern = f"{folder}/%n/bait.sock"
        self.ended = threading.Event()  # the machine of `carry`
        self.baits: list[ScriptedBait] = []
        self.programs: list[subprocess.Popen[str]] = []

    def bait(self, answers: Answers) -> ScriptedBait:
        self.baits.append(ScriptedBait(self.path, streams(answers)))
        return self.baits[-1]

    def carry(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A machine that runs until the test, or an announced end, ends it."""
        if request["op"] == "lease-ending":
            self.ended.set()
            yield {"ok": True, "end": True}
            return
        yield {"state": "building"}
        while not self.ended.wait(0.05):
            yield {"state": "running"}
        yield {"ended": "shut down", "code": 0, "end": True}

    def start(
        self, patience: float = 60, job: str = "77", **environment: str
    ) -> subprocess.Popen[str]:
        """The program; `patience` shortens its waits, which are a minute in the file."""
        code = (
            f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r}); import baitsocket, lease;"
            f"lease.BAIT_AWAY = {patience}; baitsocket.SILENCE = {min(patience, 30)};"
            "lease.PAUSE = 0.05; lease.main(*sys.argv[1:])"
        )
        known = {"WNODES_LEASE": LEASE}
        self.programs.append(
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code, self.pattern, job, "hv1"],
                env=known | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return self.programs[-1]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.ended.set()
    for program in site.programs:
        program.kill()
        program.communicate()
    for bait in site.baits:
        bait.close()


def end_of(program: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error; nothing ever goes to standard output."""
    output, errors = program.communicate(timeout=5)
    assert output == ""
    return program.returncode, errors


def test_the_lease_is_named_and_the_program_stays_as_long_as_the_machine(site: Site) -> None:
    bait = site.bait(site.carry)
    program = site.start()
    eventually(lambda: bait.heard)
    time.sleep(0.2)
    assert program.poll() is None
    site.ended.set()
    assert end_of(program) == (0, "")
    assert bait.heard == [{"op": "lease", "job": "77", "lease": LEASE}]


def test_the_installed_form_runs_without_site_packages(site: Site) -> None:
    bait = site.bait(lambda _: iter([{"ended": "done", "code": 0, "end": True}]))
    done = subprocess.run(
        [sys.executable, "-I", "-S", PROGRAM, site.pattern, "77", "hv1"],
        env={"WNODES_LEASE": LEASE},
        capture_output=True,
        timeout=10,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert bait.heard[0]["lease"] == LEASE


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"ended": "the disk is full", "code": 1, "end": True}, "the disk is full"),
        ({"ok": False, "error": "order refused: used", "retry": False, "end": True}, "used"),
    ],
)
def test_a_bad_end_is_told_with_the_job(site: Site, answer: dict[str, Any], reason: str) -> None:
    site.bait(lambda _: iter([{"state": "building"}, answer]))
    code, errors = end_of(site.start())
    assert code == 1
    assert errors.startswith("wnodes: job 77: ")
    assert reason in errors
    assert errors.count("\n") == 1


def test_a_bait_that_can_do_it_later_is_asked_again(site: Site) -> None:
    said = iter([{"ok": False, "error": "libvirt is away", "retry": True, "end": True}])

    bait = site.bait(lambda _: iter([next(said, {"ended": "shut down", "code": 0, "end": True})]))
    code, errors = end_of(site.start())
    assert (code, [each["op"] for each in bait.heard]) == (0, ["lease", "lease"])
    assert errors == "wnodes: job 77: the bait on node hv1 says: libvirt is away; trying again\n"


def test_a_bait_that_comes_back_is_asked_again(site: Site) -> None:
    first = site.bait(site.carry)
    program = site.start(patience=0.3)
    eventually(lambda: first.heard)
    time.sleep(0.1)
    first.close()
    time.sleep(0.6)  # longer than the patience for a bait that has not taken the order
    assert program.poll() is None
    second = site.bait(site.carry)
    eventually(lambda: second.heard)
    site.ended.set()
    code, errors = end_of(program)
    assert (code, second.heard) == (0, first.heard)
    assert errors.count("trying again") == 1


@pytest.mark.parametrize("why", ["no socket", "nobody listens", "silent", "closes"])
def test_without_a_bait_the_lease_ends_after_a_while(site: Site, why: str) -> None:
    if why == "nobody listens":
        site.bait(site.carry).close()
    elif why == "silent":
        site.bait(lambda _: iter(threading.Event().wait, True))
    elif why == "closes":
        site.bait(lambda _: iter(()))
    began = time.monotonic()
    code, errors = end_of(site.start(patience=0.2))
    assert code == 1
    assert 0.2 <= time.monotonic() - began < 30
    *before, last = errors.splitlines()
    assert [line.endswith("trying again") for line in before] == [True] * (why != "silent")
    assert last.startswith("wnodes: job 77: the bait on node hv1 ")


def test_an_announced_end_is_told_once_and_the_wait_goes_on(site: Site) -> None:
    def answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if request["op"] == "lease-ending":
            yield {"ok": True, "end": True}
            return
        yield from site.carry(request)

    bait = site.bait(answers)
    names = ["TERM", "USR1", "USR2", "XCPU", "INT", "HUP"]
    programs = {name: site.start(job=name) for name in names}
    eventually(lambda: len(bait.heard) == len(names))
    for number in ("self", "self", "TERM", "USR1"):
        for name, program in programs.items():
            program.send_signal(getattr(signal, "SIG" + (name if number == "self" else number)))
        time.sleep(0.1)
    told = [request["job"] for request in bait.heard if request["op"] == "lease-ending"]
    assert sorted(told) == sorted(names)
    assert {program.poll() for program in programs.values()} == {None}
    site.ended.set()  # the guests have shut down
    for name, program in programs.items():
        said = f"wnodes: job {name}: SIG{name}: the lease is ending\n"
        assert end_of(program) == (0, said)


def test_an_end_announced_while_the_bait_is_away_is_told_when_it_is_back(site: Site) -> None:
    first = site.bait(site.carry)
    program = site.start()
    eventually(lambda: first.heard)
    time.sleep(0.1)
    first.close()
    program.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert program.poll() is None
    second = site.bait(site.carry)
    assert end_of(program)[0] == 0
    assert sorted(each["op"] for each in second.heard) == ["lease", "lease-ending"]


def test_a_lease_that_ends_before_its_order_is_taken_makes_no_machine(site: Site) -> None:
    program = site.start()
    assert program.stderr
    assert "can't be reached" in program.stderr.readline()  # from then on it minds signals
    program.send_signal(signal.SIGTERM)
    assert end_of(program)[0] == 1


@pytest.mark.parametrize(
    ("missing", "says"), [({"WNODES_LEASE": ""}, "WNODES_LEASE"), ({"job": ""}, "no job id")]
)
def test_what_is_missing_is_said(site: Site, missing: dict[str, str], says: str) -> None:
    code, errors = end_of(site.start(60, **missing))
    assert code == 1
    assert says in errors
    assert os.linesep not in errors.rstrip("\n")
