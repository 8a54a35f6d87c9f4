"""What the install test does when things go wrong: it says so, and waits for nothing in vain."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.install.inside import FailedError, Inside
from tests.install.stages import is_stuck, job_state

DATA = Path(__file__).parents[1] / "data"
HELD = "JobId=7 JobName=wrap\n   JobState=PENDING Reason=launch_failed_requeued_held Nodes=\n"


class Here:
    """This machine in the place of a container."""

    def command(self, argv: Sequence[str]) -> list[str]:
        return list(argv)

    def unpack(self, packed: bytes, folder: str) -> None:  # noqa: ARG002 (see Host)
        raise AssertionError

    def reboot(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("version", ["slurm-22.05", "slurm-24.11"])
@pytest.mark.parametrize(
    ("name", "state", "stuck"),
    [("plain", "RUNNING", False), ("suspended", "SUSPENDED", False), ("pending", "PENDING", True)],
)
def test_what_slurm_says_of_a_job(version: str, name: str, state: str, stuck: bool) -> None:
    """The one that is pending was held by its user."""
    said = (DATA / version / f"{name}.scontrol").read_text()
    assert job_state(said) == state
    assert is_stuck(said) is stuck


@pytest.mark.parametrize(
    ("said", "stuck"),
    [
        (HELD, True),
        (HELD.replace("launch_failed_requeued_held", "JobHeldAdmin"), True),
        (HELD.replace("launch_failed_requeued_held", "Resources"), False),
        (HELD.replace("launch_failed_requeued_held", "BeginTime"), False),
        (HELD.replace("PENDING", "NODE_FAIL"), True),
        ("", False),
    ],
)
def test_a_job_that_stays_as_it_is(said: str, stuck: bool) -> None:
    assert is_stuck(said) is stuck


def test_a_command_fails_with_what_it_said_and_its_exit_code() -> None:
    with pytest.raises(FailedError, match="exit code 7 of\necho no; exit 7\nno\n") as error:
        Inside(Here()).shell("echo no; exit 7")
    assert error.value.code == 7


def test_nothing_is_waited_for_that_never_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([False, False, True])
    pauses: list[float] = []
    monkeypatch.setattr("tests.install.inside.time.sleep", pauses.append)
    Inside(Here(), pause=0.6).until("it is so", lambda: next(looks))
    assert pauses == [0.5, 0.6]

    def never() -> bool:
        raise FailedError("it never will")

    with pytest.raises(FailedError, match="it never will"):
        Inside(Here()).until("it is so", never)
    with pytest.raises(FailedError, match="after 0 s not yet: it is so"):
        Inside(Here()).until("it is so", lambda: False, seconds=0)
