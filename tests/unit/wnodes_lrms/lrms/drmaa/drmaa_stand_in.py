"""A DRMAA worker whose session is none of an LRMS: jobs are files in DRMAA_LIBRARY_PATH.

    drmaa_stand_in.py USER

Behaves as slurm-drmaa and Grid Engine's library were seen to: see the answers of each below. The
file `fault` there makes the next call fail once: an exception's name and text, `crash`, `hang`, or
`late crash`, which is after the job was submitted.
"""

import json
import os
import resource
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["DRMAA_LIBRARY_PATH"])


class Session:
    TIMEOUT_NO_WAIT = 0
    name = FOLDER / "drms"
    drmsInfo = name.read_text() if name.exists() else "SLURM 22.05.8"  # noqa: N815 (its names)
    drmaaImplementation = "DRMAA for Slurm 1.1.4"  # noqa: N815

    def initialize(self) -> None:
        print("the library says hello")  # as libraries do, on standard output
        (FOLDER / "sessions").open("a").write(f"{os.getpid()} {os.geteuid()}\n")

    def exit(self) -> None:
        (FOLDER / "exits").open("a").write(f"{os.getpid()}\n")

    def createJobTemplate(self) -> types.SimpleNamespace:  # noqa: N802
        return types.SimpleNamespace()

    def deleteJobTemplate(self, template: object) -> None:  # noqa: N802
        pass

    def runJob(self, template: types.SimpleNamespace) -> str:  # noqa: N802
        late = meet_fault()
        form = FOLDER / "form"
        written = form.read_text() if form.exists() else "{}"
        job = written.format(len(list(FOLDER.glob("*.job"))) + 1)
        (FOLDER / f"{job}.job").write_text(json.dumps(vars(template)))
        (FOLDER / f"{job}.state").write_text("queued_active")
        if late:
            crash()
        return job

    def jobStatus(self, job: str) -> str:  # noqa: N802
        meet_fault()
        try:
            return (FOLDER / f"{job}.state").read_text()
        except FileNotFoundError:
            raise errors.InvalidJobException("code 18: no such job") from None

    def control(self, job: str, action: str) -> None:
        meet_fault()
        if self.jobStatus(job) in ("done", "failed"):
            raise errors.InternalException("code 1: Job/step already completing or completed")
        assert action == "terminate"
        (FOLDER / f"{job}.state").write_text("failed")

    def wait(self, job: str, timeout: int) -> None:
        assert timeout == self.TIMEOUT_NO_WAIT
        (FOLDER / "reaped").open("a").write(f"{job}\n")


def meet_fault() -> bool:
    """Do what the file asks for; whether a crash is to come later."""
    file = FOLDER / "fault"
    if not file.exists():
        return False
    fault = file.read_text()
    file.unlink()
    if fault == "crash":
        crash()
    if fault == "hang":
        time.sleep(60)
    if fault != "late crash":
        name, _, text = fault.partition(": ")
        raise getattr(errors, name)(text)
    return True


def crash() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


stand_in: Any = types.ModuleType("drmaa.session")
stand_in.Session, stand_in.JobInfo, stand_in.JobTemplate = Session, None, None
sys.modules["drmaa.session"] = stand_in

from drmaa import errors  # noqa: E402

from wnodes_lrms.lrms.drmaa import worker  # noqa: E402

worker._IDLE = float(os.environ.get("SGE_IDLE", "600"))  # type: ignore[assignment]
worker.main(sys.argv[1])
