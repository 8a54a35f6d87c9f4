"""What the user declares, and what a machine is told about itself."""

import os
from pathlib import Path

import pytest

import payload
from requeue import NoVmError, Slurm


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, []),
        ("", []),
        (" , ,", []),
        ("a", ["a"]),
        ("a, b/c ,d e", ["a", "b/c", "d e"]),
        ("a..b/..c/d..", ["a..b/..c/d.."]),
        ("-rf,--help", ["-rf", "--help"]),
    ],
)
def test_declared_files(
    monkeypatch: pytest.MonkeyPatch, text: str | None, names: list[str]
) -> None:
    monkeypatch.delenv("WNODES_STAGE_IN", raising=False)
    if text is not None:
        monkeypatch.setenv("WNODES_STAGE_IN", text)
    assert payload.declared("WNODES_STAGE_IN") == names


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "..", "../x", "a/../../x", "a/..", "ok,../x", " /etc/passwd"]
)
def test_files_elsewhere_are_refused_for_good(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("WNODES_STAGE_OUT", name)
    with pytest.raises(NoVmError, match=r"WNODES_STAGE_OUT.*below") as caught:
        payload.declared("WNODES_STAGE_OUT")
    assert not caught.value.retry


@pytest.mark.parametrize(
    ("folder", "shares", "is_below"),
    [
        ("/home", ["/home"], True),
        ("/home/alice/x", ["/data", "/home"], True),
        ("/home/alice", ["/home/"], True),
        ("/homework", ["/home"], False),
        ("/", ["/home"], False),
        ("/data", [], False),
        ("/anything", ["/"], True),
    ],
)
def test_below(folder: str, shares: list[str], is_below: bool) -> None:
    assert payload.below(folder, shares) is is_below


def test_what_a_machine_is_told_about_itself() -> None:
    job = Slurm("7", "hv1")
    said = payload.features(job, {"cores": 2, "memory": 384, "shutdown": None})
    assert said == {
        "machinefeatures/total_cpu": "2\n",
        "jobfeatures/allocated_cpu": "2\n",
        "jobfeatures/job_id": "7\n",
        "jobfeatures/jobstart_secs": f"{payload.STARTED}\n",
        "jobfeatures/max_rss_bytes": "402653184\n",
    }
    drained = payload.features(job, {"cores": 2, "memory": 384, "shutdown": 1800000000.7})
    assert {name: drained[name] for name in drained.keys() - said.keys()} == {
        "machinefeatures/shutdowntime": "1800000000\n",
        "jobfeatures/shutdowntime_job": "1800000000\n",
    }
    # A bait of an earlier version says less.
    assert set(payload.features(job, {})) == {"jobfeatures/job_id", "jobfeatures/jobstart_secs"}


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("#!/usr/bin/perl\n", ["/usr/bin/perl"]),
        ("#! \t/usr/bin/env  python3 -u \necho\n", ["/usr/bin/env", "python3 -u"]),
        ("#!/bin/sh\r\n", ["/bin/sh\r"]),  # as on the node
        ("#!/bin/sh", ["/bin/sh"]),
        ("#!\n", ["/bin/sh"]),
        ("echo #!/bin/x\n", ["/bin/sh"]),
        ("", ["/bin/sh"]),
    ],
)
def test_a_script_is_run_by_its_own_first_line_where_the_batch_system_says_no_other(
    tmp_path: Path, text: str, command: list[str]
) -> None:
    script = tmp_path / "script"
    script.write_text(text, newline="")
    argv, files = payload.read("script", ["", str(script), "a  b"])
    assert argv == [*command, "/run/wnodes/job/script", "a  b"]
    assert files == {"script": text.encode()}


@pytest.mark.parametrize(
    ("text", "interpreter"), [("#!/usr/bin/perl\n", ""), ("echo\n", "/bin/bash"), ("", "/bin/bash")]
)
def test_a_spooled_script_is_named_on_the_standard_input(
    tmp_path: Path, text: str, interpreter: str
) -> None:
    script = tmp_path / "12[3].SC"
    script.write_text(text)
    reading, writing = os.pipe()
    named = str(script).replace("[", "\\[").replace("]", "\\]")
    os.write(writing, f"{named}\nthe next line\n".encode())
    kept = os.dup(0)
    os.dup2(reading, 0)
    try:
        assert payload.spooled("/bin/bash") == [interpreter, str(script)]
        assert os.read(0, 100) == b"the next line\n"
    finally:
        os.dup2(kept, 0)
        for each in (reading, writing, kept):
            os.close(each)
