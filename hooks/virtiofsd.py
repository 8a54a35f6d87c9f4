#!/usr/bin/python3 -IS
"""wnodes-lrms: virtiofsd with the rights of a job's owner, and no others.

libvirt starts it as root in the place of virtiofsd, with virtiofsd's arguments. The folder to be
shared is named there by a link in the VM's own folder, `.../machines/ID/share0/.`; the file `owner`
beside that link, which the bait has written, says whose the VM is.

It becomes virtiofsd as that user, with all of the user's groups. So it is the kernel that decides,
for each access, as it would for any process of the user on the node: also for root of a guest that
was broken into. Numbers of users and groups mean the same inside and outside.

virtiofsd wants to shut itself into a mount namespace and to clear its groups, which takes
privileges. Those come from a user namespace, in which every number stands for itself: there it has
CAP_SYS_ADMIN and CAP_SETPCAP, which are worth nothing outside, until it has done so. It has neither
CAP_SETUID nor CAP_DAC_OVERRIDE nor any other that would lift a check of a file's mode. That the
groups are cleared is prevented by a seccomp filter: setgroups(2) does nothing, with success.

Sources: user_namespaces(7), capabilities(7), seccomp(2); QEMU's docs/interop/vhost-user.json for
how a virtiofsd is found. With `--try` alone it says whether all that works on this node, for
`wnodes doctor`. Standard library only.
"""

import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import struct
import sys
from typing import NoReturn

OPEN_FILES = 1_000_000
DESCRIPTIONS = (
    "/etc/qemu/vhost-user",
    "/usr/share/qemu/vhost-user",
    "/usr/share/qemu-kvm/vhost-user",  # Enterprise Linux, whose QEMU has folders of its own
)
NOBODY = 65534
ALL = "0 0 4294967295\n"  # every number stands for itself

# From the kernel's headers: sched.h, prctl.h, securebits.h, capability.h, seccomp.h, audit.h.
CLONE_NEWUSER = 0x10000000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_KEEPCAPS, PR_CAP_AMBIENT = 38, 22, 8, 47
PR_CAP_AMBIENT_RAISE = 2
CAP_SETPCAP, CAP_SYS_ADMIN = 8, 21
CAPABILITY_VERSION_3 = 0x20080522
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000
# AUDIT_ARCH_… and the number of setgroups(2) there.
ARCHITECTURES = {"x86_64": (0xC000003E, 116), "aarch64": (0xC00000B7, 159)}

libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """Why nothing is shared, in words for the administrator: libvirt hands them on."""


def source_in(words: list[str]) -> tuple[int, str]:
    """Which word names the folder, and what it says before the name."""
    for number, word in enumerate(words):
        for start in ("source=", "--shared-dir="):
            if word.startswith(start):
                return number, start
        if word == "--shared-dir" and number + 1 < len(words):
            return number + 1, ""
    raise RefusedError("no folder to share is named")


def owner_of(machine: str) -> tuple[int, int, list[int], list[str]]:
    """The uid, gid and all other gids of the VM's owner, and what its image's kernel can, as the
    bait has written them down: numbers in the first line, words in the second."""
    name = os.path.join(machine, "owner")
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW)) as file:
        state = os.fstat(file.fileno())
        if state.st_uid != 0 or state.st_mode & 0o022:
            raise RefusedError(f"{name} could be somebody else's word: it must be root's alone")
        uid, *gids = (int(word) for word in file.readline().split())
        can = file.readline().split()
    if not gids or min(uid, *gids) <= 0:
        raise RefusedError(f"{name} does not name an ordinary user")
    return uid, gids[0], gids, can


def server() -> str:
    """The node's virtiofsd, by the description that QEMU's package or its own has of it."""
    found = {}
    for folder in reversed(DESCRIPTIONS):  # a site's own description takes the other's place
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            found[name] = os.path.join(folder, name)
    for name in sorted(found):
        try:
            with open(found[name]) as file:
                said = json.load(file)
            if said["type"] == "fs" and os.access(said["binary"], os.X_OK):
                return str(said["binary"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # libvirt, too, goes on to the next
    raise RefusedError(f"{' and '.join(DESCRIPTIONS)} name no virtiofsd")


def checked(result: int, what: str) -> None:
    """Raise OSError if a call of the C library has failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def raise_limit() -> None:
    """Let it have as many of the folder's files open as virtiofsd itself would, or as it may."""
    for limit in (OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return
        except (OSError, ValueError):  # a container's root may not raise it
            continue


def close_others(words: list[str]) -> None:
    """Keep the standard streams and the socket that virtiofsd is given, and nothing else of root's.

    libvirt leaves it the file with its own process's number, to write to: whoever had taken it
    over could name another there, which libvirt, as root, would kill at the VM's end.
    """
    kept = {0, 1, 2, *(int(word[5:]) for word in words if word.startswith("--fd="))}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # that of the listing itself has gone
                os.close(int(name))


def enter_namespace() -> None:
    """Go into a new user namespace of root's, in which every number stands for itself."""
    ready, go = os.pipe()
    done, tell = os.pipe()
    mapper = os.fork()
    if mapper == 0:  # outside, as root: only from there all numbers can be given
        os.close(go)
        os.close(done)
        code = 1
        try:
            if os.read(ready, 1):
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{os.getppid()}/{name}", "w") as file:
                        file.write(ALL)
                code = 0
        finally:
            os._exit(code)
    os.close(ready)
    os.close(tell)
    checked(libc.unshare(CLONE_NEWUSER), "a user namespace")
    os.write(go, b"1")
    for end in (go, done):
        os.close(end)
    if os.waitpid(mapper, 0)[1] != 0:
        raise RefusedError("the numbers of users can't be given to a user namespace")


def become(uid: int, gid: int, gids: list[int]) -> None:
    """Be this user, with these groups and the two capabilities that virtiofsd starts with."""
    checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS")
    os.setgroups(gids)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    kept = (1 << CAP_SETPCAP) | (1 << CAP_SYS_ADMIN)
    head = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable: the lower 32 of each, then the upper.
    checked(libc.capset(head, struct.pack("6I", kept, kept, kept, 0, 0, 0)), "capset")
    for capability in (CAP_SETPCAP, CAP_SYS_ADMIN):
        raised = libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)
        checked(raised, "PR_CAP_AMBIENT_RAISE")


def keep_groups() -> None:
    """From now on setgroups(2) does nothing, with success, in this process and all it becomes."""
    try:
        architecture, setgroups = ARCHITECTURES[platform.machine()]
    except KeyError:
        raise RefusedError(f"not known on {platform.machine()}: setgroups(2)") from None

    def step(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    program = b"".join(
        [
            step(load, 0, 0, 4),  # seccomp_data.arch
            step(equal, 0, 3, architecture),
            step(load, 0, 0, 0),  # seccomp_data.nr
            step(equal, 0, 1, setgroups),
            step(give, 0, 0, SECCOMP_RET_ERRNO),  # with no error number: success
            step(give, 0, 0, SECCOMP_RET_ALLOW),
        ]
    )
    text = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of steps, and where they are.
    whole = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(text))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, whole, 0, 0), "PR_SET_SECCOMP")


def ask(word: str) -> NoReturn:
    """Start the node's virtiofsd as nobody, to say something of itself and end."""
    program = server()
    enter_namespace()
    become(NOBODY, NOBODY, [NOBODY])
    keep_groups()
    os.execv(program, [program, word])  # noqa: S606


def main(words: list[str]) -> NoReturn:
    """See the head of this file."""
    if words == ["--try"]:  # whether all this works here
        ask("--version")
    if words == ["--print-capabilities"]:  # as libvirt asks, on Debian 13, before it starts one
        ask("--print-capabilities")
    at, start = source_in(words)
    link = words[at].removeprefix(start)
    machine = os.path.dirname(os.path.dirname(link))
    uid, gid, gids, can = owner_of(machine)
    program = server()
    # The VM's folder is closed to its owner, and what the link leads to is the site's word.
    words[at] = start + os.path.realpath(link)
    raise_limit()
    close_others(words)
    enter_namespace()
    become(uid, gid, gids)
    keep_groups()
    # By its first word the bait knows whose it is, should libvirt ever lose sight of it.
    name = os.path.join(machine, "virtiofsd")
    os.execv(program, [name, *words, *OPTIONS, *(ACLS if "acls" in can else ())])  # noqa: S606


# Extended attributes: the owner's `user.` ones, for the kernel guards them as it does files.
# None of the capabilities that it would keep, and the limit that it has.
# Not `flock` or `posix_lock`: with these, each lock that waits is refused in the guest, and each
# unlocking ("Operation not supported"; QEMU 7.2). Without, locks are the guest's own, and whole.
OPTIONS = (
    *("-o", "xattr"),
    *("-o", "modcaps=-chown:-dac_override:-fowner:-fsetid:-setgid:-setuid:-mknod:-setfcap"),
    "--rlimit-nofile=0",
)
# With a guest whose kernel does not know them (before Linux 5.13) the server would end at once.
ACLS = ("-o", "posix_acl")

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (RefusedError, OSError, ValueError) as trouble:
        print(f"wnodes: virtiofsd: {trouble}", file=sys.stderr)
        sys.exit(errno.EPERM)
