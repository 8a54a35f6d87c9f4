"""The starter as each batch system runs it: the generated file, from its first line on."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from wnodes_lrms.lrms.gridengine import hookplan
from wnodes_lrms.lrms.hookset import HookSet, Site
from wnodes_lrms.lrms.openpbs import hookplan as openpbshooks
from wnodes_lrms.lrms.slurm import hookplan as slurmhooks
from wnodes_lrms.lrms.slurm.conf import SlurmConf
from wnodes_lrms.lrms.torque import hookplan as torquehooks
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import sources

pytestmark = pytest.mark.integration

TAG = "small_linux_x86_64"
SOCKET = "/run/wnodes/%n/bait.sock"
# Stands in for starter.py: tells what it was run with.
TELLS = """
import sys
def main(*words):
    print(repr(words))
    print(open("/proc/self/environ", "rb").read())
if __name__ == "__main__":
    main(*sys.argv[1:])
"""
# What a shell can't set, and so may not hand on.
ODD = {
    b"BASH_FUNC_module%%": b"() { echo loaded; }",
    b"site.name": b"box",
    b"with-dash": b"\xff\n",
    b"1st": b"",
    b"WNODES_IMAGE": TAG.encode(),
    b"BASH_ENV": b"/no/such/file",
}


def hooks(lrms: str, folder: Path) -> HookSet:
    """The files of a site with this batch system."""
    site, policy = Site(folder, SOCKET, 2), Policy([TAG])
    if lrms == "slurm":
        slurm = slurmhooks.Site(folder / "slurm.conf", SOCKET, 2, folder)
        conf = SlurmConf(slurm.slurm_conf)
        return slurmhooks.plan(
            slurm, policy, conf, slurmhooks.Present(), sources(slurmhooks.COPIED)
        )
    if lrms == "openpbs":
        return openpbshooks.plan(site, policy, None, sources(openpbshooks.COPIED))
    if lrms == "gridengine":
        facts = hookplan.Facts()
        return hookplan.plan(site, policy, facts, sources(hookplan.COPIED))
    torque = torquehooks.Site(
        home=folder / "torque", socket=SOCKET, run_dir=f"{folder}/run/%n", retries=2, folder=folder
    )
    (folder / "torque/mom_priv").mkdir(parents=True)
    return torquehooks.plan(
        torque, policy, torquehooks.Present("", "", {}), sources(torquehooks.COPIED)
    )


class Node:
    """A node with the hooks of a batch system, and a job there."""

    def __init__(self, lrms: str, folder: Path, script: str) -> None:
        self.folder = folder
        self.lrms = lrms
        for file in hooks(lrms, folder).files:
            file.path.write_bytes(file.content)
            file.path.chmod(file.mode)
        (folder / "starter.py").write_text(TELLS)
        (folder / "job_scripts").mkdir()
        self.script = folder / "job_scripts" / "12"
        self.script.write_text(script)
        self.script.chmod(0o755)
        (folder / "nodes").write_text("hv1\n")
        (folder / "config").write_text("no_shell=0\n")

    def starts(self, environment: Mapping[bytes, bytes]) -> tuple[str, dict[bytes, bytes]]:
        """What was run, and its environment, less what the batch system has set."""
        ours = {
            "slurm": {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "hv1"},
            "openpbs": {},
            "torque": {"PBS_JOBID": "12", "PBS_NODEFILE": str(self.folder / "nodes")},
            "gridengine": {
                "JOB_ID": "12",
                "HOSTNAME": "hv1",
                "SGE_JOB_SPOOL_DIR": str(self.folder),
                "SGE_STARTER_SHELL_START_MODE": "unix_behavior",
            },
        }[self.lrms]
        words = {
            "slurm": ["/bin/sh", str(self.script)],
            "openpbs": ["12", "hv1", "script", "/bin/sh"],
            "torque": [str(self.script)],  # the user's shell, which tells what it gets
            "gridengine": [str(self.script)],
        }[self.lrms]
        own = {os.fsencode(key): os.fsencode(value) for key, value in ours.items()}
        done = subprocess.run(
            [self.folder / "starter", *words],
            env={**environment, **own},
            input=f"{self.script}\n".encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        told, environ = done.stdout.decode().splitlines()
        pairs = (pair.partition(b"=") for pair in eval(environ).split(b"\0"))  # noqa: S307
        return told, {name: value for name, _, value in pairs if name not in {b"", *own}}


SHELLS_OWN = {b"PWD", b"SHLVL", b"OLDPWD", b"_"}  # any shell sets these anew


@pytest.mark.parametrize("lrms", ["slurm", "openpbs", "gridengine", "torque"])
def test_the_environment_comes_whole(tmp_path: Path, lrms: str) -> None:
    told, found = Node(lrms, tmp_path, "#!/bin/bash\n").starts(ODD)
    assert {name: value for name, value in found.items() if name not in SHELLS_OWN} == ODD
    form = "spooled" if lrms == "openpbs" else "script"
    assert told.startswith(f"('{lrms}', '{SOCKET}', '2', '12', 'hv1', '{form}', ")


@pytest.mark.parametrize("lrms", ["gridengine", "torque"])
def test_that_of_a_plain_job_does_too(tmp_path: Path, lrms: str) -> None:
    shows = "#!/usr/bin/python3 -IS\nprint()\nprint(open('/proc/self/environ', 'rb').read())\n"
    plain = {name: value for name, value in ODD.items() if name != b"WNODES_IMAGE"}
    _, found = Node(lrms, tmp_path, shows).starts(plain)
    assert {name: found.get(name) for name in plain} == plain


@pytest.mark.parametrize("lrms", ["slurm", "openpbs", "gridengine", "torque"])
def test_only_the_starters_own_modules_are_run(tmp_path: Path, lrms: str) -> None:
    """A user's PYTHONPATH, or a module in the working directory, is none of its business."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/starter.py").write_text("raise SystemExit(3)\n")
    environment = ODD | {b"PYTHONPATH": os.fsencode(tmp_path / "evil"), b"PYTHONSTARTUP": b"/x"}
    told, _ = Node(lrms, tmp_path, "#!/bin/bash\n").starts(environment)
    assert told
