"""The test in a VM: `python -m tests.vm trixie`, or bookworm.

Each stage takes what the last one has left; the first that fails ends it, with what was said, and
container and VM are taken down in any case.
"""

import sys

from contrib.site.booted import root
from contrib.site.booted.machine import Machine
from contrib.site.booted.place import place
from contrib.site.box.errors import SiteError
from contrib.site.vm.guest import Guest
from tests.install.__main__ import prepare, timed
from tests.install.inside import FailedError, Inside
from tests.vm import site
from tests.vm.stages import VmStages

PATIENCE = 10  # emulated, it is that much slower


def main(suite: str) -> int:
    """Run all stages; the exit code."""
    machine = Machine(place(suite))
    guest = Guest(machine.place)
    inside = Inside(guest, PATIENCE)
    figures: dict[str, float] = {}
    code = 1
    guest.down()
    machine.down()
    try:
        timed(figures, "root", lambda: root.make(machine.place))
        timed(figures, "packages of Debian", lambda: prepare(machine, suite))
        timed(figures, "site, in the container", lambda: site.make(machine, suite, guest.folder))
        timed(figures, "boot", guest.boot)
        for name, stage in VmStages(inside).all():
            timed(figures, name, stage)
        code = 0
    except (FailedError, SiteError) as error:
        print(f"\nvm-test: {error.text() if isinstance(error, SiteError) else error}")
        print(guest.output("journalctl", "--no-pager", "--lines=60", "--unit=wnodes-*"))
    finally:
        guest.down()
        machine.down()
    print(f"vm-test on {suite}: " + ", ".join(f"{k} {v:.0f} s" for k, v in figures.items()))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
