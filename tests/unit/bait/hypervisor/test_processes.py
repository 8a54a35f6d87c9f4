"""The processes of VMs, by user, program and words; only those are touched."""

import os
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from bait.hypervisor import processes as qemu
from bait.hypervisor.processes import Processes, is_qemu
from tests.unit.bait.processes import QEMU, Process, end, guest, lives, program, started
from tests.unit.conftest import NOBODY, needs_root

pytestmark = needs_root

Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Process] = []

    def one(name: str, *options: str, **more: Any) -> Process:
        running.append(started(name, *options, **more))
        return running[-1]

    yield one
    for process in running:
        end(process)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "machines"


@pytest.fixture
def processes(folder: Path) -> Processes:
    return Processes(folder, lambda: {0})


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


@pytest.mark.parametrize("runs", [program("qemu-system-x86_64"), Path("/bin/sh")])
@pytest.mark.parametrize(
    "before",
    [
        "",
        'printf "qemu-system-x86" >/proc/$$/comm',
        "exec 3</proc/self/mem",
    ],
)
def test_a_users_process_is_no_machine_whatever_it_runs_and_says(
    start: Start, processes: Processes, folder: Path, machine: str, runs: Path, before: str
) -> None:
    process = start(QEMU, *guest(machine, folder), runs=runs, uid=NOBODY.pw_uid, before=before)
    assert processes.of(machine) is None
    assert processes.running() == frozenset()
    assert processes.wait_for_end(machine, 0)
    assert processes.kill(machine)
    assert lives(process)


def test_a_users_process_that_runs_with_roots_rights_is_no_machine(
    processes: Processes, folder: Path, machine: str
) -> None:
    """As one of a program with the set-user-ID bit, whose words are the user's."""
    path = program("qemu-system-x86")
    shutil.copyfile("/usr/bin/python3", path)
    path.chmod(0o4755)
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [QEMU, "-I", "-c", code, *guest(machine, folder)],
        executable=path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=NOBODY.pw_uid,
        cwd="/",
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert Path("/proc", str(process.pid)).stat().st_uid == 0
        assert processes.of(machine) is None
        assert processes.running() == frozenset()


@pytest.mark.parametrize(
    ("uids", "program", "is_one"),
    [
        ({0}, "qemu-system-x86_64", True),
        ({64055}, "qemu-system-aarch64", True),
        ({64055}, "qemu-system-x86_64 (deleted)", True),  # by an upgrade
        ({64055}, "qemu-system-x86_64.dpkg-tmp (deleted)", True),
        ({107}, "qemu-kvm", False),  # not whom libvirt says
        ({64055}, "qemu-kvm", True),
        ({64055}, "qemu-kvm;5f3a1b2c (deleted)", True),
        ({0}, "kvm", True),
        ({0}, "", True),  # not to be seen, and who else could be root
        ({1000}, "qemu-system-x86_64", False),
        ({1000, 0}, "qemu-system-x86_64", False),  # a user's, with the set-user-ID bit
        ({64055, 0}, "qemu-system-x86_64", False),
        (set(), "qemu-system-x86_64", False),  # gone
        ({0}, "grep", False),
        ({0}, "qemu-img", False),
        ({0}, "virtiofsd", False),
        ({0}, "my-qemu-system-x86_64", False),
    ],
)
def test_what_is_a_qemu(uids: set[int], program: str, is_one: bool) -> None:
    assert is_qemu(qemu.Process(frozenset(uids), program), {0, 64055}) is is_one


def test_one_whose_program_was_replaced_is_still_the_machines(
    start: Start, processes: Processes, folder: Path, machine: str, tmp_path: Path
) -> None:
    old = tmp_path / "qemu-system-x86_64"
    shutil.copyfile("/bin/sh", old)
    old.chmod(0o755)
    process = start(QEMU, *guest(machine, folder), runs=old)
    old.unlink()
    assert processes.of(machine) == process.pid


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
        (proc / name / "exe").symlink_to(QEMU)
        (proc / name / "status").write_text("Name:\tUid: 7\\nUid: 8\nUid:\t0\t0\t0\t0\nGid:\t1\n")
        (proc / name / "cmdline").write_bytes(b"".join(word + b"\0" for word in words))

    options = [option.encode() for option in guest(machine, folder)]
    has("self", QEMU.encode(), *options)
    has("1")  # a thread of the kernel
    has("2", b"\xff\xfe", *options)
    (proc / "2" / "exe").unlink()
    (proc / "2" / "exe").symlink_to("/usr/bin/tail")
    (proc / "3").mkdir()  # gone since it was listed
    has("4", QEMU.encode(), b"-uuid")
    has("5", QEMU.encode(), *options)
    (proc / "5" / "status").write_text("Name:\tqemu\nUid:\t1000\t0\t0\t0\n")
    has("6", QEMU.encode(), *options)
    (proc / "6" / "status").write_text("")
    has("7", QEMU.encode(), *options)
    (proc / "7" / "status").unlink()
    processes = Processes(folder, lambda: {0}, proc)
    assert processes.of(machine) is None
    assert processes.running() == frozenset()
    has("12", QEMU.encode(), b"\xff", *options)
    assert processes.of(machine) == 12
    assert processes.running() == {machine}


def test_nothing_costly_is_read_of_processes_that_are_no_qemu(
    tmp_path: Path, folder: Path, machine: str
) -> None:
    """A node may have thousands, most of them threads of the kernel, which run no program. What the
    kernel writes out for each reader is not read: here whoever reads it would wait for ever."""
    for name in ("7", "8"):
        other = tmp_path / "proc" / name
        other.mkdir(parents=True)
        os.mkfifo(other / "status")
        os.mkfifo(other / "cmdline")
    (other / "exe").symlink_to("/usr/bin/bash")
    processes = Processes(folder, lambda: {0}, tmp_path / "proc")

    found: list[frozenset[str]] = []

    def look() -> None:
        processes.kill_helpers(machine)
        found.append(processes.running())

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(30)
    assert found == [frozenset()]
