"""The install test of one Debian: `python -m tests.install bookworm`, or trixie.

Each stage takes what the last one has left; the first that fails ends it, with what was said, and
the container is taken down in any case. The figures are the seconds of each stage.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from contrib.site.booted import root
from contrib.site.booted.machine import Machine
from contrib.site.booted.place import place
from contrib.site.box.errors import SiteError
from tests.install import remains
from tests.install.inside import FailedError, Inside
from tests.install.stages import PACKAGES, Stages, needs, needs_recipe

TARGETS = {"bookworm": "debian12", "trixie": "debian13"}  # as `make packages` calls them
BUILT = Path(__file__).parents[2] / "build" / "packages"


def main(suite: str) -> int:
    """Run all stages; the exit code."""
    machine = Machine(place(suite))
    inside = Inside(machine)
    figures: dict[str, float] = {}
    code = 1
    machine.down()
    try:
        timed(figures, "root", lambda: root.make(machine.place))
        timed(figures, "packages of Debian", lambda: prepare(machine, suite))
        timed(figures, "boot", lambda: start(machine, suite))
        run(Stages(inside), figures)
        code = 0
    except (FailedError, SiteError) as error:
        print(f"\ninstall-test: {error.text() if isinstance(error, SiteError) else error}")
        print(machine.output("journalctl", "--no-pager", "--lines=60", "--unit=wnodes-*"))
    finally:
        machine.down()
    print(f"install-test on {suite}: " + ", ".join(f"{k} {v:.0f} s" for k, v in figures.items()))
    return code


def run(stages: Stages, figures: dict[str, float]) -> None:
    """All of it, in order. Raises FailedError."""
    timed(figures, "site", stages.site)
    before = remains.look(stages.inside)
    for name, stage in stages.all():
        timed(figures, name, stage)
    left = remains.look(stages.inside).left(before)
    if left:
        raise FailedError("the removal is not complete:\n" + "\n".join(left))


def prepare(machine: Machine, suite: str) -> None:
    """Install what the documentation takes from Debian; kept for the next time.

    Raises FailedError, SiteError.
    """
    done, recipe = machine.place.folder / "prepared", needs_recipe(suite)
    if done.exists() and done.read_text() == recipe:
        return
    done.unlink(missing_ok=True)
    machine.forget()
    machine.boot(kept=True)
    machine.copy_sources()
    needs(Inside(machine), suite)
    machine.down()
    done.write_text(recipe)


def start(machine: Machine, suite: str) -> None:
    """Boot it, with the sources and the packages of ours. Raises SiteError."""
    machine.boot(kept=False)
    machine.copy_sources()
    built = sorted((BUILT / TARGETS[suite]).glob("*.deb"))
    if not built:
        raise SiteError("our packages are not built", f"make packages TARGETS={TARGETS[suite]}")
    Inside(machine).put(
        {f"{PACKAGES}/{path.name}".lstrip("/"): (path.read_bytes(), 0o644) for path in built}
    )


def timed(figures: dict[str, float], name: str, stage: Callable[[], None]) -> None:
    """Run a stage, say that it is done, and note its seconds."""
    print(f"  {name} ".ljust(44, "."), end=" ", flush=True)
    began = time.monotonic()
    try:
        stage()
    finally:
        figures[name] = time.monotonic() - began
    print(f"{figures[name]:5.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
