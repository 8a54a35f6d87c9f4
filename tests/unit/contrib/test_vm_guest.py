"""contrib/site/vm: a QEMU is told to save its state and goes on from there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contrib.site.box.errors import SiteError
from contrib.site.box.layout import Memory
from contrib.site.box.process import Processes, run, wait_until
from contrib.site.vm import monitor

pytestmark = pytest.mark.integration
LONG = 120  # seconds


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Path]:
    """The monitor's socket of a QEMU that runs nothing, with a disk to save in."""
    run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "disk"), "1M"])
    processes = Processes(Memory(tmp_path / "state.json"), tmp_path)
    path = tmp_path / "monitor"
    drive = ["-drive", f"file={tmp_path}/disk,if=virtio"]
    options = ["-S", "-m", "16", "-display", "none", "-accel", "tcg", *drive]
    command = ["qemu-system-x86_64", *options, "-qmp", f"unix:{path},server=on,wait=off"]
    processes.start("qemu", command, {})
    try:
        assert wait_until(path.exists, LONG), processes.log("qemu").read_text()
        yield path
    finally:
        processes.stop("qemu")


def test_a_state_is_saved_and_taken_up_again(started: Path) -> None:
    for line in ("savevm saved", "loadvm saved", "delvm saved"):
        monitor.tell(started, line, LONG)
    with pytest.raises(SiteError, match="«loadvm saved»"):
        monitor.tell(started, "loadvm saved", LONG)


def test_who_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="QEMU does not do «savevm saved»"):
        monitor.tell(tmp_path / "monitor", "savevm saved", LONG)
