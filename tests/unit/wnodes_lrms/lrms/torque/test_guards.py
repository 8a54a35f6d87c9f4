"""Torque's guards, run by sh with the arguments and environment that 6.1.3 was seen to give."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from wnodes_lrms.config.load import Default
from wnodes_lrms.lrms import hookfiles
from wnodes_lrms.lrms.hookset import is_ours
from wnodes_lrms.lrms.torque.hookplan import COPIED, Present, Site, plan, take_back
from wnodes_lrms.lrms.torque.installation import TorqueHooks
from wnodes_lrms.policy import Policy

pytestmark = pytest.mark.integration

DATA = Path(__file__).parents[3] / "data/torque-6.1.3"
TAG = "small_linux_x86_64"
# Stands in for the Python files: tells what it was run with.
TELLS = "import sys\nprint('|'.join(sys.argv))\n"


def recorded(name: str) -> tuple[list[str], dict[str, str]]:
    """A hook's arguments, and its environment."""
    arguments, environment = [], {}
    for line in (DATA / name).read_text().splitlines():
        if line.startswith("argument "):
            arguments.append(line.removeprefix("argument "))
        else:
            key, _, value = line.partition("=")
            environment[key] = value
    return arguments, environment


class Host:
    """A node whose hooks are as `plan` has them, with Python files that only tell."""

    def __init__(self, folder: Path, config: str = "", own: bytes | None = None) -> None:
        self.folder = folder
        self.site = Site(
            home=folder / "torque",
            socket="/run/wnodes/%n/bait.sock",
            run_dir=f"{folder}/run/%n",
            retries=2,
            folder=folder / "hooks",
        )
        rules = Policy({TAG}, [Default(image=TAG, partition="grid")])
        present = Present(config, "", {place.aside: own for place in self.site.places})
        self.wanted = plan(self.site, rules, present, {name: TELLS.encode() for name in COPIED})
        self.site.folder.mkdir()
        self.site.mom.mkdir(parents=True)
        for file in self.wanted.files:
            file.path.write_bytes(file.content)
            file.path.chmod(file.mode)
        for place in self.site.places if own else ():
            place.aside.write_bytes(own or b"")
            place.aside.chmod(0o755)
        self.nodefile = folder / "nodefile"
        self.nodefile.write_text("tqhost\ntqhost\n")

    def mark(self, job: str) -> Path:
        return self.folder / "run/tqhost/jobs" / job

    def run(
        self, program: Path, arguments: list[str], environment: dict[str, str], given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        environment = environment | {"PBS_NODEFILE": str(self.nodefile), "HOME": str(self.folder)}
        return subprocess.run(
            [program, *arguments],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )

    def pelog(self, hook: str, name: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.site.mom / hook, *recorded(f"{name}.{hook}"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_plain_job_meets_no_python(host: Host) -> None:
    for hook in ("prologue", "epilogue"):
        done = host.pelog(hook, "plain")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not host.mark("26.tqhost").exists()


def test_a_wish_by_resource_is_announced_and_marked(host: Host) -> None:
    done = host.pelog("prologue", "resource")
    program = host.site.folder / "hook.py"
    told = f"{program}|{{}}|/run/wnodes/%n/bait.sock|25.tqhost|tqhost\n"
    assert (done.returncode, done.stdout) == (0, told.format("prepare"))
    assert host.mark("25.tqhost").exists()
    assert stat.S_IMODE(host.mark("25.tqhost").parent.stat().st_mode) == 0o755
    done = host.pelog("epilogue", "resource")
    assert (done.returncode, done.stdout) == (0, told.format("release"))
    assert not host.mark("25.tqhost").exists()


def test_a_mark_of_the_baits_brings_the_release_of_a_job_whose_wish_no_hook_sees(
    host: Host,
) -> None:
    assert host.pelog("prologue", "environment").stdout == ""
    host.mark("24.tqhost").parent.mkdir(parents=True)
    host.mark("24.tqhost").touch()
    assert "|release|" in host.pelog("epilogue", "environment").stdout


def test_a_queue_with_an_image_of_its_own(host: Host) -> None:
    arguments, environment = recorded("plain.prologue")
    arguments[5] = "grid"
    assert "|prepare|" in host.run(host.site.mom / "prologue", arguments, environment).stdout


def test_an_arrays_task_has_brackets(host: Host) -> None:
    arguments, environment = recorded("array.prologue")
    assert arguments[0] == "27[3].tqhost"
    arguments[4] += f",other=vm:{TAG}"
    host.run(host.site.mom / "prologue", arguments, environment)
    assert host.mark("27[3].tqhost").exists()


def test_the_prologue_ends_with_0_whatever_happens(host: Host) -> None:
    (host.site.folder / "hook.py").write_text("raise SystemExit(2)\n")
    (host.folder / "run").write_text("no folder")
    assert host.pelog("prologue", "resource").returncode == 0
    assert host.run(host.site.mom / "prologue", [], {}).returncode == 0
    assert host.run(host.site.mom / "epilogue", ["1"], {}).returncode == 0


def test_the_sites_own_hooks_go_on_with_all_their_arguments(tmp_path: Path) -> None:
    host = Host(tmp_path, own=b'#!/bin/sh\necho "own $# $1 $4"\nexit 3\n')
    for hook, count in (("prologue", 8), ("epilogue", 11)):
        done = host.pelog(hook, "plain")
        assert (done.returncode, done.stdout) == (3, f"own {count} 26.tqhost plain.sh\n")
    assert host.pelog("prologue", "resource").stdout.endswith("own 8 25.tqhost plain.sh\n")


def starter(host: Host, name: str, given: str, **more: str) -> subprocess.CompletedProcess[str]:
    arguments, environment = recorded(f"{name}.starter")
    return host.run(host.site.folder / "starter", arguments, environment | more, given)


def test_a_plain_job_gets_its_shell_and_a_login_one(host: Host) -> None:
    done = starter(host, "plain", "echo $0; shopt login_shell; exit 9\n")
    assert (done.returncode, done.stdout.split()) == (9, ["/bin/bash", "login_shell", "on"])


def test_where_the_site_wants_no_login_shells_there_is_none(tmp_path: Path) -> None:
    host = Host(tmp_path, "$logevent 255\n$source_login_batch false\n")
    assert "login_shell" in starter(host, "plain", "shopt login_shell\n").stdout
    assert "off" in starter(host, "plain", "shopt login_shell\n").stdout


def test_a_task_within_a_job_is_run_as_it_stands(host: Host) -> None:
    _, environment = recorded("environment.starter")
    more = environment | {"PBS_TASKNUM": "2"}
    done = host.run(host.site.folder / "starter", ["/bin/echo", "-n", "a b"], more)
    assert done.stdout == "a b"


def script(host: Host, text: str) -> Path:
    path = host.folder / "24.tqhost.SC"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "interpreter"),
    [("#!/usr/bin/env perl\n", ""), ("echo\n", "/bin/bash"), ("", "/bin/bash")],
)
def test_a_wish_in_the_environment_starts_the_starter(
    host: Host, text: str, interpreter: str
) -> None:
    path = script(host, text)
    done = starter(host, "environment", f'{path} one "two  three" $PBS_JOBID\n')
    program = host.site.folder / "starter.py"
    assert done.stderr == ""
    assert done.stdout == (
        f"{program}|torque|/run/wnodes/%n/bait.sock|2|24.tqhost|tqhost|script|{interpreter}|{path}"
        "|one|two  three|24.tqhost\n"
    )


def test_torques_own_exec_before_the_path_is_no_word(host: Host) -> None:
    path = script(host, "#!/bin/sh\n")
    assert f"|script||{path}\n" in starter(host, "environment", f"exec {path}\n").stdout


def test_a_mark_starts_the_starter(host: Host) -> None:
    path = script(host, "#!/bin/sh\n")
    assert starter(host, "resource", "exit 5\n").returncode == 5
    host.mark("25.tqhost").parent.mkdir(parents=True)
    host.mark("25.tqhost").touch()
    assert "|25.tqhost|tqhost|script|" in starter(host, "resource", f"{path}\n").stdout


def test_an_interactive_job_is_told(host: Host) -> None:
    done = starter(host, "environment", "", PBS_ENVIRONMENT="PBS_INTERACTIVE")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("wnodes: job 24.tqhost: an interactive job")


def test_who_brings_an_order_gets_the_program_of_leases(host: Host) -> None:
    done = starter(host, "plain", "echo mine\n", WNODES_LEASE="x")
    program = host.site.folder / "lease.py"
    assert done.stdout == f"{program}|/run/wnodes/%n/bait.sock|26.tqhost|tqhost\n"


def test_what_is_told_to_the_site(tmp_path: Path) -> None:
    host = Host(tmp_path)
    ours = host.site.folder / "starter"
    assert host.wanted.lines == (f"mom_priv/config: $job_starter {ours}",)
    rules = Policy({TAG})
    copied = dict.fromkeys(COPIED, b"")
    done = plan(host.site, rules, Present(f"$job_starter {ours}\n", "", {}), copied)
    assert (done.lines, done.adopt) == ((), ())
    two = Present(f"$job_starter {ours}\n$job_starter /site/starter\n", "", {})
    assert plan(host.site, rules, two, copied).lines == host.wanted.lines
    assert take_back(host.site, two) == []
    submits = plan(host.site, rules, Present(None, "QSUBSLEEP 1\n", {}), copied)
    filter_ = host.site.folder / "submitfilter"
    assert (submits.lines, submits.advice) == ((), (f"torque.cfg: SUBMITFILTER {filter_}",))
    assert not any(file.path.parent == host.site.mom for file in submits.files)
    said = Present(f"  $job_starter {ours}\n", f"SUBMITFILTER {filter_}\n", {})
    assert [line.partition(":")[0] for line in take_back(host.site, said)] == [
        "mom_priv/config",
        "torque.cfg",
    ]
    assert take_back(host.site, Present("$job_starter /site/starter\n", "", {})) == []


@pytest.mark.parametrize(("runs", "node"), [("", False), ("config", True), ("mom.lock", True)])
def test_a_folder_for_a_mom_makes_no_node(tmp_path: Path, runs: str, node: bool) -> None:
    site = Site(tmp_path / "torque", "/s", "/run/%n", 2, tmp_path / "hooks", os.geteuid())
    site.mom.mkdir(parents=True)
    if runs:
        (site.mom / runs).touch()
    hooks = TorqueHooks(site, Policy({TAG}))
    told = hookfiles.install(hooks).lines
    assert [line.partition(":")[0] for line in told] == [
        "mom_priv/config" if node else "torque.cfg"
    ]
    assert {path.name for path in site.mom.iterdir()} - {runs} == (
        {"prologue", "epilogue"} if node else set()
    )
    found = [finding.what for finding in hookfiles.check(hooks)]
    assert found == ([f"lacks mom_priv/config: $job_starter {site.folder}/starter"] * node)


def test_the_sites_hooks_are_set_aside_once(tmp_path: Path) -> None:
    site = Host(tmp_path).site
    prologue, epilogue = site.places
    now = Present("", "", {prologue.path: b"#!/bin/sh\n", epilogue.aside: b"#!/bin/sh\n"})
    done = plan(site, Policy({TAG}), now, dict.fromkeys(COPIED, b""))
    assert done.adopt == (prologue,)
    text = {file.path: file.content.decode() for file in done.files}
    assert f"exec {prologue.aside} " in text[prologue.path]
    assert f"exec {epilogue.aside} " in text[epilogue.path]


def test_every_file_is_known_for_ours_and_safe_for_pbs_mom(host: Host) -> None:
    for file in host.wanted.files:
        if file.path.name not in COPIED:
            assert is_ours(file.content)
        assert not file.mode & (stat.S_IWGRP | stat.S_IWOTH)
    assert os.access(host.site.mom / "prologue", os.X_OK)
