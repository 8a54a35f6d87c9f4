"""What Slurm alone has for a job."""

import pytest

from tests.e2e.lrms.slurm import Submit


@pytest.mark.parametrize("whom", ["--batch", "--full"])
def test_usr1_reaches_the_script(submit: Submit, whom: str) -> None:
    job = submit("trap 'echo got USR1; exit 5' USR1; echo up; while :; do sleep 0.2; done")
    job.says("up").signal(whom, "--signal=USR1")
    assert job.wait().end == "exit 5"
    assert "got USR1" in job.output
