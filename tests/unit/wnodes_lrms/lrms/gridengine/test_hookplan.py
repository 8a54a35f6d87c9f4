"""What Grid Engine's administrator is told, and that the shells start a job as they should."""

import subprocess
from pathlib import Path

import pytest

from wnodes_lrms.config.load import Default
from wnodes_lrms.errors import RejectedError
from wnodes_lrms.lrms.gridengine.hookplan import COPIED, Facts, files, lines, take_back
from wnodes_lrms.lrms.gridengine.installation import settings
from wnodes_lrms.lrms.hookset import Site
from wnodes_lrms.policy import Policy
from wnodes_lrms.resources import sources

TAG = "small_debian_x86_64"
COMPLEXES = {
    "wnodes": ["wnodes", "wnodes", "BOOL", "==", "YES", "NO", "0", "0"],
    "vm": ["vm", "vm", "STRING", "!=", "YES", "NO", "NONE", "0"],
    "mem_free": ["mem_free", "mf", "MEMORY", "<=", "YES", "YES", "1G", "0"],
}
SITE = Site(Path("/opt/wnodes"), "/run/%n/sock", 2)
MAIN = settings((Path(__file__).parents[3] / "data/gridengine-8.1.9/main.queue").read_text())


def ours(**changes: str) -> dict[str, str]:
    """The recorded queue, with hooks of this folder and other changes."""
    hooks = {hook: f"root@{SITE.folder}/{hook}" for hook in ("prolog", "epilog")}
    return MAIN | hooks | {"starter_method": f"{SITE.folder}/starter"} | changes


def told(queue: dict[str, str], **changes: object) -> list[str]:
    facts = {"jsv_url": f"script:{SITE.folder}/jsv", "complexes": COMPLEXES, "offers": True}
    return list(lines(SITE, Facts({"all.q": queue}, **(facts | changes))))  # type: ignore[arg-type]


def test_a_site_that_has_all_is_told_nothing() -> None:
    assert told(ours()) == []
    assert told(ours(prolog=f"root@{SITE.folder}/prolog /opt/site/prolog $host")) == []


def test_a_bare_site_is_told_everything() -> None:
    said = list(lines(SITE, Facts({"all.q": ours(prolog="NONE", starter_method="none")})))
    for words in (
        "vm vm STRING != YES NO NONE 0",
        "wnodes wnodes BOOL == YES NO 0 0",
        "mem_free mf MEMORY",
        "complex_values wnodes=true,vm=none HOST",
        "qconf -mattr queue prolog 'root@/opt/wnodes/prolog' all.q",
        "qconf -mattr queue starter_method /opt/wnodes/starter all.q",
        "jsv_url script:/opt/wnodes/jsv",
    ):
        assert any(words in line for line in said), words
    assert not any("epilog" in line for line in said)


def test_a_queues_own_prolog_is_run_by_ours() -> None:
    (line,) = told(ours(prolog="root@/opt/site/prolog $host $job_id"))
    wanted = "root@/opt/wnodes/prolog /opt/site/prolog $host $job_id"
    assert line == f"qconf -mattr queue prolog '{wanted}' all.q"
    typed = take_back(SITE, Facts({"all.q": ours(prolog=wanted)}))
    assert typed[0] == "qconf -mattr queue prolog 'root@/opt/site/prolog $host $job_id' all.q"
    assert "qconf -mattr queue starter_method NONE all.q" in typed


@pytest.mark.parametrize(
    "changes",
    [{"prolog": "/opt/site/prolog"}, {"prolog": "bob@/x"}, {"starter_method": "/opt/starter"}],
)
def test_what_can_not_be_combined_is_said(changes: dict[str, str]) -> None:
    with pytest.raises(RejectedError, match=r"all\.q"):
        told(ours(**changes))


def test_another_verifier_is_said() -> None:
    with pytest.raises(RejectedError, match="/opt/jsv"):
        told(ours(), jsv_url="script:/opt/jsv")


@pytest.mark.parametrize(
    "rule",
    [{"partition": "a", "account": "b"}, {"qos": "x"}, {"partition": "a", "qos": "x"}],
)
def test_a_default_that_grid_engine_can_not_decide(rule: dict[str, str]) -> None:
    rules = Policy([TAG], [Default.model_validate({"image": TAG, **rule})])
    with pytest.raises(RejectedError, match="either partition"):
        list(files(SITE, rules, {}, sources(COPIED)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The hooks as they are written, and in place of their programs one that tells its words."""
    site = Site(tmp_path, "/run/%n/sock", 2)
    rules = Policy(
        [TAG], [Default(image=TAG, partition="a queue"), Default(image=TAG, partition="b")]
    )
    for file in files(site, rules, {}, sources(COPIED)):
        file.path.write_bytes(file.content)
        file.path.chmod(file.mode)
    told = "import os, sys\nprint(sys.argv[1:], dict(os.environ) if len(sys.argv) < 6 else '')\n"
    for name in ("hook.py", "starter.py", "lease.py"):
        (tmp_path / name).write_text(told)
    (tmp_path / "config").write_text("handle_as_binary=1\nno_shell=0\njob_name=no_shell=1\n")
    scripts = tmp_path / "job_scripts"
    scripts.mkdir()
    (scripts / "12").write_text('#!/bin/sh\necho "plain $0 $#" "$@"\n')
    (scripts / "12").chmod(0o755)
    return tmp_path


def run(folder: Path, hook: str, *arguments: str, **environment: str) -> str:
    given = {
        "PATH": "/nowhere",
        "JOB_ID": "12",
        "HOSTNAME": "hv1",
        "QUEUE": "main",
        "SGE_TASK_ID": "undefined",
        "SGE_JOB_SPOOL_DIR": str(folder),
        "SGE_STARTER_SHELL_PATH": "/bin/sh",
        "SGE_STARTER_SHELL_START_MODE": "unix_behavior",
    }
    done = subprocess.run(
        [str(folder / hook), *arguments],
        env=given | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_guard_lets_plain_jobs_pass(folder: Path) -> None:
    assert run(folder, "prolog") == ""
    assert run(folder, "epilog", "/bin/echo", "the site's own") == "the site's own"


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"WNODES_IMAGE": TAG}, "12"),
        ({"QUEUE": "a queue", "SGE_TASK_ID": "3"}, "12.3"),
        ({"QUEUE": "b"}, "12"),
    ],
)
def test_a_guard_tells_of_wishes_with_an_empty_environment(
    folder: Path, environment: dict[str, str], job: str
) -> None:
    said = run(folder, "prolog", **environment, PYTHONPATH="/x", LOCPATH="/y")
    words = f"['prepare', '/run/%n/sock', '{job}', 'hv1']"
    assert said.startswith(words)
    assert "PYTHONPATH" not in said
    assert "LOCPATH" not in said
    assert "WNODES_IMAGE" not in said
    assert run(folder, "epilog", **environment).startswith(words.replace("prepare", "release"))


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
def test_a_guard_run_by_bash_takes_no_function_from_its_environment(folder: Path) -> None:
    done = subprocess.run(
        ["/bin/bash", "-p", str(folder / "prolog")],
        env={"PATH": "/nowhere", "BASH_FUNC_[%%": "() { echo caught; }"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    assert (folder / "prolog").read_text().startswith("#!/bin/sh -p\n")


def test_plain_jobs_start_as_grid_engine_starts_them(folder: Path) -> None:
    script = str(folder / "job_scripts" / "12")
    plain = f"plain {script} 2 a  b c"
    assert run(folder, "starter", script, "a  b", "c") == plain
    posix = {"SGE_STARTER_SHELL_START_MODE": "posix_compliant"}
    assert run(folder, "starter", script, "a  b", "c", **posix) == plain
    assert run(folder, "starter", "echo $JOB_ID;", "echo", "x") == "12\nx"
    (folder / "config").write_text("no_shell=1\n")
    assert run(folder, "starter", "/bin/echo", "a  b", "$JOB_ID") == "a  b $JOB_ID"


def test_wishes_go_to_the_starter(folder: Path) -> None:
    script, wish = str(folder / "job_scripts" / "12"), {"WNODES_IMAGE": TAG}
    head = ["gridengine", "/run/%n/sock", "2", "12", "hv1"]
    assert run(folder, "starter", script, "a  b", **wish) == str(
        [*head, "script", "", script, "a  b"]
    )
    posix = {"SGE_STARTER_SHELL_START_MODE": "posix_compliant"}
    said = run(folder, "starter", script, **wish, **posix)
    assert said == str([*head, "script", "/bin/sh", script])
    said = run(folder, "starter", "echo", "$X", QUEUE="b")
    assert said == str([*head, "command", "/bin/sh", "-c", "echo $X"])
    (folder / "config").write_text("no_shell=1\n")
    assert run(folder, "starter", "/bin/echo", "$X", QUEUE="b") == str(
        [*head, "command", "/bin/echo", "$X"]
    )


def test_a_lease_runs_its_program_whatever_the_queue(folder: Path) -> None:
    said = run(folder, "starter", str(folder / "wnodes-lease"), QUEUE="b")
    assert said.startswith("['/run/%n/sock', '12', 'hv1']")


def test_all_shells_are_sound(folder: Path) -> None:
    for name in ("prolog", "epilog", "starter", "jsv", "wnodes-lease"):
        checked = subprocess.run(["shellcheck", folder / name], capture_output=True, text=True)
        assert (checked.returncode, checked.stdout) == (0, "")
