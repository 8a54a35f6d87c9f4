"""The batch systems that a site in a box can have, and the one that this site has."""

from collections.abc import Mapping

from contrib.site.box import batch
from contrib.site.box.layout import Memory, layout
from tests.e2e.lrms.gridengine import GridEngine
from tests.e2e.lrms.interface import System
from tests.e2e.lrms.slurm import Slurm

SYSTEMS: Mapping[str, System] = {"slurm": Slurm(), "gridengine": GridEngine()}
NAME = batch.name(Memory(layout().root / "state.json"))
LRMS = SYSTEMS[NAME]
