"""Leases that end, processes that die, orders that are no good: nothing is lost or left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from contrib.site.box import ca
from contrib.site.box.grid import VO, Grid
from contrib.site.box.layout import layout
from tests.e2e.conftest import (
    IMAGE,
    Daemons,
    Job,
    call,
    leases,
    machines,
    the_lease,
    wait_until,
)
from tests.e2e.occi import INFRA, SMALL_IMAGE, Cloud, Key, Machine, size
from tests.e2e.test_cloud_identity import baits, user, voms_server
from wnodes_lrms import order
from wnodes_lrms.order import LEASE_NAME, Order

GRID = Grid(layout())
OUTBOX = GRID.site.home / "outbox"  # where any user may write
# Leaves a word on the disk when the guest is shut down, and none when it is cut off.
FAREWELL = b"""#!/bin/sh
cat >/root/farewell <<'END'
trap 'echo bye >/root/bye; sync; exit' TERM
while :; do sleep 0.1; done
END
setsid sh /root/farewell >/dev/null 2>&1 </dev/null &
"""


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
    machine.wait("inactive")
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


def test_the_bridge_dies_in_the_middle(alice: Cloud, key: Key, daemons: Daemons) -> None:
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


def test_the_bait_dies_in_the_middle(alice: Cloud, key: Key, daemons: Daemons) -> None:
    machine = alice.machine(key=key)
    wait_until(machines, 30, "its machine is begun")
    node = str(machines()[0]["node"])
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


def test_the_controller_dies_in_the_middle(alice: Cloud, key: Key, daemons: Daemons) -> None:
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


def test_all_baits_away(alice: Cloud, daemons: Daemons) -> None:
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


# Orders that no bridge has given: submitted by the user whom leases run as.


def an_order(**changes: object) -> Order:
    """A good order."""
    return Order.model_validate(
        {
            "lease": str(uuid4()),
            "machine": str(uuid4()),
            "hostname": "forged",
            "dn": user("alice").dn,
            "account": "clouduser",
            "walltime": 600,
            "cores": 1,
            "memory": 256,
            "image": IMAGE,
        }
        | changes
    )


def signed(wish: Order, key: str = "", at: float = 0, life: float = 600) -> str:
    """The order as a token, by the bridge's own key unless another is given."""
    return order.sign(wish, "box", key or GRID.order_key.read_text(), at or time.time(), life)


@contextmanager
def lease(wish: Order, token: str, *options: str, user: str = "clouduser") -> Iterator[Job]:
    """A lease job with this token, of the order's size unless options say otherwise."""
    OUTBOX.mkdir(exist_ok=True)
    OUTBOX.chmod(0o1777)
    number = call(
        *["env", f"WNODES_ORDER={token}", "sbatch", "--parsable", "--chdir=/"],
        *[f"--job-name={LEASE_NAME}{wish.lease}", "--comment=wnodes-lease", "--no-requeue"],
        *["--constraint=wnodes", f"--cpus-per-task={wish.cores}", f"--mem={wish.memory + 128}"],
        *[
            "--time=10",
            f"--output={OUTBOX}/%j.out",
            f"--error={OUTBOX}/%j.err",
            "--wrap=true",
            *options,
        ],
        user=user,
    ).strip()
    job = Job(number, OUTBOX)
    try:
        yield job
    finally:
        call("scancel", number, check=False)


def failed(job: Job, *words: str) -> None:
    """The lease job has failed at once, and said why."""
    job.wait(seconds=30)
    assert (job.state, job.exit_code) == ("FAILED", "1:0"), job.error
    for word in words:
        assert word in job.error


def refused(job: Job, *words: str) -> None:
    """The same, and there is no machine."""
    failed(job, *words)
    assert not machines()


def another_key() -> str:
    """A key that no bait knows."""
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def test_a_forged_order() -> None:
    wish = an_order()
    with lease(wish, signed(wish, another_key())) as job:
        refused(job, "order refused", "ignature")


def test_an_expired_order() -> None:
    wish = an_order()
    with lease(wish, signed(wish, at=time.time() - 7200)) as job:
        refused(job, "order refused", "expired")


@pytest.mark.parametrize("smaller", ["--mem=200", "--cpus-per-task=1"])
def test_an_order_for_more_than_the_lease_has(smaller: str) -> None:
    wish = an_order(cores=2)
    with lease(wish, signed(wish), smaller) as job:
        refused(job, "order refused", "the lease has")


def test_an_order_for_another_account() -> None:
    wish = an_order()
    with lease(wish, signed(wish), user="cloudpilot") as job:
        refused(job, "order", "account")


def test_an_order_is_good_once() -> None:
    wish = an_order()
    token = signed(wish)
    with lease(wish, token) as job:
        wait_until(lambda: [m for m in machines() if m["state"] == "ready"], 30, "it runs")
        with lease(wish, token) as again:
            failed(again, "order refused", "already")
        assert job.state == "RUNNING"
    wait_until(lambda: not leases(), 30, "the lease is over")
    with lease(wish, token) as again:
        failed(again, "order refused", "used before")
    for bait in baits():
        assert bait.delete(f"/machines/{wish.machine}").status_code in (202, 204)


def test_a_lease_without_an_order() -> None:
    wish = an_order()
    with lease(wish, "not.a.token") as job:
        refused(job, "order refused")
    with pytest.raises(AssertionError, match="needs an image"), lease(wish, ""):
        pass


def test_an_ordinary_user_carries_no_lease() -> None:
    wish = an_order(account="griduser")
    with (
        pytest.raises(AssertionError, match="leases do not run as griduser"),
        lease(wish, signed(wish), user="griduser"),
    ):
        pass
