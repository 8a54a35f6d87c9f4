"""What each batch system was seen to say: the `recorded.py` of all that are in the table."""

from collections.abc import Iterator
from importlib import import_module

from tests.unit.wnodes_lrms.lrms.behaviour import Recorded
from wnodes_lrms.lrms.systems import SYSTEMS


def _all() -> Iterator[Recorded]:
    for name in SYSTEMS:
        found = import_module(f"tests.unit.wnodes_lrms.lrms.{name}.recorded").RECORDED
        yield from found if isinstance(found, tuple) else (found,)


# By name and version, as `slurm-22.05`.
RECORDED = {recorded.version: recorded for recorded in _all()}


def system(version: str) -> str:
    """The name in the table of what was recorded."""
    return version.partition("-")[0]
