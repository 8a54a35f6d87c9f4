"""Shared folders, from a guest of a trusted image whose root has been taken.

The image of these tests gives root to whoever asks, which no trusted image should: what its root
can do is what a user can who has broken into one that is as it should be.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.box import GOOD, call, variant
from tests.e2e.lrms.slurm import Submit

OTHER = "clouduser"
LATE = "/etc/init.d/late"  # what the small image's init runs, as root, beside its SSH server
# Root of the guest does what it finds in a file of anybody's.
DOOR = """
while sleep 0.1; do
    if [ -f /tmp/wanted ]; then
        mv /tmp/wanted /tmp/taken
        sh /tmp/taken >/tmp/said.new 2>&1
        mv /tmp/said.new /tmp/said
    fi
done
"""


def as_root(commands: str) -> str:
    """Script of a user's in such a guest: what root says who does this."""
    return f"""
cat >/tmp/wanted.new <<'END'
{commands}
END
mv /tmp/wanted.new /tmp/wanted
until [ -f /tmp/said ]; do sleep 0.1; done
cat /tmp/said
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A trusted image, like the good one, whose root does whatever anybody wants."""
    folder = tmp_path_factory.mktemp("image")
    raw, disk, late = folder / "disk.raw", folder / "disk.qcow2", folder / "late"
    call("qemu-img", "convert", "-O", "raw", GOOD.disk.source, str(raw))
    call("debugfs", "-R", f"dump {LATE} {late}", str(raw))
    shebang, _, rest = late.read_text().partition("\n")
    late.write_text(f"{shebang}{DOOR.rstrip()} &\n{rest}")
    steps = folder / "steps"
    steps.write_text(f"rm {LATE}\nwrite {late} {LATE}\nset_inode_field {LATE} mode 0100755\n")
    call("debugfs", "-w", "-f", str(steps), str(raw))
    call("qemu-img", "convert", "-O", "qcow2", str(raw), str(disk))
    digest = call("sha256sum", str(disk)).split()[0]
    with variant("broken_debian_x86_64", disk={"source": str(disk), "sha256": digest}) as tag:
        yield tag


@pytest.fixture
def victim(home: Path) -> Iterator[Path]:
    """Another user's home beside the user's own, with a file that nobody else may read."""
    folder = home.parent / "victim"
    folder.mkdir(mode=0o755)
    secret = folder / "secret"
    secret.write_text("nobody else's\n")
    secret.chmod(0o600)
    for path in (folder, secret):
        shutil.chown(path, OTHER)
    yield folder
    shutil.rmtree(folder)


def test_root_of_a_guest_has_the_rights_of_its_owner(
    submit: Submit, home: Path, victim: Path, broken: str
) -> None:
    """A job's owner who is root of their own guest wants to be root on the node."""
    job = submit(
        "echo mine >mine"
        + as_root(f"""
            id -u
            cat {victim}/secret
            echo x >{victim}/planted
            cp /bin/busybox {home}/tool
            chown 0:0 {home}/tool
            chmod 4755 {home}/tool
            mknod {home}/disk b 254 0
            mknod {home}/memory c 1 1
            chown {victim.stat().st_uid} {home}/mine
            echo done
        """),
        image=broken,
    ).wait()
    said = job.output.splitlines()
    assert (said[0], said[-1]) == ("0", "done"), job.error
    assert "nobody else's" not in said
    assert [path.name for path in victim.iterdir()] == ["secret"]
    assert not (home / "disk").exists()
    assert not (home / "memory").exists()
    # Whatever it could make is no more than its owner could: not root's, and nobody else's.
    made = [path for path in (home / "tool", home / "mine") if path.exists()]
    assert {path.stat().st_uid for path in made} == {home.stat().st_uid}


def test_it_becomes_the_owner_and_no_other(submit: Submit, victim: Path, broken: str) -> None:
    """The same, by a process of the guest that takes another user's number."""
    uid = victim.stat().st_uid
    job = submit(
        as_root(f"""
            echo "victim:x:{uid}:{uid}::/:/bin/sh" >>/etc/passwd
            su victim -c "id -u; cat {victim}/secret; echo x >{victim}/planted; echo done"
        """),
        image=broken,
    ).wait()
    said = job.output.splitlines()
    assert (said[0], said[-1]) == (str(uid), "done"), job.error
    assert "nobody else's" not in said
    assert [path.name for path in victim.iterdir()] == ["secret"]


@pytest.mark.parametrize("trusted", [True, False])
def test_nobody_gets_a_folder_by_naming_it(
    submit: Submit, home: Path, victim: Path, trusted: bool
) -> None:
    """A job's owner names a working directory that is not theirs to make."""
    planted = victim / ".local"
    streams = (f"--output={home}/%j.out", f"--error={home}/%j.err")
    with variant("named_debian_x86_64", trusted=trusted) as tag:
        job = submit("pwd", f"--chdir={planted}", *streams, image=tag).wait()
    assert not planted.exists()
    # As without a VM: Slurm says that it goes to /tmp instead.
    assert (job.state, job.output) == ("COMPLETED", "/tmp\n"), job.error


def test_the_owners_groups_count(submit: Submit, home: Path) -> None:
    """No attack: what the owner may do on the node, as a member of a group, they may in the VM."""
    group = home.parent / "group"
    group.mkdir()
    try:
        shutil.chown(group, "root", "gridgroup")
        group.chmod(0o2770)
        job = submit(f"cd {group} && touch file && mkdir folder && ls && id -Gn").wait()
        assert job.exit_code == "0:0", job.error
        assert (group / "file").group() == (group / "folder").group() == "gridgroup"
        assert (group / "file").owner() == "griduser"
    finally:
        shutil.rmtree(group)


def test_the_server_of_a_share_has_no_rights_of_its_own(submit: Submit) -> None:
    """What a guest would have that broke out into it: the owner's rights, and nothing of root's."""
    job = submit("sleep 30")
    machine = job.in_state("ready")
    own = f"/machines/{machine['id']}/virtiofsd"
    found = [
        process
        for process in Path("/proc").glob("[0-9]*")
        if own in (process / "cmdline").read_text().split("\0")[0]
    ]
    status = [(process / "status").read_text() for process in found]
    files = [file.readlink().name for process in found for file in (process / "fd").iterdir()]
    job.cancel()
    assert found
    assert [file for file in files if file.endswith(".pid")] == []
    uid = str(job.folder.stat().st_uid)
    facts = [dict(line.split(":\t", 1) for line in text.splitlines()) for text in status]
    assert {number for fact in facts for number in fact["Uid"].split()} == {uid}
    assert {fact["NoNewPrivs"] for fact in facts} == {"1"}
    # One of each pair only waits for the other, which is the one that speaks to the guest.
    assert sum(int(fact["CapEff"], 16) == 0 for fact in facts) >= len(facts) // 2
