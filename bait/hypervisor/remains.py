"""What a reboot of the node leaves of our VMs in libvirt's own folders, which nobody else removes.

libvirt has two folders for a domain that runs: its sockets and the key of its secrets, and its
channels to the guest. They go when libvirt sees the domain end (qemuProcessStop). Which domains run
it knows from /run alone, so after a reboot it knows nothing of them. (libvirt 9.7 and newer have
the channels in /run, too.)
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

STATE = Path("/var/lib/libvirt")  # of qemu:///system
RUN = Path("/run/libvirt/qemu")
_FOLDERS = ("qemu", "qemu/channel/target")
_SHORT = 20  # characters that libvirt takes of a domain's name (virDomainDefGetShortName)

log = logging.getLogger(__name__)


def sweep(
    cluster: str,
    running: Callable[[], Collection[tuple[int, str]]],
    state: Path = STATE,
    run: Path = RUN,
) -> None:
    """Remove the folders of a cluster's domains that do not run.

    `running` says the numbers and names of all domains that do. It is asked when the folders have
    been listed, since libvirt numbers a domain before it makes its folders. A process that libvirt
    has lost sight of has its pid file still. Raises OSError for a folder that can't be read.
    """
    begin = re.escape(f"wnodes-{cluster}-"[:_SHORT])
    name = re.compile(rf"domain-[0-9]+-(?P<short>{begin}[A-Za-z0-9._-]*)")
    with ExitStack() as stack:
        found = [
            (path, folder, match)
            for path, folder in _opened(state, stack)
            for entry in os.scandir(folder)
            if (match := name.fullmatch(entry.name))
        ]
        if not found:
            return
        alive = {f"domain-{number}-{whole[:_SHORT]}" for number, whole in running()}
        for path, folder, match in found:
            if match[0] not in alive and not any(run.glob(f"{match['short']}*.pid")):
                _remove(path / match[0], folder)


def _opened(state: Path, stack: ExitStack) -> Iterator[tuple[Path, int]]:
    """The folders that are there, opened. They are of QEMU's user: no link is followed."""
    for inside in _FOLDERS:
        at = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, at)
        try:
            for part in inside.split("/"):
                at = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                stack.callback(os.close, at)
        except FileNotFoundError:
            continue
        yield state / inside, at


def _remove(path: Path, folder: int) -> None:
    try:
        shutil.rmtree(path.name, dir_fd=folder)  # which follows no link, either
    except OSError as error:
        log.warning("what libvirt has left of a VM that is gone stays: %s: %s", path, error)
    else:
        log.info("removed what libvirt had left of a VM that is gone: %s", path)
