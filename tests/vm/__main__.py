"""The test in a VM: `python -m tests.vm trixie`, or bookworm.

Each stage takes what the last one has left; the first that fails ends it, with what was said, and
container and VM are taken down in any case. The figures are the seconds of each stage.
With `--again` nothing is made or booted: it goes on with the stage that failed last time, in a VM
that is as it was before that.
"""

import argparse
import sys

from contrib.site.booted import means, root
from contrib.site.booted.machine import Machine
from contrib.site.booted.main import locked
from contrib.site.booted.place import place
from contrib.site.box.errors import SiteError
from contrib.site.vm.guest import Guest
from tests.install.__main__ import TARGETS, Figures, build, prepare, timed
from tests.install.inside import FailedError, Inside
from tests.vm import site
from tests.vm.stages import VmStages

PATIENCE = 10  # emulated, on a machine that has more to do, it is that much slower
PAUSE = 15.0  # seconds between two looks: each takes CPU that what is waited for needs
# What tells most, if a VM does not come up.
SAID = """
journalctl --no-pager --lines=60 --unit='wnodes-*'
virsh list --all
tail --lines=30 /var/lib/wnodes/*/machines/*/console.log /var/log/libvirt/qemu/*.log
"""


def main() -> int:
    """Run all stages; the exit code."""
    parser = argparse.ArgumentParser(prog="vm-test")
    parser.add_argument("suite", choices=TARGETS)
    parser.add_argument("--again", action="store_true")
    asked = parser.parse_args()
    machine = Machine(place(asked.suite))
    try:
        with locked(machine.place):
            machine.down()
            if not asked.again:
                means.require(machine)
            return test(machine, asked.suite, again=asked.again)
    except SiteError as error:
        print(f"vm-test: {error.text()}")
        return 1


def test(machine: Machine, suite: str, *, again: bool) -> int:
    """Make or take the VM, and look at it; the exit code."""
    guest = Guest(machine.place)
    guest.down()
    figures: Figures = {}
    code = 1
    try:
        if again:
            timed(figures, "as it was", guest.resume)
        else:
            make(machine, suite, guest, figures)
        look(guest, figures)
        code = 0
    except (FailedError, SiteError) as error:
        print(f"\nvm-test: {error.text() if isinstance(error, SiteError) else error}")
        print(guest.output("sh", "-c", SAID))
    finally:
        guest.down()
        machine.down()
    print(f"vm-test on {suite}: " + ", ".join(f"{k} {v:.0f} s" for k, v in figures.items()))
    return code


def make(machine: Machine, suite: str, guest: Guest, figures: Figures) -> None:
    """A new VM, up. Raises FailedError, SiteError."""
    timed(figures, "our packages", lambda: build(suite))
    timed(figures, "root", lambda: root.make(machine.place))
    timed(figures, "packages of Debian", lambda: prepare(machine, suite))
    timed(figures, "site, in the container", lambda: site.make(machine, suite, guest.folder))
    timed(figures, "boot", guest.boot)


def look(guest: Guest, figures: Figures) -> None:
    """All stages that were not passed in this VM. Raises FailedError, SiteError."""
    stages = VmStages(Inside(guest, PATIENCE, PAUSE), guest.memory)
    for name, stage in stages.all():
        if name in stages.passed():
            continue
        guest.save()
        timed(figures, name, stage)
        stages.passes(name)


if __name__ == "__main__":
    sys.exit(main())
