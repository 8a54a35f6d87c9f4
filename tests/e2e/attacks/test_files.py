"""An ordinary user of a node wants others' disks, keys and data, and to fill or block the node."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from contrib.site.box.layout import NODES
from tests.e2e.box import USER, call, machines, wait_until
from tests.e2e.lrms.slurm import Submit
from tests.e2e.occi import Cloud, Key
from wnodes_lrms.config import load as configuration

SITE = Path(os.environ["WNODES_SITE"])
# What others may read, each with its reason; see docs/security.md, "Files".
OPEN = {"bait.sock": "anybody may ask; the kernel says who it is"}
LET_IN = {"user:libvirt-qemu", "user:nobody", "user:wnodes-guestfs"}  # into images
# Makes folders, each in the last, until it is told that it may not. No path to them is so long.
NESTED = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(20000):
    os.mkdir("d")
    os.chdir("d")
"""


def ours() -> Iterator[Path]:
    """Every file and folder of the product's on the site, but for what is everybody's to read."""
    roots = {SITE / "spool" / "bridge", SITE / "etc" / "order.key"}
    for node in NODES:
        config = configuration.load(Path(os.environ["WNODES_CONFIG"]), node)
        assert config.accounting
        assert config.bridge
        roots |= {Path(config.bait.state_dir), Path(config.bait.run_dir)}
        roots |= {Path(config.images.cache_dir), Path(config.accounting.queue)}
        roots |= {Path(config.cloud.volumes), Path(config.cloud.saved)}
        roots |= {Path(config.api.key), Path(config.bridge.key)}
    for root in sorted(roots):
        yield from (root, *root.rglob("*"))


def open_to_others() -> list[str]:
    """Those that others than their owner may read or write: for a folder, list or change."""
    found = []
    for path in ours():
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode) and path.name not in OPEN and rights(path) - LET_IN:
            found.append(f"{sorted(rights(path))} {path}")
    return found


def rights(path: Path) -> set[str]:
    """Who but its owner may read or write it, as getfacl(1) names them. Of root's group is root
    alone."""
    shown = call("getfacl", "--omit-header", "--absolute-names", str(path)).splitlines()
    whose = {line.rpartition(":")[0] for line in shown if set("rw") & set(line.rpartition(":")[2])}
    return whose - {"user:", "mask:"} - ({"group:"} if path.lstat().st_gid == 0 else set())


def test_nobody_reads_the_files_of_a_busy_site(
    alice: Cloud, key: Key, submit: Submit, home: Path
) -> None:
    running, stopped, hibernated = (alice.machine(key=key, data=b"#secret\n") for _ in range(3))
    volume = alice.create("storage", {"attributes": {"occi.storage.size": 1}})
    for machine in (running, stopped, hibernated):
        machine.wait("active", 90)
    stopped.act("stop", method="poweroff")
    hibernated.act("suspend", method="hibernate")
    running.act("save", method="hot", name="mine")
    ends = {"occi.core.source": running.path, "occi.core.target": volume}
    alice.create("storagelink", {"attributes": ends})
    stopped.wait("inactive")
    hibernated.wait("suspended")
    job = submit("sleep 300", image="small_debian_x86_64", folder=home)
    job.in_state("ready")
    call("wnodes", "accounting", "publish")
    wait_until(lambda: list((SITE / "spool" / "saved").glob("*.toml")), 60, "the image is saved")

    found = list(ours())
    for name in ("disk.qcow2", "console.log", "seed.iso", "memory", "ledger.sqlite-wal"):
        assert [path for path in found if path.name == name], f"the site is not busy: no {name}"
    for part in ("volumes/*.raw", "saved/*.qcow2", "images-*/*", "apel/*/*", "bridge/*.sqlite"):
        assert list((SITE / "spool").glob(part)), f"the site is not busy: no {part}"
    assert open_to_others() == []
    # Nor could a QEMU that its guest has taken over write to what other VMs start from.
    shared = [path for path in found if path.parent.name.startswith("images-")]
    assert {path.owner() for path in shared} == {"root"}
    job.cancel()
    running.delete()
    mine: list[dict[str, str]] = []

    def shown() -> bool:
        mine[:] = [each for each in alice.get("/-/")["mixins"] if each["term"].startswith("mine-")]
        return bool(mine)

    wait_until(shown, 120, "its image is shown")
    definition = {"mixins": [{name: mine[0][name] for name in ("scheme", "term")}]}
    wait_until(lambda: alice.ask("DELETE", "/-/", definition).is_success, 30, "its image is gone")


def test_what_an_owner_puts_beside_a_machine_does_not_keep_it(submit: Submit, home: Path) -> None:
    job = submit("sleep 300", folder=home)
    machine = job.in_state("ready")
    wait_until(lambda: job.state == "RUNNING", 20, "it runs")
    folders = [path for path in ours() if str(machine["id"]) in str(path) and path.is_dir()]
    assert folders
    for folder in folders:
        call("python3", "-c", NESTED, str(folder), user=USER, check=False)
    job.cancel()
    wait_until(lambda: not machines(), 40, "the VM has gone")
    assert not [folder for folder in folders if folder.exists()]
