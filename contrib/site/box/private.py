"""The mount namespace that all daemons of the site share.

libvirt's folders are compiled into it. So that the site's libvirt has its own, they are bound over
the machine's, which only processes in this namespace see. Slurm and the baits need no such thing;
they are in it because it marks whatever they start, jobs and machines too: `down` finds every
process of the site, and no other, by its namespace.
"""

import contextlib
import functools
import os
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import SiteError
from .layout import REPOSITORY, Layout, Memory
from .part import Part
from .process import Processes, pids, succeeds, this_boot, wait_until

NAME = "namespace"
RUN_LIBVIRT = Path("/run/libvirt")
KVM = Path("/dev/kvm")


def bindings(site: Layout) -> dict[Path, Path]:
    """The site's own folders, and which of the machine's each one covers."""
    return {
        site.run / "libvirt": RUN_LIBVIRT,
        site.etc / "libvirt": Path("/etc/libvirt"),
        site.spool / "libvirt": Path("/var/lib/libvirt"),
        site.cache: Path("/var/cache/libvirt"),
        site.log / "libvirt": Path("/var/log/libvirt"),
    }


def prepare(site: Layout, memory: Memory) -> None:
    """The folders for a new namespace. As on any machine, what is in run/ lives until a reboot:
    a libvirtd that comes back finds its machines and networks there.
    """
    if memory.get("boot") != this_boot():
        shutil.rmtree(site.run, ignore_errors=True)
        memory.set("boot", this_boot())
    for own in bindings(site):
        own.mkdir(parents=True, exist_ok=True)
    _no_kvm(site).touch(mode=0o000)  # one that libvirt sees to be closed, so it asks no further
    if not RUN_LIBVIRT.exists():
        RUN_LIBVIRT.mkdir()
        memory.set("made_run_libvirt", True)


def part(site: Layout, files: Mapping[Path, Path], processes: Processes) -> Part:
    """The process that keeps the namespace. Mounts made on the machine later are seen in it.

    `files` of the site's own cover more of the machine's.
    """
    covers = {**bindings(site), **files}
    covers |= {} if _kvm_open_to_qemu() else {_no_kvm(site): KVM}
    binds = [f"mount --bind {own} {over}" for own, over in covers.items()]
    script = " && ".join([*binds, *_open_project(site), "exec sleep infinity"])
    return Part(
        name=NAME,
        argv=[
            *("unshare", "--mount", "--propagation", "slave", "--"),
            *("sh", "-c", script),
        ],
        ready=lambda: _comm(processes.pid(NAME)) == "sleep",
        remedy="this needs root and a machine that may make namespaces: a container often may not",
    )


def host(name: str, files: Mapping[Path, Path], processes: Processes) -> Part:
    """The process that keeps the namespaces of a host with a name of its own, within the site's;
    `files` cover what it would have of the site's.
    """
    own = f"{NAME}-{name}"
    binds = [f"mount --bind {file} {over}" for file, over in files.items()]
    return Part(
        name=own,
        argv=[
            *("unshare", "--mount", "--uts", "--"),
            *("sh", "-c", " && ".join([f"hostname {name}", *binds, "exec sleep infinity"])),
        ],
        ready=lambda: _comm(processes.pid(own)) == "sleep",
    )


def enter_host(keeper: str, processes: Processes) -> Sequence[str]:
    """What to put before a command so that it runs on that host, as the same process."""
    spaces = f"/proc/{processes.pid(keeper)}/ns"
    return ["nsenter", f"--mount={spaces}/mnt", f"--uts={spaces}/uts", "--"]


def _open_project(site: Layout) -> list[str]:
    """What makes a project below a closed home readable for the bridge's user, in the namespace
    only: instead of all that is in that home there is the project alone.
    """
    folders = [REPOSITORY, *REPOSITORY.parents]
    closed = [folder for folder in folders if not folder.stat().st_mode & 0o001]
    if not closed:
        return []
    kept, project = site.run / "project", shlex.quote(str(REPOSITORY))
    return [
        f"mkdir -p {kept}",
        f"mount --bind {project} {kept}",
        f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed[-1]))}",
        f"mkdir -p {project}",
        f"mount --bind {kept} {project}",
    ]


def enter(processes: Processes) -> Sequence[str]:
    """What to put before a command so that it runs in the namespace, as the same process."""
    pid = processes.pid(NAME)
    return ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--"]


def members(processes: Processes) -> list[int]:
    """All processes in the namespaces but their keepers. None of one whose keeper is gone.

    The number of a namespace is used again once its last process has ended: only as long as the
    keeper lives does it say for certain whose a process is.
    """
    keepers = {pid for name in keepers_of(processes) if (pid := processes.pid(name)) is not None}
    mine = {_namespace(pid) for pid in keepers}
    return [pid for pid in pids() if pid not in keepers and _namespace(pid) in mine]


def keepers_of(processes: Processes) -> list[str]:
    """The names of the processes that keep namespaces, the site's own last."""
    return sorted((name for name in processes.names() if name.startswith(NAME)), reverse=True)


def clear(processes: Processes) -> None:
    """End what is left in the namespace after its daemons were stopped, such as a stray job.

    Raises SiteError if something outlives that.
    """
    for number, patience in ((signal.SIGTERM, 2), (signal.SIGKILL, 5)):
        if wait_until(functools.partial(_all_gone, processes, number), patience):
            return
    left = ", ".join(map(str, members(processes)))
    raise SiteError(f"processes {left} of the site do not end", "look at /proc/<number>/stack")


def _all_gone(processes: Processes, number: signal.Signals) -> bool:
    """Whether nothing is left; sends all that is left a signal. What ends may start another."""
    left = members(processes)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return not left


def restore(memory: Memory) -> None:
    """Take away the mount point if it was made for the site and nobody has used it since."""
    ours = memory.get("made_run_libvirt") and RUN_LIBVIRT.is_dir()
    if ours and not any(RUN_LIBVIRT.iterdir()):
        RUN_LIBVIRT.rmdir()


def _no_kvm(site: Layout) -> Path:
    return site.run / "no-kvm"


def _kvm_open_to_qemu() -> bool:
    """Whether libvirt's QEMU, which is not root, may use KVM, if there is one.

    Where it may not, no machine could ever start with it; to hide it spares libvirt and the baits
    trying, which takes them half a minute on a machine whose KVM hangs.
    """
    who = ["setpriv", "--reuid=libvirt-qemu", "--regid=libvirt-qemu", "--init-groups", "--"]
    return not KVM.exists() or succeeds([*who, "test", "-r", str(KVM), "-a", "-w", str(KVM)])


def _namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino  # noqa: PTH116 - a link that is no path
    except OSError:
        return None


def _comm(pid: int | None) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None
