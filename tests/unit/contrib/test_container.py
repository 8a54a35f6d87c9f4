"""A container has its files from where the machine has its own; whether it boots is tried first."""

import subprocess
import sys
from pathlib import Path

import pytest

from contrib.site.booted import main
from contrib.site.booted.machine import KEEPER, Machine
from contrib.site.booted.place import Place
from contrib.site.booted.root import sources
from tests.install.__main__ import prepared_recipe
from tests.unit.conftest import needs_root

ROOT = Path(__file__).parents[3]


def test_another_debian_comes_from_where_this_one_does() -> None:
    said = (
        "http://mirror.example/debian/ bookworm-updates\n"
        "http://mirror.example/sec/ bookworm-security\n"
        "http://mirror.example/debian/ bookworm\nhttp://mirror.example/debian/ sid\n"
    )
    assert sources(said, "bookworm", "trixie") == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/sec trixie-security main",
    ]


def test_a_machine_that_is_no_debian_has_it_from_debians_own() -> None:
    for own in ("", "noble"):
        assert sources("", own, "bookworm") == [
            "deb http://deb.debian.org/debian bookworm main",
            "deb http://deb.debian.org/debian bookworm-updates main",
            "deb http://deb.debian.org/debian-security bookworm-security main",
        ]


def test_the_files_of_a_container_that_is_up_stay(tmp_path: Path) -> None:
    where = Place("bookworm", tmp_path)
    for folder in (where.root, where.log):
        folder.mkdir()
    where.recipe.write_text("of an earlier version")
    machine = Machine(where)
    machine.processes.start(KEEPER, ["sleep", "600"], {})
    try:
        main.make(machine)
    finally:
        machine.processes.stop(KEEPER)
    assert where.root.is_dir()
    assert where.recipe.read_text() == "of an earlier version"


def test_what_was_installed_in_a_root_is_not_believed_to_be_in_a_new_one(tmp_path: Path) -> None:
    where = Place("trixie", tmp_path)
    where.recipe.write_text("one")
    first = prepared_recipe(where)
    assert prepared_recipe(where) == first
    where.recipe.write_text("another")
    assert prepared_recipe(where) != first


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


@needs_root
@pytest.mark.integration
def test_a_machine_that_can_not_boot_one_says_so_in_a_line(tmp_path: Path) -> None:
    done = install_test(tmp_path, "--if-possible")
    assert done.stdout.startswith("install-test: left out: ")
    assert len(done.stdout.splitlines()) == 1
    assert done.returncode == 0
    assert {path.name for path in (tmp_path / "c-bookworm").iterdir()} == {"lock", "state.json"}


@needs_root
@pytest.mark.integration
def test_who_asks_for_it_is_not_told_that_all_is_well(tmp_path: Path) -> None:
    done = install_test(tmp_path)
    assert done.stdout.startswith("install-test: ")
    assert "left out" not in done.stdout
    assert done.returncode == 1
