"""A batch job of a walk, and what must become of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.faults import Fault
from tests.chaos.patience import Violation, retried
from tests.e2e.lrms.interface import Job
from tests.e2e.lrms.slurm import FINAL

if TYPE_CHECKING:
    from tests.chaos.environment import Environment

_HELD = ("job requeued in held state", "JobHeldUser", "JobHeldAdmin")


@dataclass
class BatchJob:
    """A job, and what must become of it."""

    env: "Environment"
    job: Job

    @property
    def state(self) -> str:
        """Slurm's word; HELD for a job that is held in the queue."""
        listed = self.env.queue.jobs().get(self.job.number)
        if listed and listed.reason.replace("_", " ") in _HELD:
            return "HELD"
        return listed.state if listed else ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is held."""
        return self.state in FINAL | {"HELD"}

    def over(self) -> str:
        """Wait until it is; its state then."""
        self.env.wait(lambda: self.is_over, lambda: f"job {self.job.number} ends: {self.state}")
        return self.state

    def completes(self) -> None:
        """It must have run to its end; where its starter was killed, it may have failed."""
        state, faults = self.over(), self.env.case.faults
        if state != "COMPLETED" and Fault.STARTER not in faults:
            raise Violation(
                f"job {self.job.number} is {state}, after {faults or 'no fault'}: {self.job.error}"
            )
        if state == "COMPLETED" and not self.job.output.endswith("ran\n"):
            raise Violation(f"job {self.job.number}: its output is {self.job.output!r}")
        self.cancel()
        self.env.gone(self.job.number)

    def cancel(self) -> None:
        """scancel, as its owner; one that is over is success."""
        retried(self.job.cancel)

    def cancelled(self) -> None:
        """It is over, and nothing of it is left."""
        self.cancel()
        self.over()
        self.env.gone(self.job.number)
