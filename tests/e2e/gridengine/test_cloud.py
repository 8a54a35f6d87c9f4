"""A cloud user's machine in a lease that Grid Engine's own DRMAA library has submitted."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contrib.site.box.layout import NODES
from tests.chaos.site import Box
from tests.e2e import counted
from tests.e2e.box import USER, call, machines, wait_until
from tests.e2e.lrms.gridengine import listing
from tests.e2e.occi import Cloud, Key
from tests.e2e.orders import unwrapped


def test_from_the_request_to_the_end(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    assert machine.ssh("uname -r").strip() != os.uname().release
    (lease,) = listing()
    said = call("qstat", "-j", lease)
    for words in ("owner:                      cloudpilot", "account:                    cloud"):
        assert words in said
    assert "job_name:                   wnodes-lease-" in said
    machine.delete()
    wait_until(lambda: not machines() and not listing(), 40, "machine and lease are gone")


def test_stop_frees_the_lease_and_start_finds_the_disk(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("echo kept > /root/kept; sync")
    machine.act("stop", method="poweroff")
    machine.wait("inactive")
    wait_until(lambda: not listing(), 30, "its lease is freed")
    machine.act("start")
    machine.wait("active")
    assert machine.ssh("cat /root/kept") == "kept\n"


def test_a_worker_that_is_killed_loses_no_lease(alice: Cloud, key: Key, daemons: Box) -> None:
    machine = alice.machine(key=key).wait("active")
    before = machine.boot_id()
    assert daemons.workers()
    for pid in daemons.workers():
        os.kill(pid, signal.SIGKILL)
    # The bridge goes on asking, which a new session answers: neither is the lease gone, nor is
    # there a second one.
    wait_until(daemons.workers, 40, "a new session")
    assert len(listing()) == 1
    assert machine.boot_id() == before
    assert machine.state == "active"
    machine.delete()
    wait_until(lambda: not machines() and not listing(), 40, "machine and lease are gone")


def test_a_lease_that_is_deleted_shuts_its_machine_down(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key).wait("active")
    machine.ssh("true")
    (lease,) = listing()
    call("qdel", lease)
    machine.wait("inactive")
    wait_until(lambda: not listing(), 40, "the lease is over")


def test_a_stranger_looks_at_a_lease_for_its_users_data(alice: Cloud, key: Key) -> None:
    machine = alice.machine(key=key, data=b"#!/bin/sh\n: the-password-of-alice\n").wait("active")
    (lease,) = listing()
    seen = call("qstat", "-j", lease, user=USER).encode()
    assert b"WNODES_LEASE" in seen
    for secret in (b"the-password-of-alice", key.public.encode()):
        assert secret not in unwrapped(seen)
    machine.delete()
    wait_until(lambda: not machines() and not listing(), 40, "machine and lease are gone")


# A bait that is slow. Both begin with what the bridge says when it has missed that bait for long.

QUEUED = "waiting for the batch system"
_AWAY = 25.0  # seconds: more than the bridge's patience with a bait, or with a listing of leases


@contextmanager
def queues_closed(*names: str) -> Iterator[None]:
    """No lease begins on these while this lasts."""
    call("qmod", "-d", *names)
    try:
        yield
    finally:
        call("qmod", "-e", *names)


def test_a_queued_lease_outlives_the_silence_of_the_bait_that_submitted_it(
    alice: Cloud, key: Key, daemons: Box
) -> None:
    """And so does one that is submitted after that, whichever bait is asked first by then."""
    with queues_closed("*"):
        first = alice.machine(key=key)
        wait_until(lambda: first.message == QUEUED, 30, "it is queued")
        with daemons.frozen("bait-hv1"):
            end = time.monotonic() + _AWAY
            while time.monotonic() < end:
                assert (first.state, first.message) == ("inactive", QUEUED)
                time.sleep(1)
        second = alice.machine(key=key)
        wait_until(lambda: second.message == QUEUED, 30, "it is queued, too")
        end = time.monotonic() + 12
        while time.monotonic() < end:
            for each in (first, second):
                assert (each.state, each.message) == ("inactive", QUEUED)
            time.sleep(1)
        assert len(listing()) == 2
    for each in (first, second):
        each.wait("active")
    assert len(listing()) == 2
    for each in (first, second):
        each.delete()
    wait_until(lambda: not machines() and not listing(), 40, "machines and leases are gone")


def test_a_hung_library_ends_no_machine(alice: Cloud, key: Key, daemons: Box) -> None:
    """Of the bait that has submitted its lease, and has the machine."""
    with queues_closed("*@hv2"):
        machine = alice.machine(key=key).wait("active")
    boot, leases = machine.boot_id(), listing()
    with daemons.library_hung():
        end = time.monotonic() + _AWAY
        while time.monotonic() < end:
            assert (machine.state, machine.message) == ("active", "")
            time.sleep(1)
    assert machine.boot_id() == boot
    assert listing() == leases
    assert machine.state == "active"
    machine.delete()
    wait_until(lambda: not machines() and not listing(), 40, "machine and lease are gone")


def test_a_library_that_hangs_at_a_submission_makes_no_second_lease(
    alice: Cloud, key: Key, daemons: Box
) -> None:
    seen: set[int] = set()  # idle ones of earlier tests, which nobody asks, are among them

    def given_up() -> set[int]:
        seen.update(daemons.workers())
        return seen - set(daemons.workers())

    with daemons.library_hung():
        machine = alice.machine(key=key)
        wait_until(given_up, 60, "the one that was asked is given up")
    machine.wait("active")
    assert len(listing()) == 1
    machine.delete()
    wait_until(lambda: not machines() and not listing(), 40, "machine and lease are gone")


@pytest.fixture
def complexes(daemons: Box, tmp_path: Path) -> Iterator[None]:
    """Grid Engine counts Mbit/s of each host, and users have a network where that holds."""
    before, file = call("qconf", "-sc"), tmp_path / "complexes"

    def load(text: str) -> None:
        file.write_text(text)
        call("qconf", "-Mc", str(file))

    load(f"{before}\n{counted.CONSUMABLE} lanmb INT <= YES JOB 0 0\n")
    try:
        for node in NODES:
            own = f"{counted.CONSUMABLE}={counted.HAS}"
            call("qconf", "-aattr", "exechost", "complex_values", own, node)
        with counted.offered(daemons):
            yield
    finally:
        for node in NODES:
            own = counted.CONSUMABLE
            call("qconf", "-dattr", "exechost", "complex_values", own, node, check=False)
        load(before)


@pytest.mark.usefixtures("complexes")
def test_grid_engine_counts_what_vms_may_send(alice: Cloud) -> None:
    assert counted.third_waits(alice) == {*NODES}
