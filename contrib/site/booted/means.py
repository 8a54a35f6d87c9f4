"""Whether a container can be booted on this machine."""

import shutil
from pathlib import Path

from ..box.errors import SiteError
from ..box.process import run
from .machine import ENVIRONMENT, NAMESPACES, Machine

TOOLS = {  # and their packages
    "mmdebstrap": "mmdebstrap",
    "slirp4netns": "slirp4netns",
    "systemd-nspawn": "systemd-container",
}
TRIAL = Path(__file__).with_name("trial")
_LONG = 120  # seconds for what takes less than one, on the busiest of machines


class NoMeansError(SiteError):
    """This machine lacks what a container takes."""


def require(machine: Machine) -> None:
    """Raises NoMeansError unless there are the programs, devices and rights that it takes.

    It must be down.
    Rights are tried, with a container that lives for a moment: nobody can list them.
    """
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        raise NoMeansError("a container needs more here", f"apt-get install {' '.join(missing)}")
    if not Path("/dev/net/tun").exists():
        raise NoMeansError("a container's network needs /dev/net/tun", "load the module tun")
    machine.clear()
    layer = machine.place.layer(kept=False)
    layer.mkdir(parents=True)
    try:
        run([*NAMESPACES, str(TRIAL), str(layer), machine.group], ENVIRONMENT, timeout=_LONG)
    except SiteError as error:
        said = str(error).partition(" failed: ")[2] or str(error)
        raise NoMeansError(
            f"no container can be booted here: {'; '.join(said.splitlines())}",
            "run it outside containers, or in one with all capabilities (--privileged)",
        ) from error
    finally:
        machine.clear()
