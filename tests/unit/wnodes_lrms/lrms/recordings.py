"""What each batch system was seen to say: the `recorded.py` of all that are in the table."""

from importlib import import_module

from tests.unit.wnodes_lrms.lrms.behaviour import Recorded
from wnodes_lrms.lrms.systems import SYSTEMS

RECORDED: dict[str, Recorded] = {
    name: import_module(f"tests.unit.wnodes_lrms.lrms.{name}.recorded").RECORDED for name in SYSTEMS
}
