"""wnodes-lrms: what a starter sends into a job's machine, made of the job as it is on the node.

Nothing here speaks to anybody. Standard library only.
"""

import io
import os
import pwd
import re
import resource
import shlex
import stat
import tarfile
import time
from collections.abc import Mapping
from typing import Any

from requeue import Job, NoVmError

GUEST = "/run/wnodes/job"  # the owner's folder in the machine, see templates/context.sh.j2

# What a machine and a job are told about themselves, a file each: Machine/Job Features, the HEP
# Software Foundation's HSF-TN-2016-02. Only what is known for certain is there.
CORES = ("machinefeatures/total_cpu", "jobfeatures/allocated_cpu")
SHUTDOWN = ("machinefeatures/shutdowntime", "jobfeatures/shutdowntime_job")
STARTED = int(time.time())  # seconds since the epoch

# What becomes the script; run.sh, which goes into the machine with it, says how and when.
START = """echo $$ >{guest}/pid.new && mv {guest}/pid.new {guest}/pid
umask {umask}
cd {workdir} 2>&5 || exit 125
{limits}
{temporary}exec {niceness}env -i -- {environment} {command} {streams} 4>&- 5>&-
"""
# Where programs put temporary files, by the first of these that is set (Python's tempfile). Batch
# systems and sites make such a folder for each job on its node; so it is made in the machine, too,
# or /tmp, all of which is the job's, is in its place.
TEMPORARY = ("TMPDIR", "TMP", "TEMP")
MADE = (
    '{name}={folder}; [ -d "${name}" ] || (umask 077; mkdir -p -- "${name}") 2>/dev/null; '
    '[ -w "${name}" ] || {name}=/tmp\n'
)
# env takes a program with a = in its path for a variable; these take none. setpriv is util-linux's,
# and Debian's busybox has it in nice's place.
BY_ITS_NAME = "$(command -v setpriv || echo nice -n 0) -- "

# The limits that are the job's, as sh's ulimit has them, and the bytes of its units: those of
# POSIX, which bash has as sh. Where the machine's hard limit is lower, that is all there is.
LIMITS = (
    *((resource.RLIMIT_CPU, "t", 1), (resource.RLIMIT_NOFILE, "n", 1)),
    *((resource.RLIMIT_FSIZE, "f", 512), (resource.RLIMIT_CORE, "c", 512)),
    *((resource.RLIMIT_DATA, "d", 1024), (resource.RLIMIT_STACK, "s", 1024)),
    *((resource.RLIMIT_MEMLOCK, "l", 1024), (resource.RLIMIT_AS, "v", 1024)),
)
LIMIT = (
    '{{ ulimit -S -{flag} {soft} || ulimit -S -{flag} "$(ulimit -H -{flag})"; '
    "ulimit -H -{flag} {hard}; }} 2>/dev/null"
)

NULL = os.makedev(1, 3)  # the device /dev/null (Linux's devices.txt)


def read(form: str, words: list[str]) -> tuple[list[str], dict[str, bytes]]:
    """What is to run in the machine, and the file that it needs there."""
    if form == "command":
        return words, {}
    if form == "spooled":
        words = spooled(*words)
    interpreter, script, *arguments = words
    name = os.path.basename(script)
    with open(script, "rb") as file:
        text = file.read()
    # The kernel gives an interpreter one argument at most: the rest of the line.
    command = interpreter.split(None, 1) or first_line(text)
    return [*command, f"{GUEST}/{name}", *arguments], {name: text}


def first_line(script: bytes) -> list[str]:
    """By what the kernel would run a script, see execve(2); execvp(3) for one that does not say.

    It can't be left to the guest's kernel: systemd mounts /run, where the script is, noexec.
    """
    line = script.partition(b"\n")[0].removeprefix(b"#!").strip(b" \t")
    if not script.startswith(b"#!") or not line:
        return ["/bin/sh"]
    return [os.fsdecode(word) for word in re.split(rb"[ \t]+", line, maxsplit=1)]


def spooled(shell: str) -> list[str]:
    """Interpreter and script, whose path is the first line of the standard input: OpenPBS gives it
    as to a shell, with a backslash before the brackets of an array's task. Nothing is read that
    follows. A script without a first line of its own is the shell's, as when that runs it."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    script = os.fsdecode(re.sub(rb"\\(.)", rb"\1", line.strip(), flags=re.DOTALL))
    with open(script, "rb") as file:
        return ["" if file.read(2) == b"#!" else shell, script]


def environment() -> dict[str, str]:
    """The job's, as the batch system gave it; os.environ has what Python adds, LC_CTYPE, and a
    shell would have dropped each name that it could not set: `BASH_FUNC_module%%`, `site.name`."""
    with open("/proc/self/environ", "rb") as file:
        pairs = [os.fsdecode(pair).partition("=") for pair in file.read().split(b"\0")]
    return {name: value for name, is_one, value in reversed(pairs) if is_one}  # the first counts


def login_shell() -> str:
    """The owner's, of their account on the node: it may be another in the machine.

    Where SHELL is not set, bash says it of the account. What a daemon submits, a CE, has none.
    """
    return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"  # where it is empty: passwd(5)


def boot_id() -> str:
    """Which kernel this is, among all that have ever run (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def limits() -> str:
    """What sets the limits that this process has."""
    lines = []
    for number, flag, unit in LIMITS:
        soft, hard = (
            "unlimited" if limit == resource.RLIM_INFINITY else limit // unit
            for limit in resource.getrlimit(number)
        )
        lines.append(LIMIT.format(flag=flag, soft=soft, hard=hard))
    return "\n".join(lines)


def is_null(stream: int) -> bool:
    """Whether a stream of this process leads to /dev/null."""
    state = os.fstat(stream)
    return stat.S_ISCHR(state.st_mode) and state.st_rdev == NULL


def streams() -> tuple[str, str]:
    """Where the script's streams lead to in the machine, where SSH's output is 4 and its errors 5;
    and which of these two that is.

    What is nothing on the node is nothing there: programs do otherwise with a pipe, as input above
    all. Two streams of SSH keep no order between them: a file that both go to is one stream.
    """
    errors = 4 if os.path.sameopenfile(1, 2) else 5
    leads = [
        "</dev/null" if is_null(0) else "",
        ">/dev/null" if is_null(1) else ">&4",
        "2>/dev/null" if is_null(2) else f"2>&{errors}",
    ]
    outputs = [number for number in (4, 5) if any(word.endswith(f"&{number}") for word in leads)]
    return " ".join(leads).strip(), " ".join(map(str, outputs))


def bundle(argv: list[str], files: Mapping[str, bytes], workdir: str, scratch: str = "") -> bytes:
    """A tar of files for the machine, and of what starts the job as it would start on the node.

    Where the machine has a scratch disk, in the folder `scratch`, temporary files go there.
    """
    folders = {
        "MACHINEFEATURES": f"{GUEST}/machinefeatures",
        "JOBFEATURES": f"{GUEST}/jobfeatures",
    }
    variables = {"SHELL": login_shell()} | environment() | folders
    if scratch:
        variables["TMPDIR"] = scratch
        variables |= {name: scratch for name in TEMPORARY if variables.get(name)}
    made = {name: shlex.quote(variables.pop(name)) for name in TEMPORARY if variables.get(name)}
    assigned = [shlex.join(f"{key}={value}" for key, value in variables.items())]
    assigned += [f'{name}="${name}"' for name in made]
    umask = os.umask(0o077)
    os.umask(umask)
    leads, outputs = streams()
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    start = START.format(
        umask=f"{umask:04o}",
        workdir=shlex.quote(workdir),
        limits=limits(),
        temporary="".join(MADE.format(name=name, folder=made[name]) for name in made),
        niceness=f"nice -n {niceness} " if niceness > 0 else "",
        environment=" ".join(assigned),
        command=BY_ITS_NAME + shlex.join(argv) if "=" in argv[0] else shlex.join(argv),
        streams=leads,
        guest=GUEST,
    )
    told = f"guest={shlex.quote(GUEST)} node={boot_id()} outputs='{outputs}'\n"
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "run.sh"), "rb") as file:
        ours = {"start": os.fsencode(start), "run": told.encode() + file.read()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in {**files, **ours}.items():
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(data), 0o700
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def features(job: Job, machine: dict[str, Any]) -> dict[str, str]:
    """The files of Machine/Job Features, and what they say, from the bait's description."""
    said = {"jobfeatures/job_id": job.number, "jobfeatures/jobstart_secs": STARTED}
    if "cores" in machine:
        said |= dict.fromkeys(CORES, machine["cores"])
    if "memory" in machine:
        said["jobfeatures/max_rss_bytes"] = machine["memory"] * 1024**2
    if machine.get("shutdown"):
        said |= dict.fromkeys(SHUTDOWN, int(machine["shutdown"]))
    return {name: f"{value}\n" for name, value in said.items()}


def declared(variable: str) -> list[str]:
    """The files that a user declares: paths below the working directory, commas between."""
    names = [name.strip() for name in os.environ.get(variable, "").split(",")]
    for name in names:
        if os.path.isabs(name) or ".." in name.split("/"):
            raise NoVmError(
                f"{variable}: «{name}» is not a path below the working directory", retry=False
            )
    return [name for name in names if name]


def below(folder: str, shares: list[str]) -> bool:
    """Whether the folder is in one that the machine shares with the node."""
    return any(folder == share or folder.startswith(share.rstrip("/") + "/") for share in shares)
