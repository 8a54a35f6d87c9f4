"""The install test of one Debian: `python -m tests.install bookworm`, or trixie.

With `--if-possible` it is left out, with a line that says why, where no container can be booted.
With `--measure` all that comes after the first job is left out, and start and end of VMs are
measured.
Each stage takes what the last one has left; the first that fails ends it, with what was said, and
the container is taken down in any case. The figures are the seconds of each stage.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from contrib.site.booted import means, root
from contrib.site.booted.machine import Machine
from contrib.site.booted.main import locked
from contrib.site.booted.place import Place, place
from contrib.site.box.errors import SiteError
from contrib.site.box.process import run as run_command
from tests.install import remains
from tests.install.inside import FailedError, Inside
from tests.install.stages import PACKAGES, Stages, needs, needs_recipe

Figures = dict[str, float]
TARGETS = {"bookworm": "debian12", "trixie": "debian13"}  # as `make packages` calls them
_ROOT = Path(__file__).parents[2]
BUILDER, BUILT = _ROOT / "contrib/packages/build.py", _ROOT / "build/packages"


def main() -> int:
    """Run all stages, if that can be done here; the exit code."""
    parser = argparse.ArgumentParser(prog="install-test")
    parser.add_argument("suite", choices=TARGETS)
    for option in ("--if-possible", "--measure"):
        parser.add_argument(option, action="store_true")
    asked = parser.parse_args()
    machine = Machine(place(asked.suite))
    try:
        with locked(machine.place):
            machine.down()
            means.require(machine)
            return test(machine, asked.suite, measure if asked.measure else run)
    except means.NoMeansError as error:
        said = "left out: " if asked.if_possible else ""
        print(f"install-test: {said}{error} ({error.remedy})")
        return 0 if asked.if_possible else 1
    except SiteError as error:
        print(f"install-test: {error.text()}")
        return 1


def test(machine: Machine, suite: str, then: Callable[[Stages, Figures], None]) -> int:
    """Make and boot the container, and do this in it; the exit code.

    Raises SiteError if the container can't be taken down.
    """
    inside = Inside(machine)
    figures: Figures = {}
    code = 1
    try:
        timed(figures, "our packages", lambda: build(suite))
        timed(figures, "root", lambda: root.make(machine.place))
        timed(figures, "packages of Debian", lambda: prepare(machine, suite))
        timed(figures, "boot", lambda: start(machine, suite))
        then(Stages(inside), figures)
        code = 0
    except (FailedError, SiteError) as error:
        print(f"\ninstall-test: {error.text() if isinstance(error, SiteError) else error}")
        if machine.first() is not None:
            print(machine.output("journalctl", "--no-pager", "--lines=60", "--unit=wnodes-*"))
    finally:
        machine.down()
    print(f"install-test on {suite}: " + ", ".join(f"{k} {v:.0f} s" for k, v in figures.items()))
    return code


def run(stages: Stages, figures: Figures) -> None:
    """All of it, in order. Raises FailedError."""
    timed(figures, "site", stages.site)
    before = remains.look(stages.inside)
    for name, stage in stages.all():
        timed(figures, name, stage)
    left = remains.look(stages.inside).left(before)
    if left:
        raise FailedError("the removal is not complete:\n" + "\n".join(left))


def measure(stages: Stages, figures: Figures) -> None:
    """How long VMs take to start and to end under systemd, printed. Raises FailedError."""
    for name, stage in (("site", stages.site), ("install", stages.install), ("job", stages.job)):
        timed(figures, name, stage)
    timed(figures, "measuring", lambda: print("", stages.measure(), sep="\n"))


def build(suite: str) -> None:
    """Make the packages of ours. Raises SiteError."""
    run_command([sys.executable, str(BUILDER), TARGETS[suite]], timeout=root.LONG)


def prepare(machine: Machine, suite: str) -> None:
    """Install what the documentation takes from Debian; kept for the next time.

    Raises FailedError, SiteError.
    """
    done, recipe = machine.place.folder / "prepared", prepared_recipe(machine.place)
    if done.exists() and done.read_text() == recipe:
        return
    done.unlink(missing_ok=True)
    machine.forget()
    machine.boot(kept=True)
    machine.copy_sources()
    needs(Inside(machine), suite)
    machine.down()
    done.write_text(recipe)


def prepared_recipe(where: Place) -> str:
    """Follows from all that `prepare` does, and from the root: a new one has nothing of it."""
    return f"{where.recipe.read_text()}\n{needs_recipe(where.suite)}"


def start(machine: Machine, suite: str) -> None:
    """Boot it, with the sources and the packages of ours. Raises SiteError."""
    machine.boot(kept=False)
    machine.copy_sources()
    built = sorted((BUILT / TARGETS[suite]).glob("*.deb"))
    Inside(machine).put(
        {f"{PACKAGES}/{path.name}".lstrip("/"): (path.read_bytes(), 0o644) for path in built}
    )


def timed(figures: Figures, name: str, stage: Callable[[], None]) -> None:
    """Run a stage, say that it is done, and note its seconds."""
    print(f"  {name} ".ljust(44, "."), end=" ", flush=True)
    began = time.monotonic()
    try:
        stage()
    finally:
        figures[name] = time.monotonic() - began
    print(f"{figures[name]:5.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
