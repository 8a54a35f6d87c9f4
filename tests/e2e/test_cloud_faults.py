"""Leases that end, processes that die, orders that are no good: nothing is lost or left."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from bait.cloud.freezing import NOTE
from bait.ledger.ledger import Ledger
from contrib.site.box import ca
from contrib.site.box.grid import VO
from tests.chaos.site import Box
from tests.e2e.box import call, has_agent, machines, wait_until
from tests.e2e.lrms.slurm import leases, the_lease
from tests.e2e.occi import (
    INFRA,
    SMALL_IMAGE,
    Cloud,
    Key,
    Machine,
    disk,
    interface,
    public,
    size,
)
from tests.e2e.orders import an_order, another_key, give, lease, of, signed
from tests.e2e.test_cloud_identity import user, voms_server

SITE = Path(os.environ["WNODES_SITE"])

# Leaves a word on the disk when the guest is shut down, and none when it is cut off.
FAREWELL = b"""#!/bin/sh
cat >/root/farewell <<'END'
trap 'echo bye >/root/bye; sync; exit' TERM
while :; do sleep 0.1; done
END
setsid sh /root/farewell >/dev/null 2>&1 </dev/null &
"""


def listens(machine: Machine) -> bool:
    """Whether the guest takes connections."""
    with socket.socket() as link:
        link.settimeout(2)
        return link.connect_ex((machine.address(), 22)) == 0


def said_farewell(machine: Machine) -> bool:
    """Whether the guest was shut down before it ended; looks by starting it again."""
    machine.act("start")
    machine.wait("active")
    return machine.ssh("cat /root/bye 2>/dev/null; true") == "bye\n"


def test_scancel_of_the_lease(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key, data=FAREWELL).wait("active")
    machine.ssh("true")
    call("scancel", the_lease().number)
    machine.wait("inactive")
    assert machine.message
    wait_until(lambda: not leases(), 20, "the lease is over")
    assert not call("virsh", "list", "--name").split()
    assert said_farewell(machine)


def test_the_walltime_ends(key: Key, tmp_path: Path) -> None:
    ca.voms_proxy(user("alice"), voms_server(), VO, [f"/{VO}/short"], tmp_path / "short.pem")
    cloud = Cloud(tmp_path / "short.pem")
    machine = cloud.machine(key=key, data=FAREWELL).wait("active")
    machine.ssh("true")
    job = the_lease()
    assert job.field("TimeLimit") == "00:01:00"
    machine.wait("inactive", seconds=100)
    wait_until(lambda: not leases(), 30, "the lease is over")
    assert said_farewell(machine)
    machine.delete()


def test_the_guest_powers_itself_off(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("poweroff")
    machine.wait("inactive", saying="shut")
    wait_until(lambda: not leases(), 20, "its lease is freed")


def test_a_domain_that_dies(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("echo kept > /root/kept; sync")
    call("virsh", "destroy", str(machines()[0]["id"]))
    machine.wait("inactive", saying="ended by hand on its node")
    wait_until(lambda: not leases(), 20, "its lease is freed")
    machine.act("start")
    machine.wait("active")
    assert machine.ssh("cat /root/kept") == "kept\n"


def test_a_lease_that_waits_in_the_queue_is_deleted_there(alice: Cloud) -> None:
    call("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        machine = alice.machine()
        job = the_lease()
        assert job.state == "PENDING"
        assert machine.state == "inactive"
        machine.delete()
        wait_until(lambda: not leases(), 20, "the lease is cancelled")
    finally:
        call("scontrol", "update", "PartitionName=main", "State=UP")


def test_the_bridge_dies_in_the_middle(alice: Cloud, key: Key, daemons: Box) -> None:
    running = alice.machine(key=key).wait("active")
    boot, address = running.boot_id(), running.address()
    with daemons.down("bridge"):
        wait_until(lambda: not _children_of_bridge(), 10, "its processes have ended with it")
        assert running.try_ssh("true", address=address).returncode == 0
        (before,) = leases()
    assert (running.state, the_lease().number) == ("active", before)

    new = alice.machine(key=key)  # at once, before its order may have gone out
    with daemons.down("bridge"):
        pass
    new.wait("active")
    assert len(leases()) == 2
    running.act("stop", method="poweroff")
    with daemons.down("bridge"):
        pass
    running.wait("inactive")
    running.act("start")
    running.wait("active")
    assert running.boot_id() != boot
    assert alice.locations("/compute/") == [running.path, new.path]


def _children_of_bridge() -> list[str]:
    return call("pgrep", "-u", "wnodes-bridge", check=False).split()


def test_the_bait_dies_in_the_middle(alice: Cloud, key: Key, daemons: Box) -> None:
    machine = alice.machine(key=key)
    # Beside it the promise of a VM may be listed that any job, and so a lease, has first.
    wait_until(lambda: machine.id in [m["id"] for m in machines()], 30, "its VM is begun")
    node = next(str(m["node"]) for m in machines() if m["id"] == machine.id)
    with daemons.down(f"bait-{node}"):
        pass
    machine.wait("active")
    boot = machine.boot_id()
    with daemons.down(f"bait-{node}"):
        assert machine.try_ssh("true").returncode == 0
        assert machine.state == "active"  # nothing is concluded
        machine.act("stop")
        time.sleep(1)
        assert machine.try_ssh("true").returncode == 0
    machine.wait("inactive")
    wait_until(lambda: not leases(), 20, "its lease is freed")
    machine.act("start")
    assert machine.wait("active").boot_id() != boot


def test_the_controller_dies_in_the_middle(alice: Cloud, key: Key, daemons: Box) -> None:
    running = alice.machine(key=key).wait("active")
    time.sleep(7)  # Slurm writes its state down every 5 s: what is younger, it forgets when killed
    with daemons.down("slurmctld"):
        new = alice.machine(key=key)
        time.sleep(3)
        assert (running.state, new.state) == ("active", "inactive")
        assert running.try_ssh("true").returncode == 0
        running.act("stop", method="poweroff")
    new.wait("active")
    running.wait("inactive")
    wait_until(lambda: len(leases()) == 1, 20, "one lease is left")


@contextmanager
def small_pool(folder: Path, daemons: Box) -> Iterator[Path]:
    """Users' volumes are on a file system of their own, with room for one of 1 GiB."""
    image, pool = folder / "pool", SITE / "spool" / "volumes"
    pid = daemons.pid("bait-hv1")
    inside = ["nsenter", "--mount", "--target", str(pid)]  # the daemons' own mounts
    with image.open("wb") as file:
        file.truncate(1400 << 20)
    call("mkfs.ext4", "-q", "-m", "0", str(image))
    call(*inside, "mount", "-o", "loop", str(image), str(pool))
    try:
        yield Path(f"/proc/{pid}/root{pool}")
    finally:
        call(*inside, "umount", "-l", str(pool))


def test_storage_that_is_full(alice: Cloud, key: Key, tmp_path: Path, daemons: Box) -> None:
    """No more is promised than there is; where others have taken it, VMs wait until they give it
    back, and lose nothing."""
    said = "occi.storage.state.message"
    with small_pool(tmp_path, daemons) as pool:
        volume = alice.create("storage", {"attributes": {"occi.storage.size": 1}})
        machine = alice.machine(key=key, links=[interface(public(alice)), disk(volume)]).wait(
            "active"
        )
        other = alice.create("storage", {"attributes": {"occi.storage.size": 1}})
        wait_until(
            lambda: "no room for that" in alice.get(other)["attributes"].get(said, ""),
            30,
            "it is refused, with the reason",
        )
        alice.delete(other)
        (link,) = alice.locations("/storagelink/")
        serial = alice.get(link)["attributes"]["wnodes.storagelink.serial"]
        device = machine.ssh(f"grep -l {serial} /sys/block/*/serial", seconds=120).split("/")[3]
        filler = pool / "filler"
        room = shutil.disk_usage(pool).free - (80 << 20)
        call("fallocate", "-l", str(room), str(filler))
        copy = f"dd if=/dev/zero of=/dev/{device} bs=1M count=160 conv=fsync; echo $? >/tmp/done"
        machine.ssh(f"({copy}) >/dev/null 2>&1 </dev/null &")
        machine.wait("suspended", saying="the site's storage is full")
        assert "storage is full" in call("wnodes", "why", machine.id)
        filler.unlink()
        machine.wait("active")
        machine.ssh("while [ ! -s /tmp/done ]; do sleep 0.2; done", seconds=120)
        assert machine.ssh("cat /tmp/done") == "0\n"
        machine.delete()
        wait_until(lambda: alice.ask("DELETE", volume).status_code == 200, 20, "it is free")
        wait_until(lambda: not list(pool.glob("*.raw")), 60, "the volume is gone")


def test_a_guest_that_a_killed_bait_has_frozen_goes_on(
    alice: Cloud, key: Key, daemons: Box
) -> None:
    machine = alice.machine(key=key).wait("active")
    wait_until(lambda: has_agent(machine.id), 60, "its agent has the port open")
    node = str(machines()[0]["node"])
    with daemons.down(f"bait-{node}"):  # in the moment of a copy: its note, and what follows
        with closing(Ledger(SITE / "spool" / node / "ledger.sqlite")) as ledger:
            ledger.set_note(NOTE, machine.id)
        assert "Froze" in call("virsh", "domfsfreeze", machine.id)
    machine.ssh("echo it goes on >/root/thawed; sync", seconds=120)
    machine.delete()


def test_all_baits_away(alice: Cloud, daemons: Box) -> None:
    with daemons.frozen("bait-hv1"), daemons.frozen("bait-hv2"):

        def refused() -> bool:
            wish = {"kind": f"{INFRA}#compute", "mixins": [SMALL_IMAGE, size("small")]}
            answer = alice.ask("POST", "/compute/", wish)
            assert answer.status_code in (201, 503)
            if answer.status_code == 201:
                alice.delete(httpx.URL(answer.headers["Location"]).path)
            return answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0

        wait_until(refused, 60, "a change is refused")
        assert alice.ask("GET", "/compute/").status_code == 200
        assert alice.ask("GET", "/-/").status_code == 200
    wait_until(lambda: _works(alice), 30, "changes are taken again")


def _works(cloud: Cloud) -> bool:
    storage = {"kind": f"{INFRA}#storage", "attributes": {"occi.storage.size": 1}}
    answer = cloud.ask("POST", "/storage/", storage)
    return answer.status_code == 201


# Orders that no bridge has given, for jobs of the user whom leases run as.


def refused(answer: httpx.Response, *words: str) -> None:
    """The order was refused, and there is no machine."""
    assert answer.status_code == 422, answer.text
    for word in ("order refused", *words):
        assert word in answer.json()["error"]
    assert not machines()


def test_an_order_that_is_no_good() -> None:
    wish = an_order(cores=2)
    with lease(wish, "--cpus-per-task=1") as job:
        order = of(wish, job)
        refused(give("hv1", order, signed(order, another_key())), "ignature")
        refused(give("hv1", order, signed(order, at=time.time() - 7200)), "expired")
        refused(give("hv1", order, "not.a.token"))
        refused(give("hv1", order, signed(order.lease_request)))
        assert job.state == "RUNNING"  # nothing of that was its bridge's
        refused(give("hv1", order), "the lease has")
        job.wait(seconds=30)
        assert (job.state, job.exit_code) == ("FAILED", "1:0")
        assert "the lease has" in job.error


def test_an_order_for_another_account() -> None:
    wish = an_order()
    with lease(wish, user="cloudpilot") as job:
        refused(give("hv1", of(wish, job)), "account")


def test_a_lease_job_that_gets_no_order_ends_with_its_allocation() -> None:
    wish = an_order()
    with lease(wish) as job:
        call("scancel", job.number)
        job.wait(seconds=20)
        assert "the batch system has ended its lease" in job.error


def test_an_ordinary_user_carries_no_lease() -> None:
    wish = an_order(account="griduser")
    with (
        pytest.raises(AssertionError, match="leases do not run as griduser"),
        lease(wish, user="griduser"),
    ):
        pass


def test_a_guest_that_falls_asleep_while_libvirt_is_down(
    alice: Cloud, key: Key, daemons: Box
) -> None:
    machine = alice.machine(key=key).wait("active")
    process = call("virsh", "domid", machine.id)
    machine.ssh("true")
    with daemons.down("libvirtd"):
        machine.ssh("(sleep 1; echo mem >/sys/power/state) >/dev/null 2>&1 </dev/null &")
        wait_until(lambda: not listens(machine), 60, "it sleeps")
    assert call("virsh", "domstate", "--reason", machine.id).strip() == "paused (unknown)"
    machine.wait("suspended")
    machine.act("start")
    machine.wait("active")
    machine.ssh("true")  # under emulation not all kernels come out of it with their memory
    assert call("virsh", "domid", machine.id) == process


def test_a_guest_that_wakes_while_libvirt_is_down(alice: Cloud, key: Key, daemons: Box) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("(sleep 1; echo mem >/sys/power/state) >/dev/null 2>&1 </dev/null &")
    machine.wait("suspended")
    number = call("virsh", "domid", machine.id).strip()
    with daemons.down("libvirtd"):
        qmp(number, "system_wakeup")
        wait_until(lambda: listens(machine), 60, "it has woken")
    assert call("virsh", "domstate", machine.id).strip() == "pmsuspended"  # though it runs
    machine.act("start")
    machine.wait("active")
    assert call("virsh", "domstate", machine.id).strip() == "running"
    machine.ssh("true")
    assert call("virsh", "domid", machine.id).strip() == number


def qmp(domain: str, command: str) -> None:
    """Say this to a domain's QEMU on its monitor, which nobody else has open."""
    site = Path(os.environ["WNODES_SITE"])
    (path,) = site.glob(f"spool/libvirt/qemu/domain-{domain}-*/monitor.sock")
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(path))
        with monitor.makefile("rw") as lines:
            lines.readline()  # its greeting
            for each in ("qmp_capabilities", command):
                lines.write(json.dumps({"execute": each}) + "\n")
                lines.flush()
                while "return" not in json.loads(lines.readline()):
                    pass  # events
