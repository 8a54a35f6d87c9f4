"""What the meter writes into the journal of usage: disks' sizes and cards' traffic."""

import subprocess
from pathlib import Path

import pytest

from bait.hypervisor.domains import Hypervisor
from bait.ledger.ledger import Ledger
from bait.machine.files import paths
from bait.reconcile.metering import Meter
from tests.unit.bait.reconcile.ledgerrows import BATCH, job
from wnodes_lrms.config.load import Config
from wnodes_lrms.errors import UnknownError
from wnodes_lrms.model import State

pytestmark = pytest.mark.integration  # qemu-img
LIFE = (State.BUILDING, State.STARTING, State.BOOTING, State.READY)


class Libvirt(Hypervisor):
    """In the place of libvirt, whose test driver counts no traffic."""

    def __init__(self) -> None:
        self.carried: dict[str, dict[str, tuple[int, int]]] | None = {}

    def traffic(self) -> dict[str, dict[str, tuple[int, int]]]:
        if self.carried is None:
            raise UnknownError("libvirt does not answer")
        return self.carried


class Metered:
    """A job's VM that runs, with its disk, and the meter."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.ledger = ledger
        config = Config(cluster="box", lrms="slurm")
        bait = config.bait.model_copy(update={"state_dir": str(folder)})
        self.config = config.model_copy(update={"bait": bait})
        self.disk = paths(self.config, BATCH).disk
        self.disk.parent.mkdir(parents=True)
        self.libvirt = Libvirt()
        self.meter = Meter(self.config, ledger, self.libvirt)
        job(ledger, *LIFE)

    def has_disk(self, size: str) -> None:
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(self.disk), size]
        subprocess.run(argv, check=True)

    def counts(self) -> tuple[int, int, int]:
        (usage,) = self.ledger.usages()
        return usage.disk, usage.inbound, usage.outbound


@pytest.fixture
def metered(tmp_path: Path, ledger: Ledger) -> Metered:
    return Metered(tmp_path, ledger)


@pytest.mark.parametrize(("size", "gib"), [("3G", 3), ("3073M", 4), ("1M", 1)])
def test_a_begun_gib_of_a_disk_counts(metered: Metered, size: str, gib: int) -> None:
    metered.has_disk(size)
    metered.libvirt.carried = {BATCH: {"wg1": (100, 10)}}
    metered.meter.tick([BATCH])
    assert metered.counts() == (gib, 100, 10)


def test_a_disk_is_asked_for_its_size_once_while_its_vm_runs(metered: Metered) -> None:
    metered.has_disk("3G")
    metered.meter.tick([BATCH])
    metered.disk.unlink()
    metered.meter.tick([BATCH])
    assert metered.counts()[0] == 3
    metered.has_disk("5G")
    metered.meter.tick(["another"])  # it has stopped meanwhile
    metered.meter.tick([BATCH])
    assert metered.counts()[0] == 5


def test_a_size_that_is_not_known_is_asked_for_again(metered: Metered) -> None:
    metered.meter.tick([BATCH])
    assert metered.counts() == (0, 0, 0)
    metered.has_disk("2G")
    metered.meter.tick([BATCH])
    assert metered.counts()[0] == 2


def test_no_program_looks_into_a_disk_that_a_guest_has(
    metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is out in QEMU may have written its header, which can name other files."""
    metered.has_disk("2G")
    monkeypatch.setenv("PATH", "")
    metered.meter.tick([BATCH])
    assert metered.counts()[0] == 2


def test_what_a_silent_libvirt_did_not_tell_is_caught_up(metered: Metered) -> None:
    metered.has_disk("1G")
    metered.libvirt.carried = None
    metered.meter.tick([BATCH])
    assert metered.counts() == (0, 0, 0)
    metered.libvirt.carried = {BATCH: {"wg1": (70, 7)}}
    metered.meter.tick([BATCH])
    assert metered.counts() == (1, 70, 7)


def test_where_nothing_runs_nobody_is_asked(metered: Metered) -> None:
    metered.libvirt.carried = None
    metered.meter.tick([])
    assert metered.counts() == (0, 0, 0)
