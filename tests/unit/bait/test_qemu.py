"""qemu.py: the processes of machines, by their command lines; and that only those are touched."""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from bait import qemu
from bait.qemu import Processes
from tests.unit.bait.processes import QEMU, Process, end, guest, lives, started

Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Process] = []

    def one(name: str, *options: str) -> Process:
        running.append(started(name, *options))
        return running[-1]

    yield one
    for process in running:
        end(process)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "machines"


@pytest.fixture
def processes(folder: Path) -> Processes:
    return Processes(folder)


@pytest.fixture
def machine() -> str:
    return str(uuid.uuid4())


def test_a_machines_process(start: Start, processes: Processes, folder: Path, machine: str) -> None:
    assert processes.of(machine) is None
    assert processes.running() == frozenset()
    process = start(QEMU, *guest(machine, folder))
    assert processes.of(machine) == process.pid
    assert processes.running() == {machine}


def test_each_machine_has_its_own(start: Start, processes: Processes, folder: Path) -> None:
    machines = [str(uuid.uuid4()) for _ in range(3)]
    pids = [start(QEMU, *guest(machine, folder)).pid for machine in machines]
    assert [processes.of(machine) for machine in machines] == pids
    assert processes.running() == set(machines)


ELSEWHERE = Path("/nowhere/machines")


@pytest.mark.parametrize("name", ["tail", QEMU])
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-uuid", "{id}"),  # with no file of ours
        ("-blockdev", "{folder}/{id}/disk.qcow2"),  # with no id
        ("-uuid", "another", "-blockdev", "{folder}/{id}/disk.qcow2"),
        ("-uuid", "{id}", "-blockdev", "{folder}/another/disk.qcow2"),
        ("-uuid", "{id}", "-blockdev", "/nowhere/machines/{id}/disk.qcow2"),  # of another site
        ("-uuid", "{id}", "-blockdev", "{folder}/{id}.old/disk.qcow2"),
        ("-uuid={id}", "-blockdev", "{folder}/{id}/disk.qcow2"),  # not as libvirt writes it
        ("-uuid", "{id}x", "-blockdev", "{folder}/{id}/disk.qcow2"),
    ],
)
def test_what_is_no_process_of_the_machine(
    start: Start,
    processes: Processes,
    folder: Path,
    machine: str,
    name: str,
    options: tuple[str, ...],
) -> None:
    process = start(name, *(option.format(id=machine, folder=folder) for option in options))
    assert processes.of(machine) is None
    assert machine not in processes.running()
    assert processes.kill(machine)
    assert lives(process)


def test_one_who_speaks_of_qemu_is_none(
    start: Start, processes: Processes, folder: Path, machine: str
) -> None:
    process = start("/usr/bin/grep", QEMU, *guest(machine, folder))
    assert processes.of(machine) is None
    assert processes.kill(machine)
    assert lives(process)


def test_it_is_killed_and_no_other_one(
    start: Start, processes: Processes, folder: Path, machine: str
) -> None:
    process = start(QEMU, *guest(machine, folder))
    others = [
        start(QEMU, *guest(str(uuid.uuid4()), folder)),
        start(QEMU, *guest(machine, ELSEWHERE)),  # the same id: another site has such a job, too
        start("tail", *guest(machine, folder)),
    ]
    assert processes.kill(machine)
    assert process.wait() == -signal.SIGKILL
    assert processes.kill(machine)  # once more: success
    assert all(lives(other) for other in others)


def test_what_serves_its_shared_folders_is_ended_and_no_other(
    start: Start, processes: Processes, folder: Path, machine: str
) -> None:
    def server(*of: object) -> Process:
        return start("/".join(map(str, (*of, "virtiofsd"))), "--fd=44", "-o", "source=/home")

    mine = [server(folder, machine), server(folder, machine)]
    others = [
        server(folder, uuid.uuid4()),
        server(ELSEWHERE, machine),
        start("tail", f"{folder}/{machine}/virtiofsd"),
    ]
    processes.kill_helpers(machine)
    assert [process.wait() for process in mine] == [-signal.SIGKILL] * 2
    processes.kill_helpers(machine)  # once more: nothing to do
    assert all(lives(other) for other in others)


def test_one_that_is_dead_and_not_reaped_has_no_process(
    start: Start, processes: Processes, folder: Path, machine: str
) -> None:
    process = start(QEMU, *guest(machine, folder))
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path("/proc", str(process.pid)).exists()
    assert processes.of(machine) is None
    assert processes.running() == frozenset()
    assert processes.wait_for_end(machine, 0)


def test_one_that_does_not_die_is_said(
    start: Start,
    processes: Processes,
    folder: Path,
    machine: str,
    mocker: MockerFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one in the middle of a disk's input or output."""
    monkeypatch.setattr(qemu, "_LETTING_GO", 0.1)
    process = start(QEMU, *guest(machine, folder))
    sent = mocker.patch("signal.pidfd_send_signal")
    assert not processes.kill(machine)
    assert sent.call_count == 1
    assert not processes.wait_for_end(machine, 0)
    assert lives(process)


def test_its_number_may_be_another_processs_by_then(
    start: Start, processes: Processes, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between the two looks, and its number is given to somebody else."""
    innocent = start("tail")
    answers: list[int | None] = [innocent.pid]
    look = processes.of
    monkeypatch.setattr(processes, "of", lambda id_: answers.pop() if answers else look(id_))
    assert processes.kill(machine)
    assert lives(innocent)


def test_one_that_ends_as_it_is_killed_is_gone(
    start: Start, processes: Processes, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("tail")
    process.kill()
    process.wait()
    monkeypatch.setattr(processes, "of", lambda _machine: process.pid)
    assert processes.kill(machine)


def test_odd_things_in_proc(tmp_path: Path, folder: Path, machine: str) -> None:
    proc = tmp_path / "proc"

    def has(name: str, *words: bytes) -> None:
        (proc / name).mkdir(parents=True)
        (proc / name / "cmdline").write_bytes(b"".join(word + b"\0" for word in words))

    options = [option.encode() for option in guest(machine, folder)]
    has("self", QEMU.encode(), *options)
    has("1")  # a thread of the kernel
    has("2", b"\xff\xfe", *options)
    (proc / "3").mkdir()  # gone since it was listed
    has("4", QEMU.encode(), b"-uuid")
    has("5", b"", *options)
    processes = Processes(folder, proc)
    assert processes.of(machine) is None
    assert processes.running() == frozenset()
    has("12", QEMU.encode(), b"\xff", *options)
    assert processes.of(machine) == 12
    assert processes.running() == {machine}
