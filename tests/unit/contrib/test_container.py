"""Whether a container can be booted is found out before anything is made for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.conftest import needs_root

pytestmark = [pytest.mark.integration, needs_root]
ROOT = Path(__file__).parents[3]


def install_test(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The install test on a machine that lacks the right to mount."""
    without = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    return subprocess.run(
        [*without, sys.executable, "-m", "tests.install", "bookworm", *options],
        cwd=ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "WNODES_CONTAINER": str(folder / "c")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_machine_that_can_not_boot_one_says_so_in_a_line(tmp_path: Path) -> None:
    done = install_test(tmp_path, "--if-possible")
    assert done.stdout.startswith("install-test: left out: ")
    assert len(done.stdout.splitlines()) == 1
    assert done.returncode == 0
    assert {path.name for path in (tmp_path / "c-bookworm").iterdir()} == {"lock", "state.json"}


def test_who_asks_for_it_is_not_told_that_all_is_well(tmp_path: Path) -> None:
    done = install_test(tmp_path)
    assert done.stdout.startswith("install-test: ")
    assert "left out" not in done.stdout
    assert done.returncode == 1
