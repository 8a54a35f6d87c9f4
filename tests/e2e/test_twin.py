"""Twins: the same script as a plain job on the node and in a VM. What they tell is the same.

What may differ is MAY_DIFFER, and docs/using.md tells users the same. A VM's SSH server has its
part in much of it: the script runs with the small image's, and with OpenSSH's.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import GOOD, IMAGE, USER, Job, Submit, call, variant

GROUP = "gridgroup"
OURS = {"WNODES_IMAGE", "MACHINEFEATURES", "JOBFEATURES"}  # variables of a job in a VM alone
OF_ONE_JOB = {  # its number, its name and its times
    *("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NAME", "SLURM_TASK_PID"),
    *("SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME", "SLURM_JOB_CONSTRAINTS"),
}
# Signals 32 and 33 are the C library's, between threads (nptl(7)): no shell can set them. Whether
# they are ignored comes from whatever has started the batch system.
THREADS = 1 << 31 | 1 << 32
# Line → why it differs.
MAY_DIFFER = {
    "kernel": "it is the VM's own",
    "hostname": "it is the VM's own",
    "home of the account": "an SSH server that reads keys from there alone has another",
}

# Each line is «what: how it is». The tools are those of both sides, so they do only what all can.
SCRIPT = (
    r"""
say() { name=$1; shift; echo "$name: $*"; }
try() { name=$1; shift; "$@" >/dev/null 2>&1; say "$name" $?; }
mode() { stat -c '%a %u %g %s %h %Y' "$1"; }
status() { grep "^$1:" /proc/$$/status | cut -f2; }

say kernel "$(uname -r)"
say hostname "$(hostname)"
try 'own name has an address' hostname -i
say environment; tr '\0' '\1' </proc/$$/environ | tr '\1\n' '\n\1' | sort
say 'environment ends'
module load gcc/12
say 'home of the account' "$(eval "echo ~$(id -un)")"
say identity "$(id -u) $(id -g) $(id -un) $(id -gn) $(id -G | tr ' ' '\n' | sort -n | tr '\n' ' ')"
say arguments "$# <$1> <$2>"
say name "${0##*/}"
say folder "$PWD $(pwd -P)"
say umask "$(umask)"
for flag in n s f c d v t l; do say "soft limit -$flag" "$(ulimit -S -$flag)"; done
say 'signals blocked, ignored' "$(status SigBlk) $(status SigIgn)"
say 'no new privileges' "$(status NoNewPrivs) $(status Seccomp)"
say capabilities "$(status CapEff) $(status CapPrm)"
say niceness "$(cut -d ' ' -f 19 /proc/$$/stat)"
say 'leads its group' "$([ "$(cut -d ' ' -f 5 /proc/$$/stat)" = $$ ] && echo yes)"
say descriptors "$(cd /proc/$$/fd && ls | tr '\n' ' ' | sed 's/255 //')"
try 'input is at its end' read -r line
for n in 0 1 2; do try "terminal on $n" test -t $n; done
for f in /dev/null /dev/zero /dev/urandom /dev/fd /dev/stdin /dev/stdout /dev/stderr; do
    try "there is $f" test -e $f
done
say 'process substitution' "$(cat <(echo works) 2>&1)"
say '/dev/stderr' "$(echo works | tee /dev/stderr 2>&1 >/dev/null)"
say 'here document' "$(cat <<<works)"
for f in /tmp /var/tmp /dev/shm; do
    say "mode of $f" "$(stat -c %a $f)"
    made=$(mktemp $f/twin.XXXXXX) && say "file in $f" "$(stat -c '%a %u %g' "$made")" && rm "$made"
done
say zone "$(date +%Z) $(date -d @0 +%H)"

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
try 'giving a file away' chown 0 file
try 'giving it to a group of mine' chgrp """
    + GROUP
    + r""" file; say group "$(stat -c %g file)"
echo in >group/new; say 'file in a folder of a group' "$? $(stat -c '%a %u %g' group/new)"
mkdir group/sub; say 'folder in a folder of a group' "$? $(stat -c '%a %u %g' group/sub)"
exec 7>gone; rm gone; echo kept >&7
say 'file without a name' "$(cat /proc/$$/fd/7 2>&1)"; exec 7>&-
mkfifo pipe; (echo through >pipe &); say 'named pipe' "$(cat pipe)"
for n in 1 2 3 4; do (for i in 1 2 3 4 5 6 7 8 9; do echo $n$i >>log; done) & done; wait
say 'lines appended by four at once' "$(sort log | wc -l | tr -d ' ')"
truncate -s 5G large; printf end | dd of=large bs=1 seek=5368709117 conv=notrunc 2>/dev/null
say 'large file' "$(stat -c %s large) $(tail -c 3 large)"; rm large
: >empty; : >'white space'; : >$'\xff'; : >-n; : >'*'
GLOBIGNORE='*.out'; say names "$(printf '%s\n' * | LC_ALL=C sort | od -An -tx1 | tr -d '\n ')"
printf '#!/bin/sh\necho "ran $1"\n' >prog=1; chmod 755 prog=1; say 'program on it' "$(./prog=1 x)"
if command -v flock >/dev/null; then
    exec 8>lock; flock 8; try 'locked for another' flock -n lock true
    exec 8>&-; try 'free again' flock -n lock true
    flock lock sleep 0.2 & flock lock true; say 'waited for' $?
fi

# How it ends.
trap 'say caught USR1' USR1; kill -USR1 $$
(sh -c 'kill -SEGV $$'; exit $?) 2>/dev/null; say 'child killed' $?
for n in 1 2 3 4 5; do echo "out $n"; echo "err $n" >&2; done
setsid sleep 200 &
exit 7
"""
)


@pytest.fixture(scope="module")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The good image with OpenSSH's server in the place of its own."""
    folder = tmp_path_factory.mktemp("image")
    raw, disk, steps = folder / "disk.raw", folder / "disk.qcow2", folder / "steps"
    call("qemu-img", "convert", "-O", "raw", GOOD.disk.source, str(raw))
    texts = {
        "/etc/inittab": "::respawn:/bin/sh -c 'mkdir -p /run/sshd; exec /usr/sbin/sshd -D'\n"
        "::once:/etc/init.d/late\n::ctrlaltdel:/sbin/reboot\n::shutdown:/etc/init.d/stop\n",
        "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM no\nPidFile none\n"
        "HostKey /etc/ssh/ssh_host_ed25519_key\n",
        "/etc/passwd": call("debugfs", "-R", "cat /etc/passwd", str(raw))
        + "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n",
    }
    files = {}
    for number, (name, text) in enumerate(texts.items()):
        files[name] = folder / str(number)
        files[name].write_text(text)
    for program in ("sshd", "flock"):
        path = shutil.which(program, path="/usr/sbin:/usr/bin")
        assert path, f"the package of {program} is missing"
        files[f"/usr/bin/{program}"] = Path(path)
        for word in call("ldd", path).split():
            if word.startswith("/lib/"):
                files[f"/usr{word}"] = Path(word)
    steps.write_text(
        "mkdir /etc/ssh/sshd_config.d\n"
        + "".join(
            f"rm {name}\nwrite {path.resolve()} {name}\nset_inode_field {name} mode 0100755\n"
            for name, path in files.items()
        )
    )
    subprocess.run(["debugfs", "-w", "-f", steps, raw], check=True, capture_output=True)
    call("qemu-img", "convert", "-O", "qcow2", str(raw), str(disk))
    digest = call("sha256sum", str(disk)).split()[0]
    with variant("openssh_debian_x86_64", disk={"source": str(disk), "sha256": digest}) as tag:
        yield tag


@pytest.fixture
def twins(submit: Submit, home: Path) -> Iterator["Twins"]:
    yield Twins(submit, home)
    for folder in home.glob("twin-*"):
        shutil.rmtree(folder)


class Twins:
    """Runs the script, each time in a new folder of the same name."""

    def __init__(self, submit: Submit, home: Path) -> None:
        self.submit = submit
        self.folder = home / "twin-1"

    def run(self, image: str | None) -> Job:
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder, mode in ((self.folder, 0o755), (self.folder / "group", 0o2770)):
            folder.mkdir()
            shutil.chown(folder, USER, GROUP if mode & 0o2000 else USER)
            folder.chmod(mode)
        job = self.submit(
            SCRIPT,
            "--nodelist=hv1",
            "--error=%j.out",
            image=image,
            env={
                "BASH_FUNC_module%%": '() { echo "module: $*"; }',
                "site.name": "box",
                "LINES_OF": "two\nlines",
                "RUN": "a=b",
            },
            folder=self.folder,
            args=("a b", ""),
        ).wait(seconds=60)
        assert job.exit_code == "7:0", job.output
        return job


def told(job: Job) -> dict[str, str]:
    """Line by line what the script has said."""
    said: dict[str, str] = {}
    lines = iter(job.output.splitlines())
    streams = []
    for line in lines:
        name, colon, value = line.partition(": ")
        if name.startswith("signals"):
            value = " ".join(f"{int(mask, 16) & ~THREADS:x}" for mask in value.split())
        if colon:
            said[name] = value
        else:
            streams.append(line)
        if line == "environment: ":
            variables = {}
            for variable in iter(lambda: next(lines), "environment ends: "):
                key, _, text = variable.partition("=")
                variables[key] = text
            ignored = OURS | OF_ONE_JOB
            said["environment"] = repr({k: v for k, v in variables.items() if k not in ignored})
    return said | {"order of the streams": " ".join(streams)}


def files(folder: Path) -> dict[str, tuple[object, ...]]:
    """What it has left in its folder, but the output itself."""
    found: dict[str, tuple[object, ...]] = {}
    for path in folder.rglob("*"):
        if path.suffix != ".out":
            status = path.lstat()
            about = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink)
            whole = path.read_bytes() if path.is_file() and path.name != "log" else b""
            found[str(path.relative_to(folder))] = (*about, whole)
    return found


def test_a_job_can_not_tell_its_vm_from_the_node(twins: Twins, openssh: str) -> None:
    on_node = twins.run(None)
    plain, left = told(on_node), files(twins.folder)
    assert plain["module"] == "load gcc/12", on_node.output
    for image in (IMAGE, openssh):
        in_vm = twins.run(image)
        inside = told(in_vm)
        assert inside["kernel"] != plain["kernel"]
        known = {name for name in plain if name not in MAY_DIFFER}
        if image == IMAGE:  # it has no flock
            known -= {"locked for another", "free again", "waited for"}
        pairs = {name: (plain[name], inside.get(name)) for name in known}
        assert {name: (a, b) for name, (a, b) in pairs.items() if a != b} == {}, in_vm.output
        assert inside.keys() <= plain.keys()
        assert {**files(twins.folder), "lock": ()} == {**left, "lock": ()}
