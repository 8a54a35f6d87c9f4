"""Who the server of a shared folder is, and who may say so."""

import json
import os
import subprocess
from pathlib import Path

import pytest

import virtiofsd
from tests.unit.conftest import needs_root

PROGRAM = Path(virtiofsd.__file__)
UID, GID, GROUPS = 4001, 4100, (4200, 4300)
# In the place of virtiofsd: it tries what that does at its start, and says what it is.
SERVER = """#!/usr/bin/python3 -IS
import json, os, sys
kept = {name: os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
os.setgroups([])
lines = [line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines()]
status = {key: value for key, value in lines}
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(),
    "effective": int(status["CapEff"], 16), "privileges": status["NoNewPrivs"],
    "words": open("/proc/self/cmdline").read().split("\\0")[3:-1],
    "root's": open(sys.argv[1]).read() if os.access(sys.argv[1], os.R_OK) else None,
    "kept": kept,
    "maps": [open(f"/proc/self/{kind}_map").read().split() for kind in ("uid", "gid")],
}))
"""
# The program as it is, but for where virtiofsd is described.
START = (
    f"import runpy, sys; sys.argv.pop(0); program = runpy.run_path('{PROGRAM}');"
    "program['server'].__globals__['DESCRIPTIONS'] = (sys.argv.pop(0),);"
    "program['main'](sys.argv)"
)


class Machine:
    """A VM's folder, with a link to a folder that is shared, on a node with a virtiofsd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "machines" / "1f141677-be54-47a5-b519-49623ee54be0"
        self.shared = folder / "shared"
        self.descriptions = folder / "vhost-user"
        for path in (self.folder, self.shared, self.descriptions):
            path.mkdir(parents=True)
        self.folder.chmod(0o700)
        (self.folder / "share0").symlink_to(self.shared)
        self.owner = self.folder / "owner"
        self.owner.touch(mode=0o600)
        self.owner.write_text(f"{UID} {GID} {GROUPS[0]} {GROUPS[1]}")
        server = folder / "server"
        server.write_text(SERVER)
        describe(self.descriptions, "50.json", server)

    def start(
        self, *words: str, pass_fds: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """What libvirt does."""
        words = words or ("--fd=3", "-o", f"source={self.folder}/share0/.")
        return subprocess.run(
            ["/usr/bin/python3", "-ISc", START, self.descriptions, *words],
            capture_output=True,
            text=True,
            pass_fds=pass_fds,
        )


def describe(folder: Path, name: str, binary: Path, kind: str = "fs") -> None:
    """A vhost-user program of the node's."""
    binary.touch()
    binary.chmod(0o755)
    (folder / name).write_text(json.dumps({"type": kind, "binary": str(binary)}))


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """In a folder that everybody may pass through, as /usr is."""
    folder = tmp_path_factory.mktemp("node")
    for path in (folder, *folder.parents):
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    return Machine(folder)


@needs_root
@pytest.mark.integration
def test_it_is_the_owner_with_all_groups_and_cannot_lose_them(machine: Machine) -> None:
    done = machine.start()
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert set(said["uids"]) == {UID}
    assert set(said["gids"]) == {GID}
    assert sorted(said["groups"]) == [GID, *GROUPS]
    assert said["privileges"] == "1"
    # Nothing that lifts a check of a mode, an owner or a number.
    assert said["effective"] == 1 << 8 | 1 << 21
    assert said["maps"] == [["0", "0", "4294967295"]] * 2


@needs_root
@pytest.mark.integration
def test_it_has_no_file_of_roots_open(machine: Machine, tmp_path: Path) -> None:
    """As libvirt leaves it the file with its process's number, which libvirt kills at the end."""
    source = f"source={machine.folder}/share0/."
    with (tmp_path / "fs.pid").open("w") as pid, (tmp_path / "socket").open("w") as given:
        numbers = (pid.fileno(), given.fileno())
        done = machine.start(f"--fd={given.fileno()}", "-o", source, pass_fds=numbers)
    kept = json.loads(done.stdout)["kept"]
    assert str(tmp_path / "fs.pid") not in kept.values()
    assert kept[str(numbers[1])] == str(tmp_path / "socket")


@needs_root
@pytest.mark.integration
@pytest.mark.parametrize("form", ["-o source={}", "--shared-dir={}", "--shared-dir {}"])
def test_the_folder_is_named_by_the_sites_own_word(machine: Machine, form: str) -> None:
    words = form.format(f"{machine.folder}/share0/.").split()
    said = json.loads(machine.start("--fd=3", *words).stdout)["words"]
    assert said[: 1 + len(words)] == ["--fd=3", *form.format(machine.shared).split()]
    assert said[-1] == "--rlimit-nofile=0"


@needs_root
@pytest.mark.integration
@pytest.mark.parametrize(("can", "last"), [("", "--rlimit-nofile=0"), ("acls", "posix_acl")])
def test_access_lists_are_for_kernels_that_know_them(machine: Machine, can: str, last: str) -> None:
    """The server would end with the others."""
    machine.owner.write_text(f"{UID} {GID} {GROUPS[0]} {GROUPS[1]}\n{can}\n")
    assert json.loads(machine.start().stdout)["words"][-1] == last


@needs_root
@pytest.mark.integration
def test_it_reads_nothing_of_roots(machine: Machine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("root's")
    words = (str(secret), "-o", f"source={machine.folder}/share0/.")
    said = json.loads(machine.start(*words).stdout)
    assert said["root's"] is None


@needs_root
@pytest.mark.parametrize(
    ("word", "trouble"),
    [
        ("0 4100", "does not name an ordinary user"),
        ("4001 0", "does not name an ordinary user"),
        ("4001 4100 0", "does not name an ordinary user"),
        ("4001", "does not name an ordinary user"),
        ("-1 4100", "does not name an ordinary user"),
        ("", "not enough values"),
        ("alice users", "invalid literal"),
    ],
)
def test_an_owner_that_is_none(machine: Machine, word: str, trouble: str) -> None:
    machine.owner.write_text(word)
    with pytest.raises((virtiofsd.RefusedError, ValueError), match=trouble):
        virtiofsd.owner_of(str(machine.folder))


@needs_root
def test_an_owner_that_others_could_have_named(machine: Machine) -> None:
    assert virtiofsd.owner_of(str(machine.folder)) == (UID, GID, [GID, *GROUPS], [])
    machine.owner.chmod(0o620)
    with pytest.raises(virtiofsd.RefusedError, match="root's alone"):
        virtiofsd.owner_of(str(machine.folder))
    machine.owner.chmod(0o600)
    os.chown(machine.owner, UID, GID)
    with pytest.raises(virtiofsd.RefusedError, match="root's alone"):
        virtiofsd.owner_of(str(machine.folder))
    machine.owner.rename(machine.folder / "other")
    machine.owner.symlink_to("other")
    with pytest.raises(OSError, match="symbolic links"):
        virtiofsd.owner_of(str(machine.folder))


@needs_root
@pytest.mark.integration
def test_the_nodes_own_is_tried_as_nobody() -> None:
    done = subprocess.run([PROGRAM, "--try"], capture_output=True, text=True)
    assert done.stdout.startswith("virtiofsd"), done.stderr
    # In a container no more than root's number may be given on, which is as little.
    closed = "{ echo 0 >/proc/sys/user/max_user_namespaces; } 2>/dev/null; exec $0 --try"
    inside = ["unshare", "--user", "--map-root-user", "sh", "-c", closed, str(PROGRAM)]
    done = subprocess.run(inside, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("wnodes: virtiofsd: ")
    assert done.stderr.count("\n") == 1


@needs_root
@pytest.mark.integration
def test_a_libvirt_that_asks_first_hears_what_the_nodes_own_can() -> None:
    done = subprocess.run([PROGRAM, "--print-capabilities"], capture_output=True, text=True)
    assert json.loads(done.stdout)["type"] == "fs", done.stderr


def test_no_folder_is_no_share() -> None:
    with pytest.raises(virtiofsd.RefusedError, match="no folder"):
        virtiofsd.source_in(["--fd=3", "-o", "cache=auto"])


def test_the_nodes_virtiofsd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, system = tmp_path / "site", tmp_path / "system"
    monkeypatch.setattr(virtiofsd, "DESCRIPTIONS", (str(site), str(system)))
    with pytest.raises(virtiofsd.RefusedError, match="no virtiofsd"):
        virtiofsd.server()
    system.mkdir()
    describe(system, "40-gpu.json", tmp_path / "gpu", "gpu")
    describe(system, "50-fs.json", tmp_path / "virtiofsd")
    describe(system, "60-fs.json", tmp_path / "other")
    assert virtiofsd.server() == str(tmp_path / "virtiofsd")
    site.mkdir()
    describe(site, "50-fs.json", tmp_path / "own")
    assert virtiofsd.server() == str(tmp_path / "own")
    (system / "10.json").write_text("{")
    (system / "11.json").write_text('["fs"]')
    (tmp_path / "own").chmod(0o644)
    assert virtiofsd.server() == str(tmp_path / "other")


def test_enterprise_linux_describes_it_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package qemu-kvm has /usr/share/qemu-kvm where others have /usr/share/qemu."""
    folders = [f"{tmp_path}{folder}" for folder in virtiofsd.DESCRIPTIONS]
    monkeypatch.setattr(virtiofsd, "DESCRIPTIONS", tuple(folders))
    own = tmp_path / "usr/share/qemu-kvm/vhost-user"
    own.mkdir(parents=True)
    describe(own, "50-qemu-virtiofsd.json", tmp_path / "virtiofsd")
    assert virtiofsd.server() == str(tmp_path / "virtiofsd")
