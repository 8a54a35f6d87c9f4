"""The site in a box, as the measurements use it."""

import os
import pwd
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from wnodes_lrms.config import load as configuration

USER = "griduser"
IMAGE = "small_debian_x86_64"
NODE = "hv1"
SLURM_CONF = Path(os.environ["SLURM_CONF"])
CONFIG = configuration.load(configuration.path_in_use(), NODE)
HOOKS = Path(CONFIG.hooks.folder)
HOME = Path(pwd.getpwnam(USER).pw_dir)


def sh(*argv: str) -> str:
    """Standard output of a command that must succeed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout


def wait_until(true: Callable[[], object], seconds: float) -> None:
    """Look twenty times a second; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)
