"""Torque's submit filter: what it refuses, and that it changes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

import submitfilter
from submitfilter import directives, options, refusal

TAGS = {"small_linux_x86_64", "big_linux_x86_64"}
SMALL = "small_linux_x86_64"


def said(*words: str, environment: str = "") -> str | None:
    return refusal(options(list(words)), TAGS, environment)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["job.sh"],
        ["-l", "nodes=2:ppn=4,mem=1gb", "job.sh"],
        ["-v", "WNODES_IMAGES=x,A=WNODES_IMAGE", "job.sh"],
        ["-l", f"nodes=1:wnodes:ppn=2,other=vm:{SMALL}"],
        ["-l", f"other=vm:{SMALL}", "-l", "nodes=node7:ppn=2"],
        ["-v", f"A=1,WNODES_IMAGE={SMALL},B=2", "-F", "-l vm=x", "job.sh"],
        ["-I", "-l", "mem=1gb"],
        ["-l", "pvmem=1gb"],
        ["--unknown-to-qsub"],
    ],
)
def test_what_passes(words: list[str]) -> None:
    assert said(*words) is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-v", "WNODES_IMAGE=nope_x_y", "job.sh"], "no image «nope_x_y»"),
        (["job.sh", "-l", "mem=1gb,other=vm:nope_x_y"], "no image «nope_x_y»"),
        (["-v", "WNODES_IMAGE=", "job.sh"], "no image «»"),
        (["-l", f"vm={SMALL}", "job.sh"], f"give -l other=vm:{SMALL}"),
        (["-l", f"other=VM:{SMALL}"], "asks for no image"),
        (["-l", f"mem=1gb,other=vm={SMALL}"], "asks for no image"),
        (["-l", f"other= vm:{SMALL}"], "asks for no image"),
        (["-I", "-l", f"other=vm:{SMALL}"], "interactive"),
        (["-l", f"nodes=2,other=vm:{SMALL}"], "exactly one node"),
        (["-l", "nodes=a+b", "-v", f"WNODES_IMAGE={SMALL}"], "exactly one node"),
    ],
)
def test_what_is_refused(words: list[str], reason: str) -> None:
    assert reason in (said(*words) or "")


def test_the_environment_counts_only_where_qsub_takes_it() -> None:
    assert said("job.sh", environment="nope_x_y") is None
    assert "nope_x_y" in (said("-V", "job.sh", environment="nope_x_y") or "")
    assert "nope_x_y" in (said("-v", "A,WNODES_IMAGE", environment="nope_x_y") or "")


def test_directives_end_before_the_first_command() -> None:
    script = "#!/bin/sh\n#PBS -l mem=1gb\n# words\n\n#PBS -v A=1\necho\n#PBS -l vm=x\n"
    assert directives(script) == ["-l", "mem=1gb", "-v", "A=1"]


def run(tmp_path: Path, script: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    tags = tmp_path / "tags"
    tags.write_text("# wnodes-lrms: tags\n" + "".join(f"{tag}\n" for tag in sorted(TAGS)))
    argv = [sys.executable, "-I", "-S", submitfilter.__file__, str(tags), *words]
    return subprocess.run(argv, input=script, capture_output=True, check=False)


def test_the_script_passes_as_it_is(tmp_path: Path) -> None:
    script = b"#!/bin/sh\n#PBS -l mem=1gb\necho \xff\x00 end"
    done = run(tmp_path, script, "-v", f"WNODES_IMAGE={SMALL}", "job.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, script, b"")


def test_a_refused_script_does_not_pass(tmp_path: Path) -> None:
    done = run(tmp_path, b"#!/bin/sh\n#PBS -l other=vm:nope_x_y\n", "job.sh")
    assert (done.returncode, done.stdout) == (submitfilter.REFUSED, b"")
    assert done.stderr.decode() == (
        "wnodes: there is no image «nope_x_y»: these are known: big_linux_x86_64,"
        " small_linux_x86_64\n"
    )
