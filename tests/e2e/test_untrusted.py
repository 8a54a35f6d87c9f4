"""A machine from an image that the site does not trust sees only what is declared."""

import shutil
from pathlib import Path

from tests.e2e.box import variant
from tests.e2e.lrms.slurm import Submit


def test_declared_files_travel_and_others_do_not(submit: Submit, home: Path) -> None:
    work = home / "work"
    (work / "cards").mkdir(parents=True, exist_ok=True)
    (work / "input.dat").write_bytes(bytes(range(256)))
    (work / "cards" / "one").write_text("card\n")
    (work / "secret").write_text("stays here\n")
    for path in (work, *work.rglob("*")):
        _give(path)
    with variant("untrusted_debian_x86_64", trusted=False) as tag:
        job = submit(
            "pwd; ls; cat cards/one; mkdir out; rev input.dat >/dev/null; cp input.dat out/copy; "
            "echo not declared > other; exit 3",
            image=tag,
            folder=work,
            env={"WNODES_STAGE_IN": "input.dat,cards", "WNODES_STAGE_OUT": "out"},
        ).wait()
    assert job.exit_code == "3:0", job.error
    assert job.output.splitlines() == [str(work), "cards", "input.dat", "card"]
    assert (work / "out" / "copy").read_bytes() == bytes(range(256))
    assert (work / "out" / "copy").owner() == "griduser"
    assert not (work / "other").exists()


def test_a_missing_result_is_said(submit: Submit) -> None:
    with variant("untrusted_debian_x86_64", trusted=False) as tag:
        job = submit("true", image=tag, env={"WNODES_STAGE_OUT": "never-made"}).wait()
    assert job.exit_code == "1:0"
    assert "WNODES_STAGE_OUT" in job.error


def test_a_path_outside_the_working_directory_is_refused(submit: Submit) -> None:
    with variant("untrusted_debian_x86_64", trusted=False) as tag:
        job = submit(
            "true", "--no-requeue", image=tag, env={"WNODES_STAGE_IN": "../../etc/passwd"}
        ).wait()
    assert job.exit_code == "1:0"
    assert "../../etc/passwd" in job.error


def _give(path: Path) -> None:
    shutil.chown(path, "griduser", "griduser")
