"""tests/vm/charging.py: what sacct says of a job's steps."""

from tests.vm.charging import Use, record

# Of Slurm 24.11.
_SAID = """7|2026-11-28T00:30:19|01:10.500|
7.batch|2026-11-28T00:30:19|00:00.500|5120K
7.extern|2026-11-28T00:30:19|1-00:01:10|158.5M
"""


def test_each_step_has_its_own_use() -> None:
    steps = record(_SAID)
    assert steps is not None
    assert steps["extern"] == Use(cpu=86470.0, memory=158.5)
    assert steps["batch"] == Use(cpu=0.5, memory=5.0)
    assert steps[""] == Use(cpu=70.5, memory=0.0)


def test_a_record_is_complete_when_all_steps_have_ended() -> None:
    assert record("") is None
    assert record(_SAID.replace("extern|2026-11-28T00:30:19", "extern|Unknown")) is None
