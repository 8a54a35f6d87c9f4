"""The twins of tests/e2e/twin.py in Grid Engine."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e import twin
from tests.e2e.conftest import IMAGE
from tests.e2e.gridengine.conftest import Job, Submit

# Grid Engine's own mark of a job's processes on the node (gid_range).
MARK = {
    "identity": twin.Differs(r"(\S+ ){6}654[0-9]{2} ", r"(\S+ ){6}", "it marks a job's processes")
}


def test_a_job_can_not_tell_its_vm_from_the_node(
    request: pytest.FixtureRequest, submit: Submit, home: Path
) -> None:
    def run(image: str | None, folder: Path) -> Job:
        job = submit(
            twin.SCRIPT,
            *("-q", "main@hv1", "-N", "twin", "-S", "/bin/bash", "-j", "y", "-t", "5-5"),
            image=image,
            env=twin.VARIABLES,
            folder=folder,
            args=twin.ARGUMENTS,
        )
        task = replace(job, task="5").wait(twin.PATIENCE)
        assert task.exit_code == twin.EXIT, task.output
        return task

    with twin.image_of(request.config) as given:
        images = {given: MARK} if given else {IMAGE: twin.LOGIN | MARK}
        twin.compare(run, home, images)
