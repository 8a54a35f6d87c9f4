"""`container SUITE up`, `run`, `reboot`, `with`, `down`."""

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..box.errors import SiteError
from ..box.report import step
from . import means, root
from .machine import Machine
from .place import SUITES, Place, place


def main() -> int:
    """Do what the command line says; the exit code, for `run` and `with` the command's."""
    parser = argparse.ArgumentParser(
        prog="container",
        description="A Debian in a container, with systemd as its first process, Slurm and MariaDB"
        " as packaged, and this repository's files. All of it is in one folder,"
        " $WNODES_CONTAINER-SUITE (/var/lib/wnodes-container-SUITE). Its files are made once and"
        " kept; what is changed in them goes with the container.",
    )
    parser.add_argument("suite", choices=SUITES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    kept = argparse.ArgumentParser(add_help=False)
    kept.add_argument(
        "--keep", action="store_true", help="with the files as the last `--keep` has left them"
    )
    commands.add_parser("root", help="make its files, if they are not there yet")
    commands.add_parser("up", parents=[kept], help="boot it, unless it is up")
    for name, text in (
        ("run", "run a command in it, as root"),
        ("with", "boot it, run a command in it, take it down whatever happens"),
    ):
        command = commands.add_parser(name, parents=[kept] if name == "with" else [], help=text)
        command.add_argument("argv", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    commands.add_parser("reboot", help="reboot it, and wait until it is up again")
    down = commands.add_parser("down", help="take it down")
    down.add_argument("--purge", action="store_true", help="remove its kept files too")
    arguments = parser.parse_args()
    try:
        if os.geteuid() != 0:
            raise SiteError("a container needs root", "run it as root, or with sudo")
        return _do(arguments, place(arguments.suite))
    except SiteError as error:
        print(f"\ncontainer: {error.text()}", file=sys.stderr)
        return 1


def _do(arguments: argparse.Namespace, where: Place) -> int:
    machine = Machine(where)
    match arguments.command:
        case "root":
            with locked(where):
                make(machine)
        case "up":
            with locked(where):
                up(machine, kept=arguments.keep)
        case "run":
            return machine.run(arguments.argv)
        case "with":
            with locked(where):
                machine.down()
                try:
                    up(machine, kept=arguments.keep)
                    return machine.run(arguments.argv)
                finally:
                    machine.down()
        case "reboot":
            with step("reboot"):
                machine.reboot()
        case "down":
            with locked(where):
                with step("down"):
                    machine.down()
                if arguments.purge:
                    shutil.rmtree(where.folder)
    return 0


def make(machine: Machine) -> None:
    """The root, if it is not there yet; that of one that is up stays. Raises SiteError."""
    if machine.is_up():
        return
    means.require(machine)
    with step(f"files of {machine.place.suite}"):
        root.make(machine.place)


def up(machine: Machine, *, kept: bool) -> None:
    """Boot it, with the repository's files as they are now. Raises SiteError."""
    make(machine)
    with step("boot"):
        machine.boot(kept=kept)
    with step("this repository's files"):
        machine.copy_sources()


@contextmanager
def locked(where: Place) -> Iterator[None]:
    """Only one that changes it at a time. Raises SiteError if there is another."""
    where.folder.mkdir(parents=True, exist_ok=True)
    with (where.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SiteError(f"another command works on {where.folder}", "wait for it") from None
        yield
