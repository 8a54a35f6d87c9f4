"""What the tests of a bait share: a ledger, orders, a bridge's keys, users' VMs on a node."""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import libvirt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bait.cloud.build import CloudBuilder, Plan
from bait.cloud.controller import CloudController
from bait.hypervisor.domain import Domain
from bait.hypervisor.domains import Hypervisor
from bait.hypervisor.power_button import PowerButton
from bait.ledger.ledger import Ledger
from bait.ledger.records import Row
from bait.volumes import removals
from tests.unit.conftest import NOBODY, TAG, Bait, Node
from wnodes_lrms.config.load import Offer
from wnodes_lrms.errors import ConflictError, WnodesError
from wnodes_lrms.lrms.jobid import JobId
from wnodes_lrms.model import State
from wnodes_lrms.order import Nic, Order, sign

BRIDGE = Ed25519PrivateKey.from_private_bytes(b"bridge's" * 4)  # the same in each import
MACHINE = uuid.UUID("42830be1-e63b-5316-ad86-9cf7a3034a5f")
VOLUMES = tuple(uuid.uuid5(MACHINE, f"volume {number}") for number in range(3))
ROUTER = IPv4Address("10.0.0.1")
CARD = uuid.uuid5(MACHINE, "card")


@pytest.fixture(autouse=True)
def no_removals_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test has not removed is not come back to in another one."""
    monkeypatch.setattr(removals, "_AGAIN", 1e6)


def private(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def public(key: Ed25519PrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def an_order(**changes: object) -> Order:
    """An order of a lease of its own."""
    values: dict[str, object] = {
        "lease": uuid.uuid4(),
        "machine": MACHINE,
        "hostname": "box",
        "dn": "/C=IT/O=Box/CN=Alice",
        "account": NOBODY.pw_name,
        "walltime": 3600,
        "cores": 1,
        "memory": 256,
        "image": TAG,
        "ssh_keys": ("ssh-ed25519 AAAA alice",),
        "nics": (Nic(id=CARD, kind="nat", network="public", mac="52:54:00:00:00:01"),),
    }
    return Order.model_validate(values | changes)


def token(order: Order, cluster: str = "box", age: float = 0.0, life: float = 600.0) -> str:
    return sign(order, cluster, private(BRIDGE), time.time() - age, life)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    made = Ledger(path)
    yield made
    made.close()


class Button(PowerButton):
    """libvirt's test driver has a guest shut down at once, and says nothing when it restarts."""

    def __init__(self, driver: "TestDriver", real: PowerButton) -> None:
        super().__init__(real._domain)
        self.driver = driver

    @property
    def is_connected(self) -> bool:
        return super().is_connected and not self.driver.was_away

    def press(self) -> None:
        self.driver.pressed += 1
        if not self.driver.deaf and self._domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING:
            self._domain.shutdown()
            if self._domain.isActive():
                self.restarted.set()


class TestDriver(Hypervisor):
    """libvirt's test driver knows neither ACPI, nor devices that come and go, nor a restore with
    another description.

    `deaf`: the guest does not hear its power button. `sleeps`: it has put itself to sleep.
    `plugged`: what was plugged in, by its description, as long as it is in. `clings`: the guest
    does not let go of it. `stuck`: QEMU holds the guest, for there was no room. `was_away`: the
    connections that there were then have not heard everything.
    """

    __test__ = False
    deaf = False
    clings = False
    sleeps = False
    panicked = False
    stuck = False
    was_away = False
    pressed = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.plugged: list[str] = []
        self.sizes: dict[str, int] = {}  # GiB of disks that have grown, by device

    def networks(self) -> list[str]:
        names: list[str] = self._connect().listNetworks()
        return names

    def domains(self) -> dict[str, Domain]:
        found = super().domains()
        return {
            id_: replace(each, asleep=self.sleeps, panicked=self.panicked, stuck=self.stuck)
            for id_, each in found.items()
        }

    def is_stuck(self, machine: str) -> bool:
        return self.stuck or super().is_stuck(machine)

    def has_panicked(self, machine: str) -> bool:
        return self.panicked or super().has_panicked(machine)

    def reset(self, machine: str) -> None:
        if self.panicked:
            self.panicked = False
        else:
            super().reset(machine)

    def is_asleep(self, machine: str) -> bool:
        return self.sleeps or super().is_asleep(machine)

    def resume(self, machine: str) -> None:
        self.sleeps = self.stuck = False
        super().resume(machine)

    def attach(self, machine: str, xml: str, is_it: Callable[[Element], bool]) -> None:
        if not self.has(machine, is_it):
            self.plugged.append(xml)

    def detach(self, machine: str, xml: str, is_it: Callable[[Element], bool]) -> None:
        assert self.is_running(machine)
        assert is_it(fromstring(xml))  # noqa: S314 (our own)
        if self.clings:
            raise ConflictError("has been asked to let go")
        self.plugged = [each for each in self.plugged if not is_it(fromstring(each))]  # noqa: S314

    def has(self, machine: str, is_it: Callable[[Element], bool]) -> bool:
        assert self.is_running(machine)
        return any(is_it(fromstring(each)) for each in self.plugged)  # noqa: S314

    def grow(self, machine: str, disk: str, size: int) -> None:
        assert self.is_running(machine)
        self.sizes[disk] = size

    def shutdown(self, machine: str) -> None:
        self.end_at_poweroff(machine)
        self.pressed += 1
        if not self.deaf:
            self._connect().lookupByUUIDString(machine).shutdown()

    @contextmanager
    def power_button(self, machine: str) -> Iterator[PowerButton]:
        with super().power_button(machine) as button:
            yield Button(self, button)

    def restore(self, xml: str, file: Path) -> None:  # noqa: ARG002
        try:
            self._connect().restore(str(file))
        except libvirt.libvirtError as error:
            raise WnodesError(f"libvirt can't restore the VM: {error}") from error


class Site:
    """A node that obeys a bridge's orders, and the lease jobs that bear them."""

    def __init__(self, node: Node) -> None:
        keys = node.folder / "bridge.pem"
        keys.write_text(public(BRIDGE))
        api = node.config.api.model_copy(update={"order_keys": (str(keys),)})
        lan = Offer(name="lan", bridge="br0", subnet=IPv4Network("10.0.0.0/24"), gateway=ROUTER)
        cloud = node.config.cloud.model_copy(
            update={"network": (lan,), "accounts": (NOBODY.pw_name, "daemon")}
        )
        node.config = node.config.model_copy(update={"api": api, "cloud": cloud})
        self.libvirt = TestDriver(
            "test:///default", "box", "hv1", node.config.network, node.folder / "state" / "machines"
        )
        node.hypervisor = self.libvirt
        node.vms = replace(node.vms, config=node.config, hypervisor=self.libvirt)
        self.node = node
        shutil.copy(node.image.disk.source, node.cache.path(node.image.disk))  # fetched before
        self.bait = node.bait()

    @property
    def cloud(self) -> CloudController:
        return self.bait.cloud

    def restarted(self) -> Bait:
        """The bait is killed where it stands; what comes then is a new one."""
        self.node.drop_tasks()
        self.bait = self.node.bait()
        return self.bait

    def lease(self, order: Order, job: str = "7", **allocation: object) -> Iterator[dict[str, Any]]:
        """What the program of a lease job hears, which waits, and then gets this order."""
        values: dict[str, Any] = {"tag": ""} | allocation
        self.node.batch.grant(job, **values)
        told = self.ask(order, job)
        assert next(told) == {"state": "waiting"}
        self.give(order, job)
        return told

    def ask(
        self, order: Order, job: str = "7", uid: int = NOBODY.pw_uid
    ) -> Iterator[dict[str, Any]]:
        """What the process of a job hears that says that it is the order's lease."""
        return self.cloud.jobs.attend(str(order.lease), JobId(job), uid)

    def give(self, order: Order, job: str = "7") -> None:
        """Hand an order in for a job, and for this node unless it names another."""
        here = {"job": job, "node": order.node or "hv1"}
        self.cloud.jobs.hand_in(str(order.lease), token(order.model_copy(update=here)))

    def runs(self, order: Order | None = None, job: str = "7") -> Order:
        """A VM of that order runs."""
        order = order or an_order()
        next(self.lease(order, job))
        self.reaches(State.READY, str(order.machine))
        return order

    def row(self, machine: object = MACHINE) -> Row:
        row = self.node.ledger.get(str(machine))
        assert row
        return row

    def reaches(self, state: State | None, machine: object = MACHINE) -> Row | None:
        """Wait for a state, and that nobody works on the VM; None: for its row to be gone."""

        id_, tasks = str(machine), self.cloud.tasks
        deadline = time.monotonic() + 20
        with tasks.news:
            while True:
                row = self.node.ledger.get(id_)
                if (row.state if row else None) is state and id_ not in tasks.machines():
                    return row
                assert time.monotonic() < deadline, f"it is {row and row.state}, not {state}"
                tasks.news.wait(0.01)

    def outcome(self, order: Order) -> tuple[str | None, int | None]:
        """What ended the order's lease, and the exit code of its job."""
        lease = self.node.ledger.lease(str(order.lease))
        assert lease
        return lease.reason, lease.code

    def disk(self, machine: object = MACHINE) -> Path:
        return self.cloud.builder.paths(str(machine)).disk

    def domains(self) -> list[str]:
        return list(self.libvirt.domains())


@pytest.fixture
def site(node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A node that obeys orders, and looks at a guest that shuts down often."""
    monkeypatch.setattr("bait.cloud.lifecycle._LOOK", 0.02)
    made = Site(node)
    yield made
    made.libvirt.on_stop(lambda _machine, _how: None)
    for name in made.libvirt.networks():
        if name.startswith("wnodes-"):
            made.libvirt._connect().networkLookupByName(name).destroy()


Step = Callable[[], None]


def interrupted(
    where: str, at_step: Callable[[Step], None], step: Callable[[str], None], starting: Step
) -> tuple[Callable[[str], None], Step]:
    """A builder's two calls to its bait, the one at the step `where` by way of `at_step`."""

    def told(what: str) -> None:
        if what == where:
            at_step(lambda: step(what))
        step(what)

    def begins() -> None:
        if where == "starting the domain":
            at_step(starting)
        starting()

    return told, begins


@dataclass(frozen=True)
class Interrupted(CloudBuilder):
    """A builder that calls `at_step` when it comes to the step `where`."""

    where: str = ""
    at_step: Callable[[Step], None] = lambda step: step()

    def build(self, machine: Plan, step: Callable[[str], None], starting: Step) -> None:
        super().build(machine, *interrupted(self.where, self.at_step, step, starting))


def interrupt(site: Site, where: str, at_step: Callable[[Step], None]) -> None:
    """Have this bait's cloud builder call `at_step` at a step of building."""
    site.cloud.lifecycle.builder = Interrupted(site.node.vms, where, at_step)


@pytest.fixture
def passed(tmp_path: Path) -> None:
    """Lets a program that runs as nobody through to what it is lent, as on a node."""
    for at in (tmp_path, *tmp_path.parents[:-1]):
        at.chmod(at.stat().st_mode | 0o711)
