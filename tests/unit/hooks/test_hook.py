"""hook.py and the guards, run as Slurm runs them, against a real socket."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.scripted_bait import Answer, ScriptedBait
from wnodes_lrms import resources
from wnodes_lrms.lrms import hookfiles
from wnodes_lrms.lrms.slurm.hookplan import Site
from wnodes_lrms.lrms.slurm.installation import SlurmHooks
from wnodes_lrms.policy import Policy

pytestmark = pytest.mark.integration

HOOK = resources.folder("hooks") / "hook.py"
# What slurmd 22.05 gives a prolog and that matters here; there is no PATH.
JOB = {
    "SLURM_JOB_ID": "123",
    "SLURMD_NODENAME": "hv1",
    "SLURM_CONF": "/etc/slurm/slurm.conf",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmd",
}


def says(*pieces: bytes) -> Answer:
    def answer(link: socket.socket, _request: object) -> None:
        for piece in pieces:
            link.sendall(piece)
            time.sleep(0.01)

    return answer


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[Callable[[Answer], ScriptedBait]]:
    made: list[ScriptedBait] = []

    def make(answer: Answer) -> ScriptedBait:
        made.append(ScriptedBait(tmp_path / "hv1.sock", answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


def run(tmp_path: Path, act: str = "prepare", **changes: str) -> str:
    """Standard error of the hook, which must have ended with 0."""
    job = {"number": "123", "node": "hv1", "restart": "0"} | changes
    ran = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", HOOK, act, f"{tmp_path}/%n.sock", *job.values()],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, "")
    return ran.stderr


@pytest.mark.parametrize("act", ["prepare", "release"])
@pytest.mark.parametrize(
    "answer",
    [
        says(b'{"ok":true,"end":true}\n'),
        says(b'{"ok": true, "end": true}\n'),
        says(b'{"end":true,', b'"ok":true}\n'),
    ],
)
def test_one_line_goes_to_the_nodes_bait(
    bait: Callable[[Answer], ScriptedBait], tmp_path: Path, act: str, answer: Answer
) -> None:
    listening = bait(answer)
    assert run(tmp_path, act) == ""
    (request,) = listening.heard
    assert request == {"op": act, "job": "123", "restart": 0}


def test_the_restart_count_of_a_requeued_job_travels(
    bait: Callable[[Answer], ScriptedBait], tmp_path: Path
) -> None:
    listening = bait(says(b'{"ok":true}\n'))
    assert run(tmp_path, restart="2") == ""
    assert listening.heard[0]["restart"] == 2


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (says(b'{"ok":false,"error":"no such\\njob","end":true}\n'), "bait refused: no such job"),
        (says(b'{"ok":1}\n'), "bait refused: b'{\"ok\":1}'"),
        (says(b"[]\n"), "bait refused"),
        (says(b"hello\n"), "answer is not understood: b'hello'"),
        (says(b""), "answer is not understood: b''"),
        (says(b'{"ok":false' + b" " * 70000), "answer is not understood"),
    ],
)
def test_trouble_is_one_line_with_the_job(
    bait: Callable[[Answer], ScriptedBait], tmp_path: Path, answer: Answer, trouble: str
) -> None:
    bait(answer)
    said = run(tmp_path)
    assert said.startswith("wnodes: job 123: prepare: the ")
    assert trouble in said
    assert said.count("\n") == 1


def test_no_bait_is_said(tmp_path: Path) -> None:
    said = run(tmp_path, "release")
    assert said.startswith(
        f"wnodes: job 123: release: no bait at {tmp_path}/hv1.sock: No such file"
    )


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"node": ""}, "node's name is not told"),
        ({"number": ""}, "no job id"),
        ({"number": '1","op":"x'}, "no job id"),
        ({"number": "1\nwnodes: job 2: gone"}, "wnodes: job 1 wnodes: job 2: gone: prepare: there"),
        ({"node": "../evil"}, "is no node's name"),
        ({"node": ".."}, "is no node's name"),
        ({"node": "hv1/x"}, "is no node's name"),
        ({"node": "-x"}, "is no node's name"),
        ({"node": "hv1\n"}, "is no node's name"),
        ({"restart": "-1"}, "no number"),
    ],
)
def test_words_that_are_not_the_batch_systems(
    tmp_path: Path, changes: dict[str, str], trouble: str
) -> None:
    assert trouble in run(tmp_path, "prepare", **changes)


@pytest.mark.parametrize("number", ["12", "12.3", "12.server.site.org", "12[3].server"])
def test_a_job_id_is_the_batch_systems_own_and_its_run_may_be_unknown(
    bait: Callable[[Answer], ScriptedBait], tmp_path: Path, number: str
) -> None:
    listening = bait(says(b'{"ok":true}\n'))
    assert run(tmp_path, number=number, restart="") == ""
    assert listening.heard[0] == {"op": "prepare", "job": number}


def test_wrong_arguments_do_not_fail_the_node(tmp_path: Path) -> None:
    assert "usage" in run(tmp_path, "prolog")


def test_the_deadline_is_for_the_whole_exchange(
    bait: Callable[[Answer], ScriptedBait], tmp_path: Path
) -> None:
    """A bait that keeps sending a little, but never a line, does not hold the prolog."""

    def dribble(link: socket.socket, _request: object) -> None:
        for _ in range(100):
            link.sendall(b" ")
            time.sleep(0.1)

    bait(dribble)
    said = run(tmp_path)
    assert "no answer from the bait" in said
    assert "within 2 s" in said


def guard(tmp_path: Path, slurm_conf: str = "") -> Path:
    """The hooks, installed for a bait at tmp_path/<node>.sock."""
    conf = tmp_path / "slurm.conf"
    conf.write_text(slurm_conf)
    site = Site(conf, f"{tmp_path}/%n.sock", 2, tmp_path / "it's here", os.geteuid())
    hookfiles.install(SlurmHooks(site, Policy([])))
    return site.folder


@pytest.mark.parametrize(("name", "act"), [("prolog", "prepare"), ("epilog", "release")])
def test_the_guard_tells_the_bait_of_a_job_with_a_machine(
    bait: Callable[[Answer], ScriptedBait], tmp_path: Path, name: str, act: str
) -> None:
    listening = bait(says(b'{"ok":true,"end":true}\n'))
    program = guard(tmp_path) / name
    for constraints in ("wnodes", "wnodes&a", "(a|b)&wnodes"):
        environment = JOB | {"SLURM_JOB_CONSTRAINTS": constraints}
        assert subprocess.run([program], env=environment).returncode == 0
    assert listening.heard == [{"op": act, "job": "123", "restart": 0}] * 3


@pytest.mark.parametrize("constraints", [{}, {"SLURM_JOB_CONSTRAINTS": "a&b"}])
def test_a_plain_job_starts_no_other_program(tmp_path: Path, constraints: dict[str, str]) -> None:
    """Its files could all be gone: nothing of them is looked at."""
    folder = guard(tmp_path)
    (folder / "hook.py").unlink()
    for name in ("prolog", "epilog"):
        ran = subprocess.run([folder / name], env=JOB | constraints, capture_output=True)
        assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_hook_that_cannot_run_does_not_drain_the_node(tmp_path: Path) -> None:
    folder = guard(tmp_path)
    (folder / "hook.py").write_text("this is no Python")
    ran = subprocess.run([folder / "prolog"], env=JOB | {"SLURM_JOB_CONSTRAINTS": "wnodes"})
    assert ran.returncode == 0


def test_the_sites_own_prolog_runs_after_ours_and_its_exit_code_is_slurms(
    bait: Callable[[Answer], ScriptedBait], tmp_path: Path
) -> None:
    own = tmp_path / "own prolog"
    own.write_text(f'#!/bin/sh\necho "$0 $# $SLURM_JOB_ID" > "{tmp_path}/ran"\nexit 3\n')
    own.chmod(0o755)
    listening = bait(says(b'{"ok":false,"error":"no"}\n'))
    folder = guard(tmp_path, f'Prolog="{own}"\n')
    environment = JOB | {"SLURM_JOB_CONSTRAINTS": "wnodes"}
    assert subprocess.run([folder / "prolog.site"], env=environment).returncode == 3
    assert (tmp_path / "ran").read_text() == f"{own} 0 123\n"
    assert len(listening.heard) == 1


@pytest.mark.parametrize("name", ["prolog", "epilog", "prolog.site"])
def test_what_is_generated_is_sound_shell(tmp_path: Path, name: str) -> None:
    assert shutil.which("shellcheck"), "the package shellcheck is missing"
    program = guard(tmp_path, "Prolog=/site's/prolog\n") / name
    checked = subprocess.run(["shellcheck", program], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_starter_passes_on_what_the_kernel_gives_an_interpreter(tmp_path: Path) -> None:
    """`#!STARTER /bin/bash -l` reaches it as one word, then the script, then its arguments."""
    folder = guard(tmp_path)
    (folder / "starter.py").write_text("def main(*words): print([*words])")
    # The kernel takes no space in an interpreter's path, as in the folder of these tests.
    plain = tmp_path / "plain"
    plain.symlink_to(folder)
    script = tmp_path / "script"
    script.write_text(f"#!{plain}/starter /bin/bash -l\n")
    script.chmod(0o755)
    ran = subprocess.run([script, "a b", ""], env=JOB, capture_output=True, text=True)
    given = ["slurm", f"{tmp_path}/%n.sock", "2", "123", "hv1"]
    assert ran.stdout == f"{[*given, 'script', '/bin/bash -l', str(script), 'a b', '']}\n"
