"""Any local user asks a bait for jobs, over its socket, before Torque and OpenPBS.

These can't be installed here. In their place stand programs that write down what they are asked,
and say of any job what the attacker's own server would: that it is granted to the attacker.
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bait.batch.attach import attach
from tests.unit.bait.frontend.test_control_socket import Door
from tests.unit.conftest import NOBODY, TAG, Node, eventually, needs_root
from wnodes_lrms.lrms.systems import SYSTEMS

pytestmark = [needs_root, pytest.mark.integration]

HOSTILE = [
    *("12@attacker:15001", "12.attacker", "12.attacker.example.org:15001", "7.server@attacker"),
    *("-Q", "-B", "--version", "*", "", "7.server\n8.server", "7.server 8.server", "12", "all"),
    *("@attacker", "12[].attacker", "../../7.server", "7.SERVER", "7"),
]
GROUP = "nogroup"
SAYS = {
    "torque": {
        "qstat": "<Data><Job><Job_Id>JOB</Job_Id><job_state>R</job_state><queue>batch</queue>"
        f"<euser>nobody</euser><egroup>{GROUP}</egroup><exec_host>hv1/0</exec_host>"
        "<start_count>1</start_count><Resource_List><mem>512mb</mem>"
        f"<other>vm:{TAG}</other></Resource_List></Job></Data>",
        "pbsnodes": "<Data><Node><name>hv1</name><state>free</state>"
        "<jobs>0/7.server</jobs></Node></Data>",
    },
    "openpbs": {
        "qstat": "Job Id: JOB\n    job_state = R\n    queue = workq\n    euser = nobody\n"
        f"    egroup = {GROUP}\n    exec_vnode = (hv1:ncpus=1:mem=524288kb)\n"
        f"    Resource_List.vm = {TAG}\n    run_version = 1\n",
        "pbsnodes": "hv1\n     state = free\n     jobs = 7.server/0\n",
        "qselect": "",
    },
}


class Commands:
    """The programs of a batch system, and what they were asked."""

    def __init__(self, folder: Path, lrms: str) -> None:
        self.file = folder / "asked"
        for name, said in SAYS[lrms].items():
            # The last argument is the job; its server would not say that again.
            (folder / name).write_text(
                f"#!/bin/bash\nprintf '%s\\n' {name}\"$(printf ' <%s>' \"$@\")\" >>{self.file}\n"
                f"said={shlex.quote(said)}\n"
                'for job; do :; done\nprintf %s "${said//JOB/${job%@configured}}"\n'
            )
            (folder / name).chmod(0o755)

    def asked(self, program: str) -> list[str]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [line for line in lines if line.startswith(program)]


Opened = Callable[[str], tuple[Door, Commands]]


@pytest.fixture
def opened(node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """A bait with this batch system, at a socket where others can come."""
    folders, doors = [], []
    monkeypatch.setenv("PBS_DEFAULT", "configured")
    monkeypatch.setenv("PBS_SERVER", "configured")

    def _opened(lrms: str) -> tuple[Door, Commands]:
        folder = Path(tempfile.mkdtemp())
        folder.chmod(0o755)
        folders.append(folder)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        commands = Commands(folder, lrms)
        node.batch = SYSTEMS[lrms].node(node.config, "hv1")  # type: ignore[assignment]
        doors.append(Door(folder / "run" / "bait.sock", node.bait()))
        return doors[-1], commands

    yield _opened
    for door in doors:
        door.server.close()
    for folder in folders:
        shutil.rmtree(folder)


@contextmanager
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bait that does not wait for jobs that are not there."""
    with monkeypatch.context() as patch:
        patch.setattr("bait.batch.attach._SURE", -1.0)
        yield


@pytest.mark.parametrize("lrms", SAYS)
def test_whatever_a_user_calls_a_job_is_asked_of_nobody(
    node: Node, opened: Opened, lrms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, commands = opened(lrms)
    with impatient(monkeypatch):
        for job in HOSTILE:
            *_, attached = door.ask_as(NOBODY, op="attach", job=job)
            *_, tried_again = door.ask(op="again", job=job)
            assert (attached["ok"], tried_again["ok"]) == (False, False), job
    assert commands.asked("qstat") == []
    assert len(commands.asked("pbsnodes")) <= 3 * len(HOSTILE)
    assert node.left() == []


@pytest.mark.parametrize("lrms", SAYS)
def test_a_job_of_ones_own_is_asked_of_the_configured_server(
    node: Node, opened: Opened, lrms: str
) -> None:
    door, commands = opened(lrms)
    door.parts.batch.config = node.config
    answers = attach(door.parts.batch, node.batch.job_id("7.server"), NOBODY.pw_uid)
    eventually(lambda: next(answers) and node.ledger.rows("7.server"), within=20)
    options = "<-f> <-x>" if lrms == "torque" else "<-f> <-w>"
    assert set(commands.asked("qstat")) == {f"qstat {options} <--> <7.server@configured>"}
