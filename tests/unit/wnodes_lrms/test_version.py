"""wnodes_lrms/version.py, as the programs say it; and what a shell completes."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
PROGRAMS = Path(sys.executable).parent


@pytest.mark.parametrize("program", ["wnodes", "wnodes-bait", "wnodes-bridge"])
def test_a_program_says_its_version(program: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    argv = [str(PROGRAMS / program), "--version"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == f"{program} {version}\n"


def test_a_shell_can_complete_a_command() -> None:
    asks = {"_WNODES_COMPLETE": "complete_bash", "COMP_WORDS": "wnodes im", "COMP_CWORD": "1"}
    argv = [str(PROGRAMS / "wnodes")]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | asks, check=True)
    assert done.stdout == "image\n"
