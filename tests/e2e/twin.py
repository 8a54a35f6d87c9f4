"""Twins: the same script as a plain job on the node and in a VM. What they tell is the same.

What may differ is DIFFER: how it is on the node, how it is in a VM, and why. docs/using.md tells
users the same. The batch system and the image are whoever's who calls `compare`.
"""

import fcntl
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.box import USER, call, variant
from tests.e2e.lrms.interface import Job
from wnodes_lrms.images import catalogue

GROUP = "gridgroup"
OTHER = "clouduser"
PATIENCE = 600.0  # seconds: a large image takes minutes to boot under emulation
FOLDER = "twin-1"  # of each run anew, in the user's home
ARGUMENTS = ("a b", "", "two\nlines", "*", "$HOME")
VARIABLES = {
    "BASH_FUNC_module%%": '() { echo "module: $*"; }',
    "site.name": "box",
    "LINES_OF": "two\nlines",
    "RUN": "a=b",
    "TZ": "XST-5XDT,M3.5.0,M10.5.0",  # needs no file of the image's
}
EXIT = 7
OURS = {"WNODES_IMAGE", "MACHINEFEATURES", "JOBFEATURES"}  # variables of a job in a VM alone
TOLD = {"SHELL"}  # bash knows it in any case; in a VM its children, too. See "home and shell"
OF_ONE_RUN = {  # its process and its times
    *("SLURM_TASK_PID", "SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME"),
    "SLURM_JOB_CONSTRAINTS",  # the node's feature that a job with a VM asks for
}
NUMBERED = {  # they have its number in their values
    *("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_ARRAY_JOB_ID", "JOB_ID", "JOB_SCRIPT", "TMPDIR", "TMP"),
    "PATH",
    *("SGE_JOB_SPOOL_DIR", "SGE_STDOUT_PATH", "SGE_STDERR_PATH"),
}
# Signals 32 and 33 are the C library's, between threads (nptl(7)): no shell can set them. Whether
# they are ignored comes from whatever has started the batch system.
THREADS = 1 << 31 | 1 << 32


class Differs(NamedTuple):
    """What differs, in patterns of the whole."""

    on_node: str
    in_vm: str
    why: str


DIFFER = {
    "kernel": Differs(re.escape(platform.release()), r"\S+", "it is the VM's own"),
    "own name": Differs(r"\S+", r"vm-[0-9.]+", "it is the VM's own"),
    "folder of the script": Differs(r"/.*", "/run/wnodes/job", "the script is a copy"),
    "cores": Differs(str(os.cpu_count()), "1", "those of the allocation, and no others"),
    "memory": Differs(r"[0-9]{4,}", r"[5-9][0-9]{2}", "MiB: those of the allocation, less some"),
    "output and errors": Differs("regular file, regular file", "fifo, fifo", "they go by SSH"),
    "hard limit -u": Differs(r"[0-9]+|unlimited", r"[0-9]+", "the image's"),
    "file system": Differs(r"(?!65735546)[0-9a-f]+", "65735546", "virtiofs, which is a FUSE"),
    "O_TMPFILE": Differs("done", "EOPNOTSUPP", "Linux has it in FUSE from 6.2, virtiofsd not"),
    "flock against the node": Differs("EAGAIN", "done", "virtiofsd has no locks that wait"),
    "lockf against the node": Differs("EAGAIN", "done", "the same"),
}
# In an image whose SSH server reads keys from the account's home alone.
LOGIN = {"home of the account": Differs(r"/.*", "/run/wnodes/login", "the key is there")}

# Each line is «what: how it is». The tools are those of both sides, so they do only what all can.
SCRIPT = r"""
say() { name=$1; shift; echo "$name: $*"; }
try() { name=$1; shift; "$@" >/dev/null 2>&1; say "$name" $?; }
mode() { stat -c '%a %u %g %s %h %Y' "$1"; }
status() { grep "^$1:" /proc/$$/status | cut -f2; }

say kernel "$(uname -r)"
say 'own name' "$(hostname)"
try 'own name has an address' hostname -i
try 'own name has a domain, or is whole' hostname -f
say environment; tr '\0' '\1' </proc/$$/environ | tr '\1\n' '\n\1' | sort
say 'environment ends'
module load gcc/12
say 'home of the account' "$(eval "echo ~$(id -un)")"
say 'home and shell' "$HOME $SHELL"
say identity "$(id -u) $(id -g) $(id -un) $(id -gn) $(id -G | tr ' ' '\n' | sort -n | tr '\n' ' ')"
say arguments "$# $(printf '<%s>' "$@" | tr '\n' '|')"
say 'name of the script' "${0##*/}"
say 'folder of the script' "${0%/*}"
say folder "$PWD $(pwd -P)"
say umask "$(umask)"
for flag in n s f c d v t l; do say "soft limit -$flag" "$(ulimit -S -$flag)"; done
for flag in s f c d v t; do say "hard limit -$flag" "$(ulimit -H -$flag)"; done
say 'hard limit -u' "$(ulimit -H -u)"
say 'signals blocked, ignored' "$(status SigBlk) $(status SigIgn)"
say 'no new privileges' "$(status NoNewPrivs) $(status Seccomp)"
say capabilities "$(status CapEff) $(status CapPrm)"
say niceness "$(cut -d ' ' -f 19 /proc/$$/stat)"
say cores "$(nproc)"
say memory "$(($(grep MemTotal /proc/meminfo | tr -dc 0-9) / 1024))"
say 'leads its group' "$([ "$(cut -d ' ' -f 5 /proc/$$/stat)" = $$ ] && echo yes)"
say descriptors "$(cd /proc/$$/fd && ls | tr '\n' ' ' | sed 's/255 //')"
say input "$(stat -L -c '%F %t:%T' /proc/$$/fd/0)"
say 'output and errors' "$(stat -L -c %F /proc/$$/fd/1), $(stat -L -c %F /proc/$$/fd/2)"
try 'input is at its end' read -r line
for n in 0 1 2; do try "terminal on $n" test -t $n; done
for f in /dev/null /dev/zero /dev/urandom /dev/fd /dev/stdin /dev/stdout /dev/stderr; do
    try "there is $f" test -e $f
done
echo 'written to /dev/stdout: works' >>/dev/stdout
echo 'written to /dev/stderr: works' >>/dev/stderr
say 'process substitution' "$(cat <(echo works) 2>&1)"
say 'here document' "$(cat <<<works)"
yes | head -n 1 >/dev/null; say 'broken pipe' "${PIPESTATUS[*]}"
for f in /tmp /var/tmp /dev/shm; do
    say "mode of $f" "$(stat -c %a $f)"
    made=$(mktemp $f/twin.XXXXXX) && say "file in $f" "$(stat -c '%a %u %g' "$made")" && rm "$made"
done
for f in TMPDIR TMP HOME PWD; do
    [ -z "${!f}" ] || try "$f can be written to" rm "$(mktemp "${!f}/twin.XXXXXX")"
done
say 'temporary file' "$(stat -c '%a %u' "$(mktemp)")"
say zone "$(date +%Z) $(date -d @0 +%H) $(date -d @1750000000 +%H)"
: >now; [ $(($(date +%s) - $(stat -c %Y now))) -le 2 ] && say 'clock agrees with that of files' yes

# Files of the shared folder.
umask 027
echo one >file; say 'new file' "$(mode file | cut -d ' ' -f 1-5)"
mkdir dir; say 'new folder' "$(stat -c '%a %u %g' dir)"
for m in 4755 2755 1777 0000 0400 0644; do chmod $m file; say "mode $m" "$(stat -c %a file)"; done
chmod 000 file; try 'reading without a right to' cat file; chmod 644 file
touch -d @1000000000 file; say 'time set' "$(stat -c '%X %Y' file)"
ln -s file link; say link "$(readlink link) $(cat link)"
ln file hard; say 'hard link' "$(stat -c %h file)"; rm hard
echo two >other; mv other file; say rename "$(cat file)"
mkdir -p dir/a; try 'removing a full folder' rmdir dir
mv dir moved; try 'renamed folder' test -d moved/a
(set -C; echo >file) 2>/dev/null; say 'exclusive creation' $?
(set -C; echo >of-node) 2>/dev/null; say 'exclusive creation of what the node has made' $?
mkdir of-node.d 2>/dev/null; say 'a folder that the node has made' $?
say 'what the node has written' "$(cat of-node)"
say 'what an access list alone allows' "$(cat granted)"
: >inheriting/new; say 'file under a default list' "$(stat -c %a inheriting/new)"
try 'giving a file away' chown 0 file
try 'giving it to a group of mine' chgrp @GROUP@ file; say group "$(stat -c %g file)"
echo in >group/new; say 'file in a folder of a group' "$? $(stat -c '%a %u %g' group/new)"
mkdir group/sub; say 'folder in a folder of a group' "$? $(stat -c '%a %u %g' group/sub)"
exec 7>gone; rm gone; echo kept >&7
say 'file without a name' "$(cat /proc/$$/fd/7 2>&1)"; exec 7>&-
mkfifo pipe; (echo through >pipe &); say 'named pipe' "$(cat pipe)"
for n in 1 2 3 4; do (for i in 1 2 3 4 5 6 7 8 9; do echo $n$i >>log; done) & done; wait
say 'lines appended by four at once' "$(sort log | wc -l | tr -d ' ')"
say 'file system' "$(stat -f -c %t .)"
truncate -s 5G large; printf end | dd of=large bs=1 seek=5368709117 conv=notrunc 2>/dev/null
say 'large file' "$(stat -c %s large) $(tail -c 3 large)"; rm large
: >empty; : >'white space'; : >$'\xff'; : >-n; : >'*'
GLOBIGNORE='*.out'; say names "$(printf '%s\n' * | LC_ALL=C sort | od -An -tx1 | tr -d '\n ')"
printf '#!/bin/sh\necho "ran $1"\n' >prog=1; chmod 755 prog=1; say 'program on it' "$(./prog=1 x)"
(cd ../@TOOLS@ && LD_LIBRARY_PATH=$PWD PYTHONHOME=$PWD ./python -S -B twin_calls.py "$OLDPWD")

# How it ends: its output is of any bytes and any length, and need not end with a line.
trap 'say caught USR1' USR1; kill -USR1 $$
(ulimit -c 0; sh -c 'kill -SEGV $$'; exit $?) 2>/dev/null; say 'child killed' $?
for n in 1 2 3 4 5; do echo "out $n"; echo "err $n" >&2; done
say 'raw output'
head -c 3000000 of-node.raw
setsid sleep 200 &
exit @EXIT@
"""
for _name, _value in {"GROUP": GROUP, "EXIT": str(EXIT), "TOOLS": "twin-tools"}.items():
    SCRIPT = SCRIPT.replace(f"@{_name}@", _value)
RAW = bytes(range(256)) * 11719  # some 3 MB

Run = Callable[[str | None, Path], Job]  # a job that has ended as it should, in a folder


@contextmanager
def tools(home: Path) -> Iterator[None]:
    """The node's own Python beside the folder, on the share: for calls that no shell has."""
    folder = home / "twin-tools"
    shutil.rmtree(folder, ignore_errors=True)
    library = folder / "lib" / f"python3.{sys.version_info.minor}"
    library.mkdir(parents=True)
    program = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    for path in standard.glob("*.py"):
        shutil.copy(path, library)
    shutil.copytree(standard / "encodings", library / "encodings")
    (library / "lib-dynload").mkdir()
    modules = [path for name in ("fcntl", "mmap", "_socket", "math", "select", "_struct")
               for path in (standard / "lib-dynload").glob(f"{name}.*.so")]  # fmt: skip
    for path in modules:
        shutil.copy(path, library / "lib-dynload")
    shutil.copy(program, folder / "python")
    for word in call("ldd", str(program), *map(str, modules)).split():
        if word.startswith("/lib/"):
            shutil.copy(word, folder)
    shutil.copy(Path(__file__).with_name("twin_calls.py"), folder)
    call("chown", "-R", USER, str(folder))
    try:
        yield
    finally:
        shutil.rmtree(folder)


@contextmanager
def workplace(home: Path) -> Iterator[Path]:
    """A new folder for a run, with what the node has made in it, and has locked."""
    folder = home / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    for path, mode in ((folder, 0o755), (folder / "group", 0o2770), (folder / "of-node.d", 0o755)):
        path.mkdir()
        shutil.chown(path, USER, GROUP if mode & 0o2000 else USER)
        path.chmod(mode)
    texts = {"of-node": b"written\n", "of-node.raw": RAW}
    texts |= dict.fromkeys(("locks", "flock-of-node", "lockf-of-node"), b"")
    for name, text in texts.items():
        (folder / name).write_bytes(text)
        shutil.chown(folder / name, USER, USER)
    granted, inheriting = folder / "granted", folder / "inheriting"
    granted.write_text("granted\n")
    granted.chmod(0o600)
    inheriting.mkdir()
    shutil.chown(inheriting, USER, USER)
    call("setfacl", "--modify", f"user:{USER}:r", str(granted))
    call("setfacl", "--default", "--modify", f"group:{GROUP}:rwx", str(inheriting))
    try:
        with (
            (folder / "flock-of-node").open("r+") as one,
            (folder / "lockf-of-node").open("r+") as two,
        ):
            fcntl.flock(one, fcntl.LOCK_EX)
            fcntl.lockf(two, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder)


def told(output: bytes, number: str) -> dict[str, str]:
    """Line by line what the script has said; the job's number in variables stands as N."""
    text, _, raw = output.partition(b"raw output: \n")
    said = {"raw output": "whole" if raw == RAW[:3000000] else f"{len(raw)} bytes"}
    lines = iter(text.decode().splitlines())
    streams = []
    for line in lines:
        name, colon, value = line.partition(": ")
        if name.startswith("signals"):
            value = " ".join(f"{int(mask, 16) & ~THREADS:x}" for mask in value.split())
        if name == "name of the script" and value == number:
            value = "N"
        if name == "wnodes":
            continue  # that it waits for its VM
        if colon:
            said[name] = value
        else:
            streams.append(line)
        if line == "environment: ":
            variables = {}
            for variable in iter(lambda: next(lines), "environment ends: "):
                key, _, value = variable.partition("=")
                if key in NUMBERED:
                    value = re.sub(rf"(^|/){number}(?=[.:/]|$)", r"\1N", value)
                variables[key] = value
            ignored = OURS | TOLD | OF_ONE_RUN
            said |= {f"${k}": v for k, v in variables.items() if k not in ignored}
    return said | {"order of the streams": " ".join(streams)}


def files(folder: Path) -> dict[str, object]:
    """What it has left in its folder, but the output itself."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.suffix != ".out":
            status = path.lstat()
            about = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink)
            whole = path.read_bytes() if path.is_file() and path.name != "log" else b""
            found[str(path.relative_to(folder))] = (*about, whole)
    return found


def look(run: Run, image: str | None, home: Path) -> tuple[dict[str, str], dict[str, object]]:
    """What a run has told, and what it has left."""
    with workplace(home) as folder:
        job = run(image, folder)
        return told((folder / f"{job.id}.out").read_bytes(), job.number), files(folder)


def wrong(
    plain: dict[str, str], inside: dict[str, str], differ: dict[str, Differs]
) -> dict[str, tuple[str | None, str | None]]:
    """What is not as it should be, on the node and in the VM: the same, or differs exactly so."""
    found = {}
    for name in plain.keys() | inside.keys():
        here, there = plain.get(name), inside.get(name)
        right = here == there
        if name in differ:
            on_node, in_vm, _why = differ[name]
            told = re.fullmatch(on_node, here or "") and re.fullmatch(in_vm, there or "")
            right = not right and told is not None
        if not right:
            found[name] = here, there
    return found


@contextmanager
def image_of(config: pytest.Config) -> Iterator[str | None]:
    """The tag that `make twin` was given, or of the catalogue's file, which the site knows while
    this lasts. None in all other runs."""
    name = config.getoption("--twin-image")
    if name and name.endswith(".toml"):
        image = catalogue.read(Path(name).parent, Path(name).stem)
        with variant(**image.model_dump()) as tag:
            yield tag
    else:
        yield name


def compare(run: Run, home: Path, images: dict[str, dict[str, Differs]]) -> None:
    """The script on the node, and in a VM of each image with what else differs there."""
    with tools(home):
        plain, left = look(run, None, home)
        assert plain["module"] == "load gcc/12", plain
        for image, more in images.items():
            inside, kept = look(run, image, home)
            found = wrong(plain, inside, DIFFER | more)
            assert not found, f"{image}: {found}"
            assert kept == left, f"{image}: {kept.keys() ^ left.keys()}"
