"""A ledger that can't be written holds the bait up, and is said once."""

import contextlib
import logging
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from bait.hypervisor import logs
from bait.ledger.records import Row
from bait.ledger.store import Store
from bait.reconcile.loop import PeriodicLoop
from bait.reconcile.reconciler import EVERY
from tests.unit.conftest import Node, needs_root
from wnodes_lrms.model import State

pytestmark = needs_root


def test_what_is_old_is_forgotten_while_the_bait_runs(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loop = PeriodicLoop(node.bait().reconciler, lambda: None)
    monkeypatch.setattr(logs, "FOLDER", tmp_path)
    log_of_libvirt = tmp_path / "wnodes-box-7-0.log"
    log_of_libvirt.touch()
    os.utime(log_of_libvirt, (0, 0))
    node.ledger.record("7", "m", "long ago")
    with node.ledger.store.change() as db:
        db.execute("UPDATE event SET at = at - 91 * 86400")
    node.ledger.record("8", "m", "today")
    loop.run_once()
    assert [event.job for event in node.ledger.events("m")] == ["7", "8"]
    assert log_of_libvirt.exists()
    monkeypatch.setattr("bait.reconcile.loop._PRUNED", -1.0)
    loop.run_once()
    assert [event.job for event in node.ledger.events("m")] == ["8"]
    assert not log_of_libvirt.exists()


def test_a_process_that_is_stopped_is_a_reason_for_an_early_round(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bait.reconcile.loop._GLANCE", 0.01)
    node.batch.grant("7")
    bait = node.bait()
    node.ledger.promise(Row("m", "7", 0, State.REQUESTED, time.time()))
    loop, stop = PeriodicLoop(bait.reconciler, lambda: None), threading.Event()
    bait.reconciler.look()
    with subprocess.Popen(["sleep", "600"]) as process:
        bait.tasks.heard.note("7", process.pid)
        loop.wait(stop, 0.1)  # nothing happens, and it ends all the same
        asleep = threading.Thread(target=loop.wait, args=(stop, 600.0))
        asleep.start()
        process.send_signal(signal.SIGSTOP)
        asleep.join(10)
        assert not asleep.is_alive()
        process.kill()
    stop.set()
    loop.wait(stop, 600.0)


def test_a_full_disk_is_said_when_it_comes_and_when_it_goes(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "bait.reconcile.loop")

    def said() -> list[str]:
        return [record.message for record in caplog.records if record.name == "bait.reconcile.loop"]

    loop = PeriodicLoop(node.bait().reconciler, lambda: None)
    good, closed = node.ledger.store, Store(tmp_path / "closed.sqlite")
    closed.close()
    assert loop.run_once() == EVERY
    assert not said()
    monkeypatch.setattr(node.ledger, "store", closed)
    assert [loop.run_once() for _ in range(3)] == [EVERY] * 3
    [fault] = said()
    assert fault.startswith("nothing can be written down, so nothing is done: ")
    monkeypatch.setattr(node.ledger, "store", good)
    for _ in range(2):
        loop.run_once()
    assert said() == [fault, "the rounds go on"]


def test_no_lack_of_descriptors_ends_it(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """As when others have taken all: what is to be done waits."""
    loop = PeriodicLoop(node.bait().reconciler, lambda: None)
    assert loop.run_once() == EVERY
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 50  # noqa: PTH208
    with contextlib.ExitStack() as taken:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, limits[1]))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.enter_context(Path("/dev/null").open())
            assert [loop.run_once() for _ in range(2)] == [EVERY] * 2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert loop.run_once() == EVERY
    said = [record.message for record in caplog.records if record.name == "bait.reconcile.loop"]
    assert len(said) == 1
    assert "Too many open files" in said[0]
